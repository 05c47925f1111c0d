"""The notebooks run from top to bottom, show their figures, and are kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
EXPECTED = {  # name -> pictures, words that are printed
    "checkpoints": (1, ("states",)),
    "noise_by_source": (1, ("CONTROL is exact: True", "accumulation")),
    "own_frame": (1, ("2 states", "0 -> 1: 20 runs")),
    "own_task": (1, ("converged at steps",)),
    "pytorch_recorder": (2, ("converged at steps", "states", "too few runs")),
    "quickstart": (4, ("of 10 seeds converged",)),
    "reading_a_map": (1, ("published: ", "forks: True", "default: ", "forks: False", "support")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter client itself
def test_a_notebook_runs_and_draws_its_figures(name, tmp_path):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    images, words = EXPECTED[name]
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == images
    printed = "".join(o["text"] for o in outputs if o.get("name") == "stdout")
    assert all(word in printed for word in words), printed
    assert not any(o.get("name") == "stderr" for o in outputs)


def test_every_notebook_is_run():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_notebook_is_committed_without_outputs(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
