"""Every experiment lowered for TPUs and GPUs: the choices in the program are those of the target.

No extra is needed: lowering is JAX's own, the compilers come after it.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from seedmap.experiments import EXPERIMENTS, load_experiment
from seedmap.experiments.plan.jobs import job_of
from seedmap.hmm.autoregressive.fits import precision
from seedmap.hmm.autoregressive.programs import lane_programs
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.programs import sweep_programs
from seedmap.trainer import make_streams
from seedmap.trainer.batched import Batching, init_all
from seedmap.trainer.program import group_program

CONVOLUTIONAL = {"smallcnn", "celeba"} | {name for name in EXPERIMENTS if "cifar" in name}
OF_TARGET = {"tpu": set(), "cuda": {"cusolver_gesvdj_ffi"}}
OF_EM = {"tpu": set(), "cuda": {"cusolver_potrf_ffi"}}  # of Dynamax's normal-inverse-Wishart


def calls(text):
    return set(re.findall(r"custom_call @([\w.]+)", text)) - {"Sharding"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiments_training_is_lowered_as_its_target_has_it(name):
    experiment = load_experiment(name)
    job = job_of(experiment, experiment.presets["quick"].training, None)
    batching = Batching(None, "tpu")
    streams = jax.eval_shape(lambda: make_streams(range(2)))
    state = jax.eval_shape(partial(init_all, job.recipe, batching), streams)
    pool = job.recipe.task.pool
    traced = group_program(job.recipe, batching).trace(state, pool)
    for platform, own in OF_TARGET.items():
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert calls(text) <= own
        assert ("stablehlo.convolution" in text) == (name in CONVOLUTIONAL)
        assert "stablehlo.sort" not in text
        assert "callback" not in text
        assert "f64" not in text


def test_precision_is_the_targets_own_mode():
    experiment = load_experiment("parities")
    job = job_of(experiment, experiment.presets["quick"].training, None)
    recipe = job.recipe.__class__(**{**vars(job.recipe), "precision": "bfloat16"})
    streams = jax.eval_shape(lambda: make_streams(range(2)))
    for target, rounded in (*((target, False) for target in OF_TARGET), ("cpu", True)):
        batching = Batching(None, target)
        state = jax.eval_shape(partial(init_all, recipe, batching), streams)
        traced = group_program(recipe, batching).trace(state, ())
        text = traced.lower(lowering_platforms=(target,)).as_text()
        assert ("reduce_precision" in text) == rounded


@pytest.mark.parametrize("platform", OF_TARGET)
@pytest.mark.parametrize(("emission", "count"), [("autoregressive", 9), ("gaussian", 5)])
def test_em_and_decoding_are_few_programs_without_calls_and_64_bits(platform, emission, count):
    """40 runs x 200 records x 14 metrics, K = 1 .. 8."""
    with precision(platform):
        if emission == "gaussian":
            programs = sweep_programs(SweepConfig(), 32, 40, 200, 14)
        else:
            programs = lane_programs(range(1, 9), 40, 40, 200, 14)
        assert len(programs) == count
        for _, function, arguments in programs:
            text = function.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
            assert calls(text) <= (OF_EM[platform] if emission == "gaussian" else set())
            assert "f64" not in text
            assert "callback" not in text


def test_the_cpu_fits_in_64_bits():
    with precision("cpu"):
        assert jnp.zeros(()).dtype == "float64"
