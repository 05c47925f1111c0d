"""The packages depend on each other one way only: hmm and trainer know nothing of experiments."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESTRICTED = ROOT / "experiments" / "datasets" / "unpickle.py"  # names in a pickle reach nothing
FOLDERS = ("trainer", "hmm", "experiments")
FORBIDDEN = {"hmm": ("trainer", "experiments"), "trainer": ("hmm", "experiments")}


def imported(path):
    """Dotted names of the modules that a file imports or imports from."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def within(names, *packages):
    """Those of the names that are one of the packages or lie within one."""
    return {n for n in names if any(n == p or n.startswith(f"{p}.") for p in packages)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not within(imported(path), *(f"seedmap.{p}" for p in FORBIDDEN[package])), path


@pytest.mark.parametrize("folder", [*FOLDERS, "src", "tests", "benchmarks"])
def test_there_is_one_name_to_import(folder):
    """In the repository's root `import trainer` would find the folder as a second module."""
    for path in (ROOT / folder).rglob("*.py"):
        assert not within(imported(path), *FOLDERS), path


@pytest.mark.parametrize("package", FOLDERS)
def test_nothing_is_pickled(package):
    for path in (ROOT / package).rglob("*.py"):
        if path == RESTRICTED:
            assert "pickle.load" not in path.read_text(), path
            continue
        picklers = within(imported(path), "pickle", "cloudpickle", "joblib", "dill", "shelve")
        assert not picklers, path
        assert "allow_pickle=True" not in path.read_text(), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_is_a_package(folder):
    """setup.py finds packages by their `__init__.py`; others would not be installed."""
    for path in (ROOT / folder).rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path


PACKAGES = sorted(
    str(path.parent.relative_to(ROOT)).replace("/", ".")
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("__init__.py")
)


@pytest.mark.parametrize("package", ["", *PACKAGES])
def test_no_function_shadows_a_module(package):
    """`from package import name` gives one thing whatever was imported before."""
    module = importlib.import_module(f"seedmap.{package}".rstrip("."))
    files = {entry.name for entry in pkgutil.iter_modules(module.__path__)}
    exported = getattr(module, "__all__", vars(module))
    assert not [name for name in exported if name in files and callable(getattr(module, name))]
