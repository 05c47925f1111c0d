"""Rules of the whole source: who imports whom, how long functions are, who writes files."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESTRICTED = ROOT / "experiments" / "datasets" / "unpickle.py"  # names in a pickle reach nothing
FOLDERS = ("trainer", "hmm", "experiments")
FORBIDDEN = {"hmm": ("trainer", "experiments"), "trainer": ("hmm", "experiments")}


SOURCE = sorted(path for folder in ("src", *FOLDERS) for path in (ROOT / folder).rglob("*.py"))
MOST_LINES, MOST_PARAMETERS = 60, 16
ONE_WRITER = ROOT / "src" / "seedmap" / "files.py"
STREAMS = {  # files opened for writing elsewhere
    "experiments/processes/child.py": "what a process says goes there as it goes, through no draft",
}


def nodes(path):
    return ast.walk(ast.parse(path.read_text()))


def imported(path):
    """Dotted names of the modules that a file imports or imports from, also while it runs."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif called(node) in ("import_module", "__import__"):
            names.add(beginning(node.args[0]))
    return names


def called(node):
    """The last part of the name of what a call calls; None of other nodes."""
    if not isinstance(node, ast.Call):
        return None
    return getattr(node.func, "attr", getattr(node.func, "id", None))


def beginning(text):
    """A module's name, or the package it begins with if the rest is put in as it runs; or ""."""
    first = text.values[0] if isinstance(text, ast.JoinedStr) else text
    name = first.value if isinstance(first, ast.Constant) else ""
    if first is text:
        return name
    package = name.rpartition(".")[0]
    return package if "." in package else ""  # `seedmap` alone says nothing


def within(names, *packages):
    """Those of the names that are one of the packages or lie within one."""
    return {n for n in names if any(n == p or n.startswith(f"{p}.") for p in packages)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        names = imported(path)
        assert not within(names, *(f"seedmap.{p}" for p in FORBIDDEN[package])), path
        assert "" not in names, f"{path}: a module that only the running program knows"


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


def long_or_wide(path):
    """Functions of too many lines, without their docstrings, or too many parameters."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines, about = node.end_lineno - node.lineno + 1, node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= about.end_lineno - about.lineno + 1
            taken = node.args
            parameters = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
            parameters += [extra for extra in (taken.vararg, taken.kwarg) if extra]
            if lines > MOST_LINES or len(parameters) > MOST_PARAMETERS:
                yield node.name


def written_elsewhere(path):
    """Lines that write a file, but not through `seedmap.files`."""
    for node in nodes(path):
        if called(node) in ("write_text", "write_bytes"):
            by = getattr(node.func, "value", None)  # None: imported by name from `seedmap.files`
            if by is not None and getattr(by, "id", None) != "files":
                yield node.lineno
        elif called(node) in ("open", "fdopen"):
            words = [*node.args, *(keyword.value for keyword in node.keywords)]
            modes = [word.value for word in words if isinstance(word, ast.Constant)]
            if any(re.fullmatch("[rbt]*[wax+][rwaxbt+]*", str(mode)) for mode in modes):
                yield node.lineno


def test_functions_are_short_and_take_few_parameters():
    assert {str(path): found for path in SOURCE if (found := [*long_or_wide(path)])} == {}


def test_files_are_written_by_the_one_writer():
    """So each is whole or not there, and tests can stop a command before any of them."""
    writers = {path for path in SOURCE if [*written_elsewhere(path)]} - {ONE_WRITER}
    assert {str(path.relative_to(ROOT)) for path in writers} == {*STREAMS}


def test_the_platform_is_handed_in():
    """It is that of the devices or the mesh in use, which need not be JAX's default."""
    for path in SOURCE:
        assert "default_backend" not in path.read_text(), path


@pytest.mark.parametrize("package", ["trainer", "hmm"])
def test_libraries_speak_of_parameters_not_of_flags(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        assert re.findall(r"(?<![\w-])--[a-z][\w-]*", path.read_text()) == [], path


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "benchmarks" / "RESULTS.md", *(ROOT / "docs").rglob("*.md")],
    ids=lambda page: page.name,
)
def test_every_measurement_that_is_named_is_kept(page):
    for name in re.findall(r"benchmarks/[\w/]+\.py", page.read_text()):
        assert (ROOT / name).is_file(), name


def test_what_breaks_a_rule_is_seen(tmp_path):
    path = tmp_path / "wrong.py"
    body = "\n".join("    a = 1" for _ in range(MOST_LINES))
    path.write_text(
        f'def long():\n{body}\ndef short():\n    """Says\n\n    much."""\n{body[10:]}\n'
        f"def wide({', '.join(f'a{i}' for i in range(MOST_PARAMETERS))}, **rest): ...\n"
        f"def narrow({', '.join(f'a{i}' for i in range(MOST_PARAMETERS))}): ...\n"
    )
    assert [*long_or_wide(path)] == ["long", "wide"]
    wrong = ("Path(p).write_text(t)", "open(p, 'w')", "p.open('ab')", "p.open(mode='r+b')")
    right = (
        "files.write_text(p, t)",
        "write_text(p, t)",
        "open(p)",
        "p.open('rb')",
        "gzip.open(p)",
    )
    path.write_text("\n".join([*wrong, *right]))
    assert [*written_elsewhere(path)] == [1, 2, 3, 4]
    path.write_text(
        "import_module('seedmap.hmm.io')\nimportlib.import_module(f'seedmap.hmm.{x}')\n"
        "import_module(f'{x}.y')\nimport_module(f'seedmap.{x}')\nimport seedmap.trainer\n"
    )
    assert imported(path) == {"seedmap.hmm.io", "seedmap.hmm", "", "seedmap.trainer"}
