"""Products at lower precision on a device that has no such mode: operands rounded, sums in float32.

A tensor core's tf32 and bfloat16 products round both operands to fewer bits, multiply exactly and
add in float32 (NVIDIA, "Ampere architecture whitepaper", 2020; Wang and Kanwar, "BFloat16", 2019).
Rounding the operands and multiplying in float32 is the same arithmetic but for the order of the
sums: what such a mode does to training can be seen anywhere, its speed cannot.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Int

from seedmap.errors import UserError

MANTISSA_BITS = {"float32": 23, "tf32": 10, "bfloat16": 7}
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
_HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def round_products(function: Callable, mantissa_bits: int | Int[Array, ""]) -> Callable:
    """The same function with every matrix product and convolution at a lower precision.

    Float32 operands are rounded to nearest, ties to even, wherever the product does not ask for a
    precision of its own, inside loops and branches and in gradients that the function takes; the
    product of the rounded operands is then in full float32 on every device. A gradient taken of the
    result goes through the rounding where the bits are a Python number.

    Args:
        function: pure function of pytrees of arrays.
        mantissa_bits: bits to keep, 1 .. 23 (`MANTISSA_BITS`); 23 changes nothing. An int32 scalar
            array may differ between the members of a vmap.

    Raises:
        UserError: a Python number out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> third = jnp.full((1, 1), 1 / 3)
        >>> float(round_products(jnp.matmul, 7)(third, jnp.ones((1, 1)))[0, 0])
        0.333984375
    """
    if isinstance(mantissa_bits, int) and not 1 <= mantissa_bits <= 23:
        raise UserError(f"mantissa_bits is {mantissa_bits}; it must lie between 1 and 23")

    def rounded(*args):
        # A default that others set would look like a precision the product asks for.
        with jax.default_matmul_precision(None):
            jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        values = _evaluate(jaxpr, mantissa_bits, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), values)

    return rounded


def _evaluate(closed: ClosedJaxpr, bits: int | jax.Array, *args: Any) -> list[Any]:
    """Values of a traced program, its products rounded."""
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(jaxpr.invars, args, strict=True))

    def read(variable):
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        results = _equation(equation, [read(variable) for variable in equation.invars], bits)
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _equation(equation: Any, operands: list[Any], bits: int | jax.Array) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name in _INLINED:
        return _evaluate(_closed(params[_INLINED[name]]), bits, *operands)
    if name in _INSIDE:
        return _INSIDE[name](params, operands, bits)
    if name in _PRODUCTS and params["precision"] is None:
        operands = [_round(operand, bits) for operand in operands]
        params = params | {"precision": _HIGHEST}
    results = equation.primitive.bind(*operands, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


# Loops and branches are built anew around the rounded body: the bits may be a traced value, which
# a body that has been traced before cannot take in.


def _scan(params: dict[str, Any], operands: list[Any], bits: int | jax.Array) -> list[Any]:
    num_fixed, num_carried = params["num_consts"], params["num_carry"]
    fixed, rest = operands[:num_fixed], operands[num_fixed:]

    def body(carried, scanned):
        out = _evaluate(params["jaxpr"], bits, *fixed, *carried, *scanned)
        return out[:num_carried], out[num_carried:]

    carried, stacked = jax.lax.scan(
        body,
        rest[:num_carried],
        rest[num_carried:],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carried, *stacked]


def _while(params: dict[str, Any], operands: list[Any], bits: int | jax.Array) -> list[Any]:
    num_test, num_fixed = params["cond_nconsts"], params["body_nconsts"]
    of_test, fixed = operands[:num_test], operands[num_test : num_test + num_fixed]

    def test(carried):
        return _evaluate(params["cond_jaxpr"], bits, *of_test, *carried)[0]

    def body(carried):
        return _evaluate(params["body_jaxpr"], bits, *fixed, *carried)

    return jax.lax.while_loop(test, body, operands[num_test + num_fixed :])


def _cond(params: dict[str, Any], operands: list[Any], bits: int | jax.Array) -> list[Any]:
    branches, index = params["branches"], operands[0]
    platforms = params.get("branches_platforms")
    if platforms is not None:  # `platform_dependent`: there is nothing to choose at run time
        named: dict[str, Callable[..., list[Any]]] = {}
        for names, branch in zip(platforms, branches, strict=True):
            named |= dict.fromkeys(names or ("default",), partial(_evaluate, branch, bits))
        return jax.lax.platform_dependent(*operands[1:], **named)
    functions = [partial(_evaluate, branch, bits) for branch in branches]
    return jax.lax.switch(index, functions, *operands[1:])


_INSIDE = {"scan": _scan, "while": _while, "cond": _cond}


def _round(operand: jax.Array, bits: int | jax.Array) -> jax.Array:
    """The operand with so many bits of mantissa, to nearest, ties to even."""
    if operand.dtype != "float32":
        return operand
    if isinstance(bits, int):
        return jax.lax.reduce_precision(operand, exponent_bits=8, mantissa_bits=bits)
    pattern = jax.lax.bitcast_convert_type(operand, jnp.uint32)
    dropped = (23 - bits).astype(jnp.uint32)
    last = jnp.uint32(1) << dropped  # of the bits that stay
    up = last // 2 - 1 + ((pattern >> dropped) & 1)
    rounded = jax.lax.bitcast_convert_type((pattern + up) & ~(last - 1), jnp.float32)
    # Adding to the bits of an infinity or a NaN would make another number of it.
    return jnp.where((dropped > 0) & jnp.isfinite(operand), rounded, operand)
