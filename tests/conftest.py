"""Hypothesis draws the same examples in every run, and a program is compiled once for all tests."""

import gc
import os

# Most of the time of a test goes into compiling its program. Without LLVM's optimisations, the
# fusion emitters (through MLIR) and several modules a program that takes a fifth of the time.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("XLA_FLAGS", " ".join(QUICK_TO_COMPILE))

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

import helpers.shapes  # noqa: F401 - jaxtyping's hook looks it up by name

SHAPED = (
    "trainer",
    "hmm",
    "runs",
    "fitting",
    "map_fitting",
    "mapping",
    "experiments.noise.measures",
)
install_import_hook([f"seedmap.{name}" for name in SHAPED], "helpers.shapes.check_arrays")

from seedmap.trainer import program
from seedmap.trainer.group_size import Choice, choose_seeds_at_once

settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")


LONG = ("test_notebook.py", "test_readme.py", "test_packaging.py", "test_noise.py")


def pytest_collection_modifyitems(items):
    """Begins with the longest files, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Tests build the same program anew many times: XLA's part of that is done once.

    The workers of pytest-xdist share the folder: their base folders lie side by side.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    jax.config.update("jax_compilation_cache_dir", str(shared / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _all_at_once(build, replicas, pool, devices, sizes=None, *, alike=False):
    """In place of the trial of sizes, which compiles the program for each: all seeds at once."""
    if alike:  # a matter of bits, not of speed
        return choose_seeds_at_once(build, replicas, pool, devices, sizes, alike=alike)
    return Choice(-(-len(replicas[0].init) // len(devices)), float("nan"))


@pytest.fixture(scope="session", autouse=True)
def no_trial():
    """Training takes all seeds at once unless a test says how many, or asks for `trial`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "choose_seeds_at_once", _all_at_once)
        yield


@pytest.fixture
def trial(monkeypatch):
    """Has the number of seeds side by side found by trial, as it is outside of tests."""
    monkeypatch.setattr(program, "choose_seeds_at_once", choose_seeds_at_once)


@pytest.fixture(scope="module", autouse=True)
def few_objects():
    """Programs of a module are dropped after it, and garbage is collected only then.

    Thousands of traced programs on the heap make every full collection take seconds.
    """
    gc.disable()
    yield
    jax.clear_caches()
    gc.enable()
    gc.collect()
