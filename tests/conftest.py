"""Hypothesis draws the same examples in every run, and a program is compiled once for all tests."""

import gc
import itertools
import os
import threading

# Most of the time of a test goes into compiling its program. Without LLVM's optimisations, the
# fusion emitters (through MLIR) and several modules a program that takes a fifth of the time.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("XLA_FLAGS", " ".join(QUICK_TO_COMPILE))
# pytest-xdist has a process for each core; they inherit these.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest
from hypothesis import settings
from jax._src.interpreters import mlir

from helpers.shapes import check_modules

SHAPED = ("trainer", "hmm", "runs", "fitting", "map_fitting", "mapping")
SHAPED += ("experiments.noise.measures",)
check_modules([f"seedmap.{name}" for name in SHAPED])

settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# Imports of 160 files leave little garbage, and walking their objects is a fifth of collecting
# the tests, in every worker; `few_objects` takes over from here.
gc.disable()

# The dearest first: ten seconds of processor time and more, by their folder and name.
LONG = (
    *("trainer/test_devices", "experiments/test_crashes", "plan/test_lowering"),
    *("commands/test_main", "commands/test_noise", "tests/test_facade", "trainer/test_tasks"),
    *("runs/test_fit_and_map", "noise/test_perturb", "runs/test_ids", "checkpoints/test_layouts"),
    *("checkpoints/test_importing", "metrics/test_spectrum", "trainer/test_resume"),
    *("metrics/test_weights", "tests/test_readme", "runs/test_session", "runs/test_compare"),
    *("em/test_loop", "commands/test_train", "hmm/test_adversarial", "em/test_missing"),
    *("recording/test_recorder", "tests/test_packaging", "report/test_browser"),
)


def pytest_collection_modifyitems(items):
    """Begins with the longest files, so that no worker is left with one at the end.

    pytest-xdist would begin with those of the most tests, many of which are short
    (`--no-loadscope-reorder` in pyproject.toml).
    """
    rank = {name: number for number, name in enumerate(LONG)}

    def place(item):
        return rank.get(f"{item.path.parent.name}/{item.path.stem}", len(LONG))

    items.sort(key=place)


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
    # Where in Python each operation comes from is a tenth of what lowering takes.
    jax.config.update("jax_traceback_in_locations_limit", 0)


PROGRAMS_A_CONTEXT = 100


@pytest.fixture(scope="session", autouse=True)
def shared_contexts():
    """Many programs are lowered in one MLIR context: JAX makes one for each, a tenth of all time.

    A context is never shared by threads, and makes way before it has grown large.
    """
    make, own = mlir.make_ir_context, threading.local()

    def make_or_reuse():
        own.uses = getattr(own, "uses", 0) + 1
        if own.uses % PROGRAMS_A_CONTEXT == 1:
            own.context = make()
        return own.context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", make_or_reuse)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Files need not survive a power cut: waiting for the disk is a tenth of the suite's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


_modules_done = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def few_objects():
    """Garbage is collected after a module only, and programs are dropped after every eighth.

    Thousands of traced programs on the heap make every full collection take seconds.
    """
    gc.freeze()  # what is there before, such as imports, need not be walked again
    gc.disable()
    yield
    if next(_modules_done) % 8 == 0:
        jax.clear_caches()
    gc.enable()
    gc.collect()
