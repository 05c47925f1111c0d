"""Floating-point operations of a traced program, loops times their turns.

XLA's own cost analysis counts the body of a loop once, and none is given for GPUs; so they are
counted here, of the program as it is traced for a platform, before its compiler sees it.
"""

import math
from dataclasses import dataclass
from typing import Any

from jax.extend.core import ClosedJaxpr

_MOVES = frozenset(
    "broadcast_in_dim reshape transpose squeeze slice dynamic_slice dynamic_update_slice gather "
    "concatenate pad rev iota copy copy_p convert_element_type bitcast_convert_type stop_gradient "
    "device_put random_wrap random_unwrap random_seed split select_n".split()
)


@dataclass(frozen=True)
class Operations:
    """Floating-point operations.

    Attributes:
        products: of matrix products and convolutions, two a multiplication.
        decompositions: of singular values and eigenvalues, the least that the usual methods take.
        others: one for every entry that is computed, or of which a sum or the like is taken.
        whole: False where a loop's turns are known only as it runs; they count once.
    """

    products: float = 0.0
    decompositions: float = 0.0
    others: float = 0.0
    whole: bool = True

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(
            self.products + other.products,
            self.decompositions + other.decompositions,
            self.others + other.others,
            self.whole and other.whole,
        )

    def __mul__(self, turns: float) -> "Operations":
        return Operations(
            self.products * turns, self.decompositions * turns, self.others * turns, self.whole
        )

    @property
    def total(self) -> float:
        """All of them."""
        return self.products + self.decompositions + self.others


def count_operations(closed: ClosedJaxpr, platform: str) -> Operations:
    """Counts the operations of a traced program, of one device where it is spread over several.

    Args:
        closed: the program.
        platform: as JAX's lowering names it; of what depends on the platform only its own counts.
    """
    total = Operations()
    for equation in closed.jaxpr.eqns:
        total = total + _of_equation(equation, platform)
    return total


def _of_equation(equation: Any, platform: str) -> Operations:
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        return count_operations(params["jaxpr"], platform) * params["length"]
    if name == "while":
        programs = (params["cond_jaxpr"], params["body_jaxpr"])
        once = sum((count_operations(program, platform) for program in programs), Operations())
        return once + Operations(whole=False)
    if name == "cond":
        return _of_branches(params, platform)
    inner = [value for value in params.values() if _is_program(value)]
    if inner:
        called = (count_operations(_closed(value), platform) for value in inner[:1])
        return sum(called, Operations())
    if name in _COUNTED:
        return _COUNTED[name](equation)
    if name in _MOVES:
        return Operations()
    arrays = equation.invars if name.startswith(("reduce_", "arg", "cum")) else equation.outvars
    return Operations(others=float(max((_size(each) for each in arrays), default=0)))


def _of_branches(params: dict[str, Any], platform: str) -> Operations:
    """The branch of the platform; of others the one with the most operations."""
    platforms = params.get("branches_platforms")
    counts = [count_operations(branch, platform) for branch in params["branches"]]
    if platforms is None:
        return max(counts, key=lambda count: count.total)
    named = [i for i, names in enumerate(platforms) if names is not None and platform in names]
    default = [i for i, names in enumerate(platforms) if names is None]
    return counts[(named or default)[0]]


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def _closed(value: Any) -> ClosedJaxpr:
    return value if hasattr(value, "jaxpr") else ClosedJaxpr(value, ())


def _size(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))


def _product(equation: Any) -> Operations:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    length = math.prod(left[axis] for axis in contracted)
    return Operations(products=2.0 * length * _size(equation.outvars[0]))


def _convolution(equation: Any) -> Operations:
    kernel = equation.invars[1].aval.shape
    channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return Operations(products=2.0 * math.prod(kernel) / channels * _size(equation.outvars[0]))


def _decomposition(equation: Any) -> Operations:
    """Bidiagonalisation of an SVD, tridiagonalisation of eigenvalues (Golub and Van Loan, 5.4)."""
    *batch, rows, columns = equation.invars[0].aval.shape
    long, short = max(rows, columns), min(rows, columns)
    svd = equation.primitive.name == "svd"
    operations = 4 * long * short**2 - 4 * short**3 / 3 if svd else 4 * short**3 / 3
    return Operations(decompositions=float(math.prod(batch) * operations))


def _sort(equation: Any) -> Operations:
    size, axis = _size(equation.invars[0]), equation.params["dimension"]
    length = equation.invars[0].aval.shape[axis]
    return Operations(others=float(size * max(1.0, math.log2(max(1, length)))))


_COUNTED = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "svd": _decomposition,
    "eigh": _decomposition,
    "sort": _sort,
}
