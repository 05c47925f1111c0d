"""XLA's text of a compiled program: its loops, its bytes, and what stands out in it.

The text is that of `jax.stages.Compiled.as_text()`, the same for CPUs, GPUs and TPUs.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}
_LEAF = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,<=]*)\](\{[^{}]*\})?")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_CALLED = re.compile(
    r"\b(calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast after-all iota partition-id replica-id "
    "copy-done async-done async-update opt-barrier".split()
)
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
_CALLBACKS = ("callback", "SendToHost", "RecvFromHost")


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: of its result.
        shape: of its result, as text.
        opcode: what it does.
        operands: names.
        rest: what follows the operands.
        value: between the parentheses, as text.
        is_root: whether its result is the computation's.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    value: str
    is_root: bool

    def called(self, *kinds: str) -> list[str]:
        """Returns the computations that it calls as one of these."""
        return [name for kind, name in _CALLED.findall(self.rest) if kind in kinds]


@dataclass(frozen=True)
class Cost:
    """Bytes between memory and chip.

    Attributes:
        bytes: read and written.
        whole: False where a loop's turns are not known; they count once.
    """

    bytes: float = 0.0
    whole: bool = True

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.bytes + other.bytes, self.whole and other.whole)


@dataclass(frozen=True)
class ProgramText:
    """A compiled program.

    Attributes:
        computations: name to the instructions by name, in order.
        entry: name of the first computation.
    """

    computations: Mapping[str, Mapping[str, Instruction]]
    entry: str

    @cached_property
    def cost(self) -> Cost:
        """Bytes that the program's kernels read and write, loops times their turns.

        A kernel (a fusion) reads its operands and writes its result once; what a TPU keeps in its
        vector memory is not counted, and of an array of which rows are taken only these are.
        """
        return self._of_computation(self.entry, {})

    def turn_of_loop(self, turns: int) -> float:
        """Returns the bytes of a turn of the heaviest loop of so many turns; 0: there is none."""
        bodies = [
            each.called("body")[0]
            for own in self.computations.values()
            for each in own.values()
            if each.opcode == "while" and self._turns(each, own) == turns
        ]
        return max((self._of_computation(name, {}).bytes for name in bodies), default=0.0)

    def collectives(self) -> Counter[str]:
        """Counts operations in which devices talk to each other."""
        names = (each.opcode.removesuffix("-start") for each in self._all())
        return Counter(name for name in names if name in _COLLECTIVES)

    def custom_calls(self) -> Counter[str]:
        """Counts calls of what is no operation of XLA's, callbacks to the host left out."""
        return Counter(name for name in self._targets() if not _is_callback(name))

    def callbacks(self) -> Counter[str]:
        """Counts what goes to the host and back while the program runs."""
        counts = Counter(name for name in self._targets() if _is_callback(name))
        host = (each.opcode for each in self._all() if each.opcode in ("infeed", "outfeed"))
        return counts + Counter(host)

    def opcodes(self) -> Counter[str]:
        """Counts operations, those within kernels too, as they stand in the text."""
        return Counter(each.opcode for each in self._all() if each.opcode not in _FREE)

    def wide(self) -> int:
        """Counts operations on 64-bit floats."""
        return sum("f64[" in each.shape or "c128[" in each.shape for each in self._all())

    def _all(self):
        return (each for own in self.computations.values() for each in own.values())

    def _targets(self) -> list[str]:
        calls = (each for each in self._all() if each.opcode.startswith("custom-call"))
        return [match[1] for each in calls if (match := _TARGET.search(each.rest))]

    def _of_computation(self, name: str, known: dict[str, Cost]) -> Cost:
        if name not in known:
            own = self.computations.get(name, {})
            costs = (self._of_instruction(each, own, known) for each in own.values())
            known[name] = sum(costs, Cost())
        return known[name]

    def _of_instruction(self, each: Instruction, own, known: dict[str, Cost]) -> Cost:
        opcode = each.opcode
        if opcode in _FREE:
            return Cost()
        if opcode == "while":
            turns = self._turns(each, own)
            body = self._of_computation(each.called("body")[0], known)
            return Cost(body.bytes * (turns or 1), body.whole and turns is not None)
        if opcode in ("call", "async-start"):
            called = each.called("to_apply", "calls")
            return sum((self._of_computation(name, known) for name in called), Cost())
        if opcode == "conditional":
            names = each.called("true_computation", "false_computation")
            for listed in _BRANCHES.findall(each.rest):
                names += [name.strip(" %") for name in listed.split(",")]
            branches = [self._of_computation(name, known) for name in names]
            return max(branches, key=lambda cost: cost.bytes, default=Cost())
        if opcode == "fusion":
            return Cost(self._of_fusion(each, own))
        return Cost(_moved(each, [own[name].shape for name in each.operands if name in own]))

    def _of_fusion(self, fusion: Instruction, own) -> float:
        """Result and operands; of those that only rows are taken of, the rows."""
        inside = self.computations.get((fusion.called("calls") or [""])[0], {})
        numbered = {int(each.value): each for each in inside.values() if each.opcode == "parameter"}
        total = 0.0
        for number, name in enumerate(fusion.operands):
            if name in own and bytes_of(own[name].shape):
                size = bytes_of(own[name].shape)
                total += self._read(numbered.get(number), inside, size)
        roots = [each for each in inside.values() if each.is_root]
        updates = [each for each in inside.values() if each.opcode == "dynamic-update-slice"]
        if roots and updates and bytes_of(fusion.shape):
            return total + sum(_update(each, inside) for each in updates)
        return total + bytes_of(fusion.shape)

    def _read(self, parameter: Instruction | None, inside, size: float) -> float:
        """Bytes that a kernel reads of one operand."""
        if parameter is None:
            return size
        users = [each for each in inside.values() if parameter.name in each.operands]
        read = 0.0
        for user in users:
            first = user.operands[0] == parameter.name
            if first and user.opcode in ("dynamic-slice", "gather", "slice"):
                read += _size(user.shape)
            elif not (first and user.opcode == "dynamic-update-slice"):
                return size
        return min(read, size)

    def _turns(self, loop: Instruction, own) -> int | None:
        """How often a loop runs, where the program says so; counters begin at 0."""
        if match := _TURNS.search(loop.rest):
            return int(match[1])
        condition = self.computations.get((loop.called("condition") or [""])[0], {})
        root = next((each for each in condition.values() if each.is_root), None)
        if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
            return None
        bound = condition.get(root.operands[1])
        if bound is not None and bound.opcode == "get-tuple-element":
            # It is the same in all turns: an entry of the tuple that the loop begins with.
            given = own.get(loop.operands[0])
            index = re.search(r"index=(\d+)", bound.rest)
            known = given is not None and index is not None
            bound = own.get(given.operands[int(index[1])]) if known else None
        while bound is not None and bound.opcode == "copy":
            bound = own.get(bound.operands[0])
        constant = bound is not None and bound.opcode == "constant"
        return int(bound.value) if constant and bound.value.isdigit() else None


