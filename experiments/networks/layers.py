"""Layers that several transformers share: layer norm, and the look-up of embeddings."""

import jax
import jax.numpy as jnp

ROWS_AT_ONCE = 8192  # of a table, looked up; a gradient's working memory


def layer_norm(norm: dict[str, jax.Array], x: jax.Array, epsilon: float) -> jax.Array:
    """Normalises over the last axis: (x - mean) / sqrt(var + epsilon) * scale + offset."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    var = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(var + epsilon) * norm["scale"] + norm["bias"]


@jax.custom_vjp
def look_up(table_VxD: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns `table[rows]`, whose gradient is a matrix product but on CPU.

    The gradient adds up rows, a scatter-add; vmapped over seeds it is very slow on GPU when
    deterministic kernels are asked for (jax issue 17844). The product with one-hot rows gives the
    same; on CPU it makes the training step about 5 % slower.
    """
    return table_VxD[rows]


def _look_up_forward(table_VxD: jax.Array, rows: jax.Array):
    return table_VxD[rows], (rows, jnp.zeros_like(table_VxD))


def sum_of_rows(rows: jax.Array, grad: jax.Array, zeros: jax.Array) -> jax.Array:
    """Computes `zeros.at[rows].add(grad)` by one-hot products, ROWS_AT_ONCE at a time.

    One-hot rows of all at once would fill the memory where the table is long.
    """
    rows, grad = rows.ravel(), grad.reshape(-1, zeros.shape[1])
    pieces = -(-len(rows) // ROWS_AT_ONCE)
    length = -(-len(rows) // pieces)
    missing = pieces * length - len(rows)
    rows = jnp.pad(rows, (0, missing), constant_values=-1)  # its one-hot row is all zeros
    grad = jnp.pad(grad, ((0, missing), (0, 0)))

    def add_piece(total, piece):
        rows, grad = piece
        return total + jax.nn.one_hot(rows, len(zeros), dtype=grad.dtype).T @ grad, None

    split = rows.reshape(pieces, length), grad.reshape(pieces, length, -1)
    return jax.lax.scan(add_piece, zeros, split)[0]


def _look_up_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array):
    def add_rows(rows, grad, zeros):
        return zeros.at[rows].add(grad)

    rows, zeros = saved
    return jax.lax.platform_dependent(rows, grad, zeros, cpu=add_rows, default=sum_of_rows), None


look_up.defvjp(_look_up_forward, _look_up_backward)
