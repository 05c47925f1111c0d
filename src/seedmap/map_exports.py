"""A map for other programs: CSV tables, TensorBoard, Weights & Biases."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seedmap import files
from seedmap.errors import UserError
from seedmap.map_fitting import MapFit
from seedmap.text import changes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from seedmap.mapping import Map

PICTURE = "training map"


def map_frames(m: "Map") -> "dict[str, pd.DataFrame]":
    """Returns a map as tables: "runs", "states" (a row a record) and "edges"."""
    import pandas as pd

    runs, paths = m.fit.runs, m.paths
    rows: dict[str, Any] = {
        "run": runs.names,
        "records": (paths >= 0).sum(1),
        "path": [" ".join(map(str, _visits(path))) for path in paths],
        "diverged": runs.diverged,
        "odd": np.isin(runs.names, m.odd),
    }
    if runs.criterion is not None:
        rows["convergence"] = runs.convergence
    run, time = np.nonzero(paths >= 0)
    states = pd.DataFrame(
        {
            "run": np.array(runs.names, object)[run],
            runs.unit: runs.steps[run, time],
            "state": paths[run, time],
        }
    )
    if m.names:
        states["name"] = states["state"].map(lambda state: m.names.get(state, ""))
    edges = [
        {
            "from": edge.source,
            "to": edge.target,
            "runs": edge.num_runs,
            "probability": edge.probability,
            "changes": changes(edge.top_features),
        }
        for edge in m.edges
    ]
    columns = ["from", "to", "runs", "probability", "changes"]
    arrows = pd.DataFrame(edges, None, columns)
    for end in ("from", "to") if m.names else ():
        arrows[f"{end}_name"] = arrows[end].map(lambda state: m.names.get(state, ""))
    return {"runs": pd.DataFrame(rows), "states": states, "edges": arrows}


def to_xarray(m: "Map") -> "xr.DataTree":
    """Returns a map as one labelled tree.

    Returns:
        Groups `runs` (metrics [run, record, metric], step and state [run, record], what became of
        each run), `states` (state_name, share of records, visits, and mean [state, metric] in
        standard deviations), `edges`, and of the default map `sizes` (what speaks for each
        number of states, and state [num_states, run, record]); the headline and the notes are
        attributes.
    """
    import xarray as xr

    runs, drawn, paths = m.fit.runs, m.analysis.training_map, m.paths
    records = paths.shape[1]
    groups = {
        "runs": xr.Dataset(
            {
                "metrics": (("run", "record", "metric"), runs.sequences.values[:, :records]),
                runs.unit: (("run", "record"), runs.steps[:, :records]),
                "state": (("run", "record"), paths),
                "convergence": ("run", runs.convergence),
                "diverged": ("run", runs.diverged),
                "odd": ("run", np.isin(runs.names, m.odd)),
            },
            {"run": list(runs.names), "metric": list(runs.metrics)},
        ),
        "states": xr.Dataset(
            {
                "state_name": ("state", [m.names.get(k, "") for k in range(m.num_states)]),
                "share": ("state", drawn.occupancy),
                "visits": ("state", drawn.visits),
                "mean": (("state", "metric"), np.asarray(m.fit.parameters.means)),
            },
            {"state": np.arange(m.num_states), "metric": list(runs.metrics)},
        ),
        "edges": xr.Dataset(
            {
                "source": ("edge", [edge.source for edge in m.edges]),
                "target": ("edge", [edge.target for edge in m.edges]),
                "num_runs": ("edge", [edge.num_runs for edge in m.edges]),
                "probability": ("edge", [edge.probability for edge in m.edges]),
            }
        ),
    }
    if isinstance(m.fit, MapFit):
        groups["sizes"] = _sizes(m.fit)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {"headline": m.headline, "notes": list(m.notes), "num_states": m.num_states}
    return tree


def _sizes(fit: MapFit) -> "xr.Dataset":
    """What was tried: every number of states that runs were decoded with."""
    import xarray as xr

    tried = {row["num_states"]: row for row in fit.candidates}
    sizes = list(fit.decodings)
    numbers = {
        key: ("num_states", [tried.get(size, {}).get(key) for size in sizes])
        for key in ("bic", "icl", "agreement", "chance")
    }
    paths = np.stack([fit.decodings[size] for size in sizes])
    known = {key: (dim, np.array(values, float)) for key, (dim, values) in numbers.items()}
    return xr.Dataset(
        {**known, "state": (("num_states", "run", "record"), paths)},
        {"num_states": sizes, "run": list(fit.runs.names)},
    )


def _visits(path: np.ndarray) -> np.ndarray:
    """The states of a path in the order of their visits, stays left out."""
    own = path[path >= 0]
    return own[np.concatenate([[True], np.diff(own) != 0])] if len(own) else own


def to_csv(m: "Map", folder: str | os.PathLike[str]) -> None:
    """Writes `runs.csv`, `states.csv` and `edges.csv` (`map_frames`)."""
    files.make_folder(Path(folder))
    for name, frame in map_frames(m).items():
        files.write_text(
            Path(folder) / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n")
        )


def to_tensorboard(m: "Map", folder: str | os.PathLike[str]) -> None:
    """Writes the state of every run as the scalar `state`, a folder each, and the map as a picture.

    Steps that are no whole numbers, such as parts of epochs, are counted as records instead.

    Raises:
        UserError: tensorboardX is not installed, or two runs would have one folder.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError(
            "to_tensorboard needs tensorboardX: pip install 'seedmap[tensorboard]'"
        ) from None
    runs, paths = m.fit.runs, m.paths
    folders = [re.sub(r"[^\w.-]|^\.+", "_", name) for name in runs.names]
    if len(set(folders)) < len(folders):
        raise UserError(f"runs would have one folder in {folder}; rename them: {folders[:20]}")
    steps = runs.steps[:, : paths.shape[1]]
    integral = not (steps % 1 > 0).any()
    base = Path(folder)
    files.announce("write", base)
    for name, path, own in zip(folders, paths, steps, strict=True):
        with SummaryWriter(str(base / name)) as writer:
            for record in np.flatnonzero(path >= 0):
                writer.add_scalar(
                    "state", path[record], int(own[record]) if integral else int(record)
                )
    with SummaryWriter(str(base)) as writer:
        writer.add_figure(PICTURE, m.plot(), close=True)


def to_wandb(m: "Map", run: Any) -> None:
    """Logs the state of every run at each step, `state/RUN`, and the map as a picture.

    Args:
        m: the map.
        run: what `wandb.init` has returned.

    Raises:
        UserError: wandb is not installed, or this is no such run.
    """
    if not callable(getattr(run, "log", None)):
        raise UserError(f"to_wandb takes what wandb.init returned; got {type(run).__name__}")
    try:
        import wandb
    except ImportError:
        raise UserError("to_wandb needs wandb: pip install wandb") from None
    states = map_frames(m)["states"]
    unit = m.fit.runs.unit
    for step, records in states.groupby(unit, sort=True):
        logged = {f"state/{r}": int(s) for r, s in zip(records.run, records.state, strict=True)}
        run.log({unit: float(step), **logged})
    run.log({PICTURE: wandb.Image(m.plot())})
