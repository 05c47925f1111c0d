"""JSON Schemas of the files that hold results: `schemas/`, made from the dataclasses.

python -m seedmap.experiments.report.result_schemas      # after a field has changed

A test holds the files equal to the dataclasses, and what the commands write to the files: a field
that is new or gone must be agreed to by making them anew.
"""

import json
from pathlib import Path

from seedmap import files
from seedmap.experiments.noise.backend.results import BackendSummary
from seedmap.experiments.noise.compare import StudyComparison
from seedmap.experiments.noise.results import StudySummary
from seedmap.experiments.overhead.results import OverheadSummary
from seedmap.experiments.plan.results import Plan
from seedmap.experiments.runs.baselines import Baselines
from seedmap.experiments.runs.compare import Comparison
from seedmap.experiments.runs.forecast import Forecasts
from seedmap.experiments.runs.robustness import FitStability
from seedmap.experiments.runs.summary import RunSummary
from seedmap.results import json_schema

FOLDER = Path(__file__).parent / "schemas"
KINDS = {
    "summary.json": RunSummary,
    "stability.json": FitStability,
    "forecast.json": Forecasts,
    "baselines.json": Baselines,
    "noise.json": StudySummary,
    "compare.json": Comparison,
    "noise_compare.json": StudyComparison,
    "backend.json": BackendSummary,
    "overhead.json": OverheadSummary,
    "plan.json": Plan,
}


def schema_path(name: str) -> Path:
    """Returns where the schema of a result file lies, by the file's name."""
    return FOLDER / name.replace(".json", ".schema.json")


def schema_text(name: str) -> str:
    """Returns the schema of a result file, as its own file has it."""
    return json.dumps({"title": name, **json_schema(KINDS[name])}, indent=1) + "\n"


if __name__ == "__main__":
    for file_name in KINDS:
        files.write_text(schema_path(file_name), schema_text(file_name))
