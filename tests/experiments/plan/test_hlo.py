"""The text of compiled programs, written by hand and by XLA."""

import jax
import jax.numpy as jnp
import pytest

from seedmap.experiments.plan.hlo import bytes_of, parse_program

TEXT = """\
HloModule jit_step, is_scheduled=true

%fused (rows: f32[100,8], at: s32[]) -> f32[1,8] {
  %rows = f32[100,8]{1,0} parameter(0)
  %at = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,8]{1,0} dynamic-slice(%rows, %at, %zero), dynamic_slice_sizes={1,8}
}

%body (state: (s32[], f32[64], f32[100,8])) -> (s32[], f32[64], f32[100,8]) {
  %state = (s32[], f32[64]{0}, f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[64]{0} get-tuple-element(%state), index=1
  %table = f32[100,8]{1,0} get-tuple-element(%state), index=2
  %row.1 = f32[1,8]{1,0} fusion(%table, %i), kind=kLoop, calls=%fused
  %fast = f32[64]{0:T(128)S(1)} exponential(%x)
  %y = f32[64]{0} all-reduce(%fast), replica_groups={}, to_apply=%add
  %z = f32[64]{0} custom-call(%y), custom_call_target="xla_python_gpu_callback"
  ROOT %next = (s32[], f32[64]{0}, f32[100,8]{1,0}) tuple(%i, %z, %table)
}

%condition (state.1: (s32[], f32[64], f32[100,8])) -> pred[] {
  %state.1 = (s32[], f32[64]{0}, f32[100,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %bound = s32[] constant(5)
  ROOT %less = pred[] compare(%i.1, %bound), direction=LT
}

ENTRY %main (x.1: f32[64], table.1: f32[100,8]) -> f32[64] {
  %x.1 = f32[64]{0} parameter(0)
  %table.1 = f32[100,8]{1,0} parameter(1)
  %start = s32[] constant(0)
  %begun = (s32[], f32[64]{0}, f32[100,8]{1,0}) tuple(%start, %x.1, %table.1)
  %loop = (s32[], f32[64]{0}, f32[100,8]{1,0}) while(%begun), condition=%condition, body=%body
  %values = (f32[2]{0}, s32[]) custom-call(%x.1), custom_call_target="cusolver_gesvdj_ffi"
  ROOT %result = f32[64]{0} get-tuple-element(%loop), index=1
}
"""
ROW, X = 8 * 4, 64 * 4
A_TURN = (ROW + ROW + 4) + X + X + 2 * X  # the row and its place; exp reads; reduce; callback


def test_bytes_of_a_turn_and_of_all():
    text = parse_program(TEXT)
    assert text.turn_of_loop(5) == A_TURN
    assert text.turn_of_loop(6) == 0
    assert text.cost.bytes == 5 * A_TURN + X + 2 * 4 + 4
    assert text.cost.whole


def test_what_stands_out_is_counted():
    text = parse_program(TEXT)
    assert text.collectives() == {"all-reduce": 1}
    assert text.callbacks() == {"xla_python_gpu_callback": 1}
    assert text.custom_calls() == {"cusolver_gesvdj_ffi": 1}
    assert text.wide() == 0
    assert parse_program(TEXT.replace("f32[64]", "f64[64]")).wide() > 0


def test_a_loop_whose_turns_are_not_in_the_text_counts_once():
    text = parse_program(TEXT.replace("direction=LT", "direction=NE"))
    assert text.cost.bytes == A_TURN + X + 2 * 4 + 4
    assert not text.cost.whole
    said = TEXT.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"9"}}')
    assert parse_program(said).turn_of_loop(9) == A_TURN


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[2,3]{1,0}", 24),
        ("(bf16[4]{0}, pred[5], s32[])", 8 + 5 + 4),
        ("f32[64]{0:T(128)S(1)}", 0),
        ("s4[8]{0}", 4),
        ("f8e4m3fn[8]{0}", 8),
        ("token[]", 0),
    ],
)
def test_bytes_of_shapes(shape, size):
    assert bytes_of(shape) == size


def test_the_text_of_a_program_that_xla_compiled():
    def steps(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=37)[0]

    shapes = (jnp.zeros((64, 128)), jnp.zeros((128, 128)))
    text = parse_program(jax.jit(steps).lower(*shapes).compile().as_text())
    least = (2 * 64 * 128 + 128 * 128) * 4  # reads the state and the weights, writes the state
    assert least <= text.turn_of_loop(37) <= 4 * least
    assert 37 * text.turn_of_loop(37) <= text.cost.bytes
    assert not text.collectives() + text.callbacks() + text.custom_calls()
