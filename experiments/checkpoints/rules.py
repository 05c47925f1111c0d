r"""Rules that say, by a tensor's name, what it counts as in the metrics.

A rule file (`seedmap import checkpoints --rules FILE`) is TOML. Its rules are tried in order; the
first whose regular expression is found anywhere in the name decides:

    [[rule]]
    name = 'norm|embed|lm_head|rotary|attn\.mask$'
    role = "ignore"

    [[rule]]                              # one matrix per head: [heads * width, in]
    name = 'attn\.[qkv]_proj\.weight$'
    role = "matrix"
    parts = ["heads", "width"]

    [[rule]]                              # queries, keys and values in one: [heads * 3 * width, in]
    name = 'attn\.qkv\.weight$'
    role = "matrix"
    parts = ["heads", 3, "width"]

    [[rule]]                              # heads on an axis of their own: [in, heads, width]
    name = 'attention\.query\.kernel$'
    role = "matrix"
    axis = 1
    parts = ["heads"]

    [[rule]]                              # a convolution: [out, in, height, width]
    name = 'conv\d+\.weight$'
    role = "kernels"

    [[rule]]                              # in flax: [height, width, in, out]
    name = 'Conv_\d+\.kernel$'
    role = "kernels"
    spatial = "first"

    [[rule]]
    name = '\.weight$'
    role = "matrix"
    ndim = 2                              # only tensors with two axes

    [[rule]]
    name = '\.bias$'
    role = "bias"

Parts before "width" may come in any order: the matrices are the same ones.
`heads` comes from the config.json next to the checkpoint or from --heads, `kv_heads` (of keys and
values that several heads share) from there or from the shapes; a number may be written instead.
Which way round a matrix is stored does not matter to any metric. Embeddings, layers that turn them
back to words, and normalisation are left out, as in Hu et al. 2023 (section 2.1).
"""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import Checkpoint
from seedmap.experiments.checkpoints.matching import first_found, first_found_in_time
from seedmap.hmm.readers.names import listed

_MOST_BYTES = 1 << 20  # of a rule file
_UNKNOWN = -1  # axes of a tensor that is not there
ROLES = ("matrix", "kernels", "bias", "ignore")
HEADS, KV_HEADS, WIDTH = "heads", "kv_heads", "width"


@dataclass(frozen=True)
class Rule:
    """Role of the tensors whose names match a pattern.

    Attributes:
        name: regular expression, searched in the tensor's name.
        role: "matrix", "kernels" (of a convolution), "bias" or "ignore", as `trainer.Role`.
        parts: of a matrix whose `axis` joins several: sizes of what is joined, the outermost
            first; "heads" is the number of attention heads, "kv_heads" that of keys and values,
            "width" what is left, the rows of each matrix. Without "width" every index of the axis
            is a matrix of its own.
        axis: which axis `parts` divide.
        spatial: where a kernel's height and width are: "last" (PyTorch) or "first" (flax).
        ndim: number of axes a tensor must have for the rule to apply; any if None.
    """

    name: str
    role: str
    parts: tuple[str | int, ...] = ()
    axis: int = 0
    spatial: str = "last"
    ndim: int | None = None


