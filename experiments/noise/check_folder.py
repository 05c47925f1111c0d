"""Checks that the files of a study's folder are complete and belong together."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from seedmap.errors import UserError
from seedmap.experiments.noise.predictions import Predictions
from seedmap.experiments.noise.variants import SOURCES, Variant, num_rows
from seedmap.experiments.runs import folder as run_folder

RECORDED = {"diverged": ("seed",), "first_apart": ("seed", "step"), "distance": ("seed", "step")}


def read_variants(folder: Path, noise: Any) -> tuple[list[Variant], list[str], int]:
    """Reads variants, notes and the number of roots of a study from its `config.json`.

    Raises:
        UserError: it does not say them.
    """
    try:
        variants = [Variant(**v | {"varied": tuple(v["varied"])}) for v in noise["variants"]]
        roots = noise.get("roots", 1)  # studies of former versions, and of one, do not say it
        complete = variants and all(map(_is_variant, variants)) and _is_count(roots) and roots > 0
        notes = noise["notes"]
        if complete and isinstance(notes, list) and all(isinstance(note, str) for note in notes):
            return variants, notes, roots
    except (TypeError, KeyError):
        pass
    raise UserError(
        f"{folder / run_folder.CONFIG}: its list of the study's variants is damaged; restore "
        "it, or make the study anew with `seedmap noise EXPERIMENT`"
    )


def _is_variant(variant: Variant) -> bool:
    numbers = all(map(_is_count, (variant.replicas, variant.fork)))
    return numbers and variant.replicas > 0 and set(variant.varied) <= set(SOURCES)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def check_together(
    folder: Path,
    variants: list[Variant],
    roots: int,
    dataset: xr.Dataset,
    params: Any,
    predictions: Predictions,
    barriers: np.ndarray,
) -> None:
    """Checks that all files are of the same replicas.

    Raises:
        UserError: one is not; the message names it.
    """
    count = roots * num_rows(variants)
    loss, logits, label = predictions.loss, predictions.logits, predictions.label
    num_test = loss.shape[-1] if loss.ndim else 0
    per_replica = {"loss": loss, "correct": predictions.correct}
    labels = (num_test,) if roots == 1 else (roots, num_test)
    belongs = {
        run_folder.METRICS: _is_recorded(dataset, count),
        run_folder.CHECKPOINT: all(leaf.shape[:1] == (count,) for leaf in jax.tree.leaves(params)),
        run_folder.PREDICTIONS: num_test > 0
        and all(_is_of(array, (count, num_test), "f") for array in per_replica.values())
        and (logits is None or logits.ndim == 3)
        and (logits is None or _is_of(logits, (count, num_test, logits.shape[-1]), "f"))
        and (label is None or _is_of(label, labels, "biu"))
        and all(_is_of(members, (num_test,), "biu") for members in predictions.groups.values()),
        run_folder.BARRIERS: barriers.ndim == 3
        and len(barriers) == len(variants)
        and barriers.shape[1] % roots == 0,
    }
    for name, good in belongs.items():
        if not good:
            raise UserError(
                f"{folder / name} is not of the {count} replicas that {run_folder.CONFIG} names; "
                "restore it, or make the study anew with `seedmap noise EXPERIMENT`"
            )


def _is_of(array: np.ndarray, shape: tuple[int, ...], kinds: str) -> bool:
    return array.shape == shape and array.dtype.kind in kinds


def _is_recorded(dataset: xr.Dataset, count: int) -> bool:
    complete = all(
        name in dataset and dataset[name].dims == dims for name, dims in RECORDED.items()
    )
    return (
        complete and dataset.sizes.get("seed") == count and {"step", "epoch"} <= set(dataset.coords)
    )
