"""Products at lower precision on a device that has no such mode: operands rounded, sums in float32.

A tensor core's tf32 and bfloat16 products round both operands to fewer bits, multiply exactly and
add in float32 (NVIDIA, "Ampere architecture whitepaper", 2020; Wang and Kanwar, "BFloat16", 2019).
Rounding the operands and multiplying in float32 is the same arithmetic but for the order of the
sums: what such a mode does to training can be seen anywhere, its speed cannot.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal

MANTISSA_BITS = {"tf32": 10, "bfloat16": 7}
"""Bits of the mantissa that are kept; the exponent keeps its 8."""

_PRODUCTS = ("dot_general", "conv_general_dilated")
_INLINED = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    # Whatever is to be differentiated has been by now: only the values are left.
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def round_products(function: Callable, precision: str) -> Callable:
    """The same function with every matrix product and convolution at a lower precision.

    Float32 operands are rounded to nearest, ties to even (`jax.lax.reduce_precision`), wherever the
    product does not ask for a precision of its own, inside loops and branches and in gradients that
    the function takes. A gradient taken of the result goes through the rounding.

    Args:
        function: pure function of pytrees of arrays.
        precision: "tf32" (10 bits of mantissa) or "bfloat16" (7).

    Raises:
        ValueError: another precision.

    Example:
        >>> import jax.numpy as jnp
        >>> third = jnp.full((1, 1), 1 / 3)
        >>> float(round_products(jnp.matmul, "bfloat16")(third, jnp.ones((1, 1)))[0, 0])
        0.333984375
    """
    if precision not in MANTISSA_BITS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(MANTISSA_BITS)}")

    def rounded(*args):
        # A default that others set would look like a precision the product asks for.
        with jax.default_matmul_precision(None):
            jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        values = _evaluate(jaxpr, jax.tree.leaves(args), MANTISSA_BITS[precision])
        return jax.tree.unflatten(jax.tree.structure(shape), values)

    return rounded


def _evaluate(closed: ClosedJaxpr, args: list[Any], bits: int) -> list[Any]:
    """Values of a traced program, its products rounded."""
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(jaxpr.invars, args, strict=True))

    def read(variable):
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        found = _equation(equation, [read(variable) for variable in equation.invars], bits)
        values |= dict(zip(equation.outvars, found, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _equation(equation: Any, operands: list[Any], bits: int) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name in _INLINED:
        return _evaluate(_closed(params[_INLINED[name]]), operands, bits)
    if name in _PRODUCTS and params["precision"] is None:
        operands = [_round(operand, bits) for operand in operands]
    params = {key: _with_inner(value, bits) for key, value in params.items()}
    found = equation.primitive.bind(*operands, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _with_inner(value: Any, bits: int) -> Any:
    """A parameter of a loop or a branch: the programs inside it with their products rounded."""
    if type(value) is tuple:  # the branches of a cond
        return tuple(_with_inner(part, bits) for part in value)
    if not isinstance(value, ClosedJaxpr):
        return value

    def inner(*args):
        return _evaluate(value, list(args), bits)

    return jax.make_jaxpr(inner)(*value.in_avals)


def _round(operand: jax.Array, bits: int) -> jax.Array:
    if operand.dtype != "float32":
        return operand
    return jax.lax.reduce_precision(operand, exponent_bits=8, mantissa_bits=bits)