def _is_callback(target: str) -> bool:
    return any(word in target for word in _CALLBACKS)


def _moved(each: Instruction, operands: list[str]) -> float:
    """Bytes that an operation outside of a kernel reads and writes."""
    if each.opcode in ("dynamic-slice", "gather", "slice"):
        return 2 * bytes_of(each.shape)
    if each.opcode == "dynamic-update-slice":
        return 2 * bytes_of(operands[1])
    if each.opcode == "copy-start":  # its result names source and destination both
        leaves = _LEAF.findall(each.shape)[:2]
        return sum(_leaf(*leaf) for leaf in leaves)
    return bytes_of(each.shape) + sum(map(bytes_of, operands))


def _update(update: Instruction, inside) -> float:
    value = inside.get(update.operands[1])
    return 0.0 if value is None else _size(value.shape)


def bytes_of(shape: str) -> float:
    """Returns the bytes of a shape, or of all in a tuple, that lie in the chip's main memory.

    A layout with `S(1)` and the like names another memory, on the chip or of the host.
    """
    return sum(_leaf(*leaf) for leaf in _LEAF.findall(shape))


def _size(shape: str) -> float:
    """Bytes wherever they lie."""
    return sum(_leaf(dtype, dims, "") for dtype, dims, _ in _LEAF.findall(shape))


def _leaf(dtype: str, dims: str, layout: str) -> float:
    if re.search(r"S\([1-9]\d*\)", layout):
        return 0.0
    digits = re.search(r"\d+", dtype)
    bits = _BITS[dtype] if dtype in _BITS else int(digits[0]) if digits else 0
    return math.prod(int(size.strip("<=")) for size in dims.split(",") if size) * bits / 8


def parse_program(text: str) -> ProgramText:
    """Parses the text of a compiled program."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            instruction = _instruction(match[2], match[3], bool(match[1]))
            current[instruction.name] = instruction
    return ProgramText(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    """Parses `SHAPE opcode(operands), rest`."""
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    shape, text = text[:end], text[end:].lstrip()
    opening = text.index("(")
    closing = _closing(text, opening)
    inner = text[opening + 1 : closing - 1]
    operands = tuple(re.findall(r"%([\w.\-]+)", inner))
    return Instruction(name, shape, text[:opening], operands, text[closing:], inner, is_root)


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    return len(text)
