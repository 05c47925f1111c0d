"""The bare matrix products of a step of modular arithmetic: what no trainer can be faster than."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seedmap.experiments.tasks.modular import ModularConfig

Product = tuple[str, tuple, tuple]
"""Einsum, first shape, second shape."""


def modular_products(config: ModularConfig) -> list[Product]:
    """The matrix products of one step of one seed, forward and backward, as our step has them.

    With B examples, V = prime + 1 tokens, width D, M hidden units and H heads: the score and value
    of every token and position [V + 3, D] [D, D + H], attention's output [B, D] [D, D], the MLP
    [B, D] [D, M] and [B, M] [M, D], the unembedding [B, D] [D, V]; each once forward, once for its
    input's gradient, once for its weights'. The last two matrices are stored transposed.
    """
    batch, width, hidden = config.batch_size, config.width, config.mlp_hidden
    vocab, per_token = config.prime + 1, config.width + config.heads
    layers = [
        (vocab, width, per_token, "io"),
        (3, width, per_token, "io"),
        (batch, width, width, "io"),
        (batch, width, hidden, "io"),
        (batch, hidden, width, "oi"),
        (batch, width, vocab, "oi"),
    ]
    products = []
    for rows, inputs, outputs, stored in layers:
        weight = (inputs, outputs) if stored == "io" else (outputs, inputs)
        products += [
            (f"bi,{stored}->bo", (rows, inputs), weight),
            (f"bo,{stored}->bi", (rows, outputs), weight),
            (f"bi,bo->{stored}", (rows, inputs), (rows, outputs)),
        ]
    return products


def flops(products: list[Product]) -> float:
    """Operations of the products: 2 for every multiplication and addition."""
    total = 0
    for equation, first, second in products:
        sizes = dict(zip(equation.split("->")[0].replace(",", ""), first + second, strict=True))
        total += 2 * math.prod(sizes.values())
    return float(total)


def bound_loop(config: ModularConfig, steps: int, seeds: int, at_once: int) -> Callable[[], None]:
    """The bare products of some steps of every seed, `at_once` seeds in a product."""
    products = modular_products(config)
    shapes = [(at_once, *shape) for _, *pair in products for shape in pair]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    operands = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]

    @jax.jit
    def program(operands: list[jax.Array]) -> jax.Array:
        def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            # The barriers keep the products in the loop, and whole.
            carry, held = jax.lax.optimization_barrier((carry, operands))
            results = [
                jax.vmap(lambda a, b, eq=equation: jnp.einsum(eq, a, b))(first, second)
                for (equation, *_), first, second in zip(
                    products, held[::2], held[1::2], strict=True
                )
            ]
            results = jax.lax.optimization_barrier(results)
            return carry + sum(result[0, 0, 0] for result in results), None

        return jax.lax.scan(step, jnp.float32(0), None, length=steps)[0]

    compiled = program.lower(operands).compile()
    counted, expected = compiled.cost_analysis()["flops"], at_once * flops(products)
    if abs(counted / expected - 1) > 0.01:
        raise RuntimeError(f"the bound's program has {counted:.3g} flops, not {expected:.3g}")

    def run() -> None:
        for _ in range(0, seeds, at_once):
            jax.block_until_ready(compiled(operands))

    return run
