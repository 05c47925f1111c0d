"""What is installed: one name, complete, and untouched by folders of the same names elsewhere."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
SOURCES = ("src", "trainer", "hmm", "experiments")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources, without network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        junk = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=junk)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [*PIP, "wheel", "--no-build-isolation", "--no-deps", "-w", target, source]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder with the wheel installed in it, dependencies apart."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "install", "--no-deps", "--target", folder, wheel], check=True)
    return folder


@pytest.fixture
def decoys(tmp_path):
    """A researcher's folder with files and folders of our names, none of which may be imported."""
    broken = "raise ImportError('imported from the working folder')\n"
    (tmp_path / "experiments").mkdir()
    for name in ("experiments/__init__.py", "trainer.py", "hmm.py"):
        (tmp_path / name).write_text(broken)
    return tmp_path


def run(*words, cwd, **variables):
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_a_wheel_holds_one_name_with_all_of_our_modules(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"seedmap"}
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")}
    for folder in SOURCES[1:]:
        paths = (ROOT / folder).rglob("*.py")
        ours |= {Path("seedmap") / path.relative_to(ROOT) for path in paths}
    assert {Path(name) for name in names if name.endswith(".py")} == ours
    assert "seedmap/py.typed" in names
    assert "seedmap/experiments/commands/flags.json" in names


def test_pinned_versions_run_on_the_oldest_python_that_is_admitted():
    """Of those that are installed as they are pinned; without the pins others may be."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    oldest = re.search(r'requires-python = ">=([\d.]+)', (ROOT / "pyproject.toml").read_text())[1]
    installed = [found for found in importlib.metadata.distributions() if found.name in pins]
    as_pinned = [found for found in installed if found.version == pins[found.name]]
    assert "jax" in [found.name for found in as_pinned]
    admitted = {found.name: found.metadata["Requires-Python"] or "" for found in as_pinned}
    later = {n: of for n, of in admitted.items() if not SpecifierSet(of).contains(f"{oldest}.0")}
    assert later == {}


def test_an_installed_wheel_works_among_decoys(site, decoys):
    rng = np.random.default_rng(0)
    (decoys / "runs").mkdir()
    for seed in range(6):
        rows = np.cumsum(rng.normal(size=(12, 2)), axis=0)
        lines = [f"{i},{a},{b}" for i, (a, b) in enumerate(rows)]
        (decoys / "runs" / f"{seed}.csv").write_text("\n".join(["step,l1,l2", *lines]) + "\n")
    path = os.pathsep.join([str(site), "."])
    where = run("-c", "import seedmap; print(seedmap.__file__)", cwd=decoys, PYTHONPATH=path)
    assert Path(where.stdout.strip()).is_relative_to(site)
    shown = run("-m", "seedmap", "--help", cwd=decoys, PYTHONPATH=path)
    assert (shown.returncode, shown.stderr) == (0, "")
    flags = "--states 1-2 --restarts 1 --iterations 2 --resamples 0 --prior weak".split()
    words = ("-m", "seedmap", "fit", "runs", "--out", "fitted", *flags)
    fitted = run(*words, cwd=decoys, PYTHONPATH=path)
    assert fitted.returncode == 0, fitted.stderr
    assert (decoys / "fitted" / "hmm.npz").is_file()


FIND = """from importlib.util import find_spec
print(*(find_spec(f"seedmap.{name}").name for name in ("trainer", "hmm", "experiments")))"""
IMPORT = """import seedmap.trainer as t, seedmap.hmm as h, seedmap.experiments as e
print(t.__name__, h.__name__, e.__name__)"""


@pytest.mark.parametrize(("where", "code"), [("root", FIND), ("decoys", IMPORT)])
def test_this_installation_works_from_any_folder(where, code, decoys):
    """The root's folders would hide the packages, not what these import: finding them is enough."""
    folder = ROOT if where == "root" else decoys
    done = run("-c", code, cwd=folder, PYTHONPATH=".")
    assert done.stdout == "seedmap.trainer seedmap.hmm seedmap.experiments\n", done.stderr


@pytest.mark.parametrize("name", ["trainer", "hmm", "experiments"])
def test_no_other_name_is_importable(name, tmp_path):
    done = run("-c", f"import {name}", cwd=tmp_path, PYTHONPATH="")
    assert f"No module named {name!r}" in done.stderr
