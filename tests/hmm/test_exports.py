"""`import hmm` gives a researcher every function and class meant for users, and is quick."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from seedmap import hmm
from seedmap.hmm import figures

ENGINE = ("autoregressive", "em", "explorer", "readers")  # users get them by way of the others
NAMES = sorted(
    ".".join(path.relative_to(Path(hmm.__file__).parent).with_suffix("").parts)
    for path in Path(hmm.__file__).parent.rglob("*.py")
    if path.stem != "__init__" and "figures" not in path.parts
)
MODULES = [name for name in NAMES if name.partition(".")[0] not in ENGINE]
HELPERS = {  # between modules
    *("best_scale", "robust", "robust_error"),
    *("check_num_runs", "filter_states", "filtered_and_smoothed"),
    *("arrivals_of", "interval", "median", "Ridge", "ridge", "by_regression", "Comparison"),
    *("distribution_by_state", "distribution_by_time", "distribution_by_weight"),
    *("bootstrap", "brier_by_run", "concordance", "concordance_pairs", "coverage"),
    *("expected_wait", "outcome_weights", "recorded_beyond", "survival_at"),
    *("HmmlearnGaussian", "num_iterations", "sweep_programs"),
    *("Transitions", "returns", "transitions_made"),
    *("Entries", "decoded_entries", "smoothed_entries"),
    *("branch_marks", "moments_of_paths", "states_of_branches"),
    *("BranchCandidate", "candidates", "smallest_group", "Visits", "find_visits"),
    *(
        "count_places",
        "searched_states",
        "Parting",
        "run_means",
        "lasting_offsets",
        "without_offsets",
    ),
    *("delay", "end_test", "parting", "place_test", "support", "timing", "holm", "measure_delay"),
    *("Whitening", "closest_points", "null_separations", "separation", "whiten"),
    "with_least_variance",
    *("alignment_cost", "change_point", "median_interval"),
}
INSIDE = {  # of the default engine
    *("Material", "Plan", "choose", "draw_halves", "final_fit", "sweep_states"),
    *("decode_paths", "decode_resamples", "make_material", "paths_by_refits"),
}


def made_here(module):
    """Public functions and classes that a module defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", MODULES)
def test_what_is_for_users_is_exported_with_a_docstring(name):
    entries = made_here(importlib.import_module(f"seedmap.hmm.{name}"))
    assert entries
    for entry, value in entries.items():
        if entry not in HELPERS:
            assert entry in hmm.__all__
            assert getattr(hmm, entry) is value
            assert inspect.getdoc(value)


def test_what_users_need_of_the_default_engine_is_exported():
    for name in ("choice", "engine", "map_model", "sizes"):
        for entry in made_here(importlib.import_module(f"seedmap.hmm.autoregressive.{name}")):
            assert (entry in hmm.__all__) != (entry in INSIDE)


def test_readers_are_imported_when_they_are_used():
    assert set(hmm._READERS) <= set(hmm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'read_csv'"):
        _ = hmm.read_csv


def test_all_names_what_is_there():
    assert len(set(hmm.__all__)) == len(hmm.__all__)
    assert all(hasattr(hmm, name) for name in hmm.__all__)
    assert not set(hmm.__all__) & HELPERS


def test_no_name_of_a_function_is_that_of_a_module():
    """`hmm.decode` is a function, whatever is imported and in whatever order."""
    modules = {name.partition(".")[0] for name in NAMES} | {"figures"}
    assert not modules & set(hmm.__all__)
    for name in {*NAMES, "figures"}:
        assert inspect.ismodule(importlib.import_module(f"seedmap.hmm.{name}"))
    for package in (
        "autoregressive",
        "em",
        "figures",
        "forecasting",
        "readers",
        "selection",
        "training_map",
    ):
        contents = vars(importlib.import_module(f"seedmap.hmm.{package}"))
        for path in (Path(hmm.__file__).parent / package).glob("[a-z]*.py"):
            assert inspect.ismodule(contents.get(path.stem, hmm))


def test_summaries_begin_with_what_a_function_does():
    for name in hmm.__all__:
        entry = getattr(hmm, name)
        if inspect.isfunction(entry):
            verb = inspect.getdoc(entry).split()[0]
            assert verb.istitle(), f"{name}: {verb}"
            assert verb.endswith("s"), f"{name}: {verb}"


def test_every_plot_is_exported():
    names = [path.stem for path in Path(figures.__file__).parent.glob("*.py")]
    modules = [importlib.import_module(f"seedmap.hmm.figures.{name}") for name in names]
    plots = {name for module in modules for name in vars(module) if name.startswith("plot_")}
    assert plots == {name for name in figures.__all__ if name.startswith("plot_")}
    assert all(inspect.getdoc(getattr(figures, name)) for name in figures.__all__)


def test_importing_hmm_waits_for_nothing_it_does_not_need():
    script = "import sys, seedmap.hmm; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    slow = {"pandas", "xarray", "matplotlib", "scipy.stats", "networkx", "h5py", "sklearn"}
    assert not slow & set(loaded.stdout.decode().split())