@dataclass(frozen=True)
class Layout:
    """Rules for a family of models.

    Attributes:
        name: for `--layout`.
        sign: regular expression of a tensor that only this family has.
        rules: in order; the first that covers a tensor decides.
        known: whether its regular expressions are known to be quick, as those of a file are not.
        longer: axis of the sign's tensor that is the longer one, where names do not tell families
            apart; None: any.
    """

    name: str
    sign: str
    rules: tuple[Rule, ...]
    known: bool = True
    longer: int | None = None

    def fits(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Tells whether a checkpoint has the family's sign."""
        return any(
            self.longer is None or (len(shape) == 2 and shape[self.longer] > shape[1 - self.longer])
            for name, shape in shapes.items()
            if re.search(self.sign, name)
        )


class Leaf(NamedTuple):
    """A tensor that counts.

    Attributes:
        name: in the checkpoint.
        rule: that covers it.
        parts: sizes of the rule's parts, "width" found from the shape.
    """

    name: str
    rule: Rule
    parts: tuple[int, ...]

    def matrices(self, array: np.ndarray) -> np.ndarray:
        """Shapes a tensor as its matrices, [matrix, row, column]."""
        if not self.parts:
            # An output projection [head, width, features] is one matrix of joined rows.
            return array.reshape(1, -1, array.shape[-1])
        array = np.moveaxis(array, self.rule.axis, 0)
        rest = array.shape[1:]
        array = array.reshape(self.parts + rest)
        if WIDTH not in self.rule.parts:
            return array.reshape(math.prod(self.parts), -1, rest[-1])
        width = self.rule.parts.index(WIDTH)
        array = np.moveaxis(array, width, len(self.parts) - 1)
        return array.reshape(-1, self.parts[width], math.prod(rest))

    def slices(self, array: np.ndarray) -> np.ndarray:
        """Shapes a tensor as the kernels of a convolution, [pair of channels, entry]."""
        if self.rule.spatial == "first":
            return array.reshape(math.prod(array.shape[:-2]), -1).T
        return array.reshape(array.shape[0] * array.shape[1], -1)


def read_rules(path: Path) -> Layout:
    """Reads a rule file (see the top of this module).

    Raises:
        UserError: with the number of the rule that cannot be understood.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"it has over {_MOST_BYTES} bytes")
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--rules: {path} cannot be read as TOML ({error})") from None
    rows = content.get("rule")
    if not isinstance(rows, list) or not rows or set(content) != {"rule"}:
        raise UserError(f"--rules: {path} holds {listed(content)}; expected [[rule]] tables")
    rules = [_parse_rule(row, f"--rules: {path}, rule {i}") for i, row in enumerate(rows, start=1)]
    return Layout(path.name, "", tuple(rules), known=False)


def _parse_rule(row: Any, where: str) -> Rule:
    known = {field.name for field in fields(Rule)}
    if not isinstance(row, Mapping) or not {"name", "role"} <= set(row) <= known:
        keys = (", ".join(row) if isinstance(row, Mapping) else repr(row))[:200]
        optional = ", ".join(sorted(known - {"name", "role"}))
        raise UserError(f"{where} has {keys}; expected name and role, and may have {optional}")
    try:
        re.compile(row["name"])
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{where}: name {str(row['name'])[:100]!r} is no regular expression ({error})"
        ) from None
    _check_choice(where, "role", row["role"], ROLES)
    _check_choice(where, "spatial", row.get("spatial", "last"), ("last", "first"))
    for key in ("axis", "ndim"):
        if not isinstance(row.get(key, 0), int) or row.get(key, 0) < 0:
            raise UserError(f"{where}: {key} is {row[key]!r}; it must be a whole number, 0 or more")
    parts = row.get("parts", [])
    valid = isinstance(parts, list) and all(
        size in (HEADS, KV_HEADS, WIDTH) or (isinstance(size, int) and size > 0) for size in parts
    )
    if not valid or parts.count(WIDTH) > 1 or (parts and row["role"] != "matrix"):
        raise UserError(
            f'{where}: parts is {parts!r}; it must be a list of "heads", "kv_heads", at most one '
            '"width" and whole numbers, of a matrix'
        )
    return Rule(**dict(row) | {"parts": tuple(parts)})


def _check_choice(where: str, key: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{where}: {key} is {value!r}; it must be one of {', '.join(choices)}")


def number_of_heads(checkpoint: Checkpoint, given: int | None) -> int | None:
    """Returns the attention heads by --heads or config.json; None where neither has them.

    Raises:
        UserError: the two differ, or it is no whole number above 0.
    """
    settings = checkpoint.settings
    stated = settings.get("num_attention_heads", settings.get("n_head"))  # the second of GPT-2
    if given is not None and given < 1:
        raise UserError(f"--heads is {given}; it must be at least 1")
    if stated is not None and (not isinstance(stated, int) or stated < 1):
        raise UserError(f"{checkpoint.path}: config.json says num_attention_heads is {stated!r}")
    if None not in (given, stated) and given != stated:
        raise UserError(f"--heads is {given}, but config.json of {checkpoint.path} says {stated}")
    return given or stated


def assign(checkpoint: Checkpoint, layout: Layout, heads: int | None) -> list[Leaf]:
    """Lists the tensors of a checkpoint that count, in the order they are stored.

    Raises:
        UserError: a tensor is covered by no rule (with the nearest ones), or has another shape
            than its rule expects; heads are needed and not known; nothing is a matrix.
    """
    find = first_found if layout.known else first_found_in_time
    patterns = tuple((rule.name, rule.ndim) for rule in layout.rules)
    axes = {name: len(s) for name, s in checkpoint.shapes.items()} | dict.fromkeys(
        checkpoint.absent, _UNKNOWN
    )
    indices = find(patterns, tuple(axes.items()))
    rules = {
        name: None if index is None else layout.rules[index]
        for name, index in zip(axes, indices, strict=True)
    }
    for name, says in checkpoint.absent.items():
        rule = rules.pop(name)
        if rule is None or rule.role != "ignore":
            raise UserError(says)
    uncovered = [name for name, rule in rules.items() if rule is None]
    if uncovered:
        nearest = [_nearest(name, checkpoint.shapes[name], layout) for name in uncovered[:3]]
        raise UserError(
            f"{checkpoint.path}: {len(uncovered)} of {len(rules)} tensors are covered by no rule "
            f"of layout {layout.name}: {'; '.join(nearest)}; write rules for all (--rules FILE), "
            'with role = "ignore" for what is to be left out'
        )
    counting = {name: rule for name, rule in rules.items() if rule.role != "ignore"}
    once = {checkpoint.tied.get(name, name): name for name in reversed(counting)}.values()
    known = {HEADS: heads, KV_HEADS: _kv_heads(checkpoint, heads)}
    leaves = [_leaf(checkpoint, name, counting[name], known) for name in counting if name in once]
    if not any(leaf.rule.role == "matrix" for leaf in leaves):
        raise UserError(f"{checkpoint.path}: layout {layout.name} finds no weight matrix")
    return leaves


def _kv_heads(checkpoint: Checkpoint, heads: int | None) -> int | None:
    """Returns how many heads keys and values have, by config.json or by their shapes."""
    stated = checkpoint.settings.get("num_key_value_heads")
    if isinstance(stated, int) and stated > 0:
        return stated
    for name, shape in checkpoint.shapes.items():
        queries = checkpoint.shapes.get(name.replace("k_proj", "q_proj"))
        if heads is not None and "k_proj.weight" in name and queries is not None:
            return max(1, heads * shape[0] // queries[0])
    return heads


def _nearest(name: str, shape: tuple[int, ...], layout: Layout) -> str:
    """Describes a name that no rule covers, and the rules that come nearest to it."""
    rules = sorted(
        layout.rules,
        key=lambda rule: difflib.SequenceMatcher(None, rule.name[:200], name[:200]).ratio(),
        reverse=True,
    )
    near = " and ".join(f"{rule.name!r}{_only(rule)} -> {rule.role}" for rule in rules[:2])
    return f"{name!r} {list(shape)} (nearest: {near})"


def _only(rule: Rule) -> str:
    return f" with {rule.ndim} axes" if rule.ndim is not None else ""


def _leaf(checkpoint: Checkpoint, name: str, rule: Rule, heads: Mapping[str, int | None]) -> Leaf:
    shape = checkpoint.shapes[name]
    where = f"{checkpoint.path}: {name!r} {list(shape)}"
    least = {"matrix": 2, "kernels": 3, "bias": 1}[rule.role]
    if len(shape) < max(least, rule.axis + 1) or 0 in shape:
        raise UserError(
            f"{where} cannot be {rule.role} by rule {rule.name!r}: expected at least "
            f"{max(least, rule.axis + 1)} axes, none of length 0"
        )
    lacking = [size for size in rule.parts if size in heads and heads[size] is None]
    if lacking and rule.parts != (HEADS,):
        raise UserError(
            f"{where} is divided by heads, and no config.json beside it has num_attention_heads; "
            "give --heads"
        )
    return Leaf(name, rule, _sizes(rule, shape[rule.axis], heads, where))


def _sizes(rule: Rule, length: int, heads: Mapping[str, int | None], where: str) -> tuple[int, ...]:
    """Returns the sizes of a rule's parts on an axis of some length."""
    if rule.parts == (HEADS,):
        return (length,)  # the axis itself says how many
    known = [heads.get(size, size) for size in rule.parts if size != WIDTH]
    width = math.prod(known)
    if rule.parts and (length % width or (WIDTH not in rule.parts and length != width)):
        raise UserError(
            f"{where}: axis {rule.axis} of length {length} cannot be divided by "
            f"{' x '.join(map(str, known))} ({', '.join(map(str, rule.parts))}); see --heads"
        )
    sizes = iter(known)
    return tuple(length // width if size == WIDTH else next(sizes) for size in rule.parts)
