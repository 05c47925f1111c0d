"""The packages depend on each other one way only: hmm and trainer know nothing of experiments."""

import ast
from pathlib import Path

import pytest

from hmm.readers import PAPER_METRICS
from trainer import METRICS

ROOT = Path(__file__).parent.parent
RESTRICTED = ROOT / "experiments" / "datasets" / "unpickle.py"  # names in a pickle reach nothing
FORBIDDEN = {"hmm": {"trainer", "experiments"}, "trainer": {"hmm", "experiments"}}


def imported(path):
    """Top-level names of the packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & FORBIDDEN[package], path


@pytest.mark.parametrize("package", ["hmm", "trainer", "experiments"])
def test_nothing_is_pickled(package):
    for path in (ROOT / package).rglob("*.py"):
        if path == RESTRICTED:
            assert "pickle.load" not in path.read_text(), path
            continue
        assert not imported(path) & {"pickle", "cloudpickle", "joblib", "dill", "shelve"}, path
        assert "allow_pickle=True" not in path.read_text(), path


def test_both_packages_know_the_same_metrics():
    """`hmm` must not import `trainer`, so the names stand twice."""
    assert PAPER_METRICS == METRICS
