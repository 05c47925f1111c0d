"""Programs compiled and read: seconds, memory, operations, bytes, and what stands out."""

import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from seedmap.experiments.plan.hlo import ProgramText, parse_program
from seedmap.experiments.plan.operations import Operations, count_operations
from seedmap.experiments.plan.programs import Program
from seedmap.experiments.plan.results import CompileSeconds, Determinism, Memory
from seedmap.trainer.group_size import out_of_memory

DETERMINISTIC = {
    "xla_gpu_deterministic_ops": True,
    "xla_gpu_exclude_nondeterministic_ops": True,
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class DoesNotFitError(Exception):
    """The compiler finds that a program needs more memory than the chip has.

    Attributes:
        bytes: that it needs; None where it does not say.
    """

    def __init__(self, needed: int | None):
        super().__init__(f"needs {needed} bytes")
        self.bytes = needed


@dataclass(frozen=True)
class Compiled:
    """A compiled program.

    Attributes:
        program: which.
        seconds: that its compiler took.
        operations: of a call.
        text: of the result.
        stats: of its memory, as the compiler gives them.
    """

    program: Program
    seconds: CompileSeconds
    operations: Operations
    text: ProgramText
    stats: Any

    def memory(self, seeds: int, other_groups: int = 0) -> Memory:
        """Returns the memory of a device by kind, in bytes.

        Args:
            seeds: side by side on it.
            other_groups: bytes of the states of those that wait.
        """
        stats, data = self.stats, self.program.data
        state = stats.argument_size_in_bytes - data
        outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
        temporaries, code = stats.temp_size_in_bytes, stats.generated_code_size_in_bytes
        total = state + data + outputs + temporaries + code + other_groups
        return Memory(seeds, state, data, outputs, temporaries, code, other_groups, total)


def compile_program(
    program: Program, platform: str, options: Mapping[str, bool] | None = None
) -> Compiled:
    """Compiles a program for the devices of its arguments.

    Args:
        program: which.
        platform: as JAX's lowering names it.
        options: of XLA's compiler.

    Raises:
        DoesNotFitError: the compiler says that it needs more memory than there is.
        jax.errors.JaxRuntimeError: it refuses for another reason.
    """
    traced = program.trace()
    with program.setting():
        lowered = traced.lower()
        wall, processor = time.perf_counter(), processor_seconds()
        try:
            compiled = lowered.compile(compiler_options=dict(options or {}))
        except jax.errors.JaxRuntimeError as error:
            if not out_of_memory(error):
                raise
            raise DoesNotFitError(_needed(str(error))) from None
        seconds = CompileSeconds(processor_seconds() - processor, time.perf_counter() - wall)
    return Compiled(
        program,
        seconds,
        count_operations(traced.jaxpr, platform),
        parse_program(compiled.as_text()),
        compiled.memory_analysis(),
    )


def processor_seconds() -> float:
    """Returns the processor seconds of this process and of its children: GPUs' assembler is one."""
    return sum(os.times()[:4])


def _needed(words: str) -> int | None:
    """Bytes that a program needs: `Used 20.05G of 15.75G hbm`, `required for ... (18.49G)`."""
    match = re.search(r"(?:Used |required for [\w ]+\()([\d.]+)([KMGT]?)", words)
    return int(float(match[1]) * _UNITS[match[2]]) if match else None


def determinism_of(plain: Compiled, platform: str) -> Determinism:
    """Compiles a program of a GPU anew with deterministic operations alone.

    Args:
        plain: compiled without.
        platform: as JAX's lowering names it.
    """
    name = plain.program.name
    before = plain.text.opcodes() + plain.text.custom_calls()
    try:
        strict = compile_program(plain.program, platform, DETERMINISTIC)
    except jax.errors.JaxRuntimeError as error:
        words = " ".join(str(error).split())[:500]
        cost, seconds = [plain.text.cost.bytes], [plain.seconds.processor]
        return Determinism(name, words, {}, cost, seconds, plain.operations.total)
    return Determinism(
        program=name,
        refused=None,
        changed=_changed(before, strict.text.opcodes() + strict.text.custom_calls()),
        bytes=[plain.text.cost.bytes, strict.text.cost.bytes],
        compile_seconds=[plain.seconds.processor, strict.seconds.processor],
        operations=plain.operations.total,
    )


def _changed(before: Counter[str], after: Counter[str]) -> dict[str, list[int]]:
    names = sorted({*before, *after})
    pairs = {name: [before[name], after[name]] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
