"""Checks that the files of a study's folder are complete and belong together."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from seedmap.errors import UserError
from seedmap.experiments.noise.predictions import Predictions
from seedmap.experiments.noise.variants import SOURCES, Variant
from seedmap.experiments.runs import folder as run_folder

RECORDED = {"diverged": ("seed",), "first_apart": ("seed", "step"), "distance": ("seed", "step")}


def read_variants(folder: Path, noise: Any) -> tuple[list[Variant], list[str]]:
    """Reads variants and notes of a study from its `config.json`.

    Raises:
        UserError: it does not say them.
    """
    try:
        variants = [Variant(**v | {"varied": tuple(v["varied"])}) for v in noise["variants"]]
        complete = variants and all(map(_is_variant, variants))
        notes = noise["notes"]
        if complete and isinstance(notes, list) and all(isinstance(note, str) for note in notes):
            return variants, notes
    except (TypeError, KeyError):
        pass
    raise UserError(
        f"{folder / run_folder.CONFIG}: its list of the study's variants is damaged; restore "
        "it, or make the study anew with `seedmap noise EXPERIMENT`"
    )


def _is_variant(variant: Variant) -> bool:
    numbers = all(isinstance(n, int) and n >= 0 for n in (variant.replicas, variant.fork))
    return numbers and variant.replicas > 0 and set(variant.varied) <= set(SOURCES)


def check_together(
    folder: Path,
    variants: list[Variant],
    dataset: xr.Dataset,
    params: Any,
    predictions: Predictions,
    barriers: np.ndarray,
) -> None:
    """Checks that all files are of the same replicas.

    Raises:
        UserError: one is not; the message names it.
    """
    count = sum(variant.replicas for variant in variants)
    loss, logits, label = predictions.loss, predictions.logits, predictions.label
    num_test = loss.shape[-1] if loss.ndim else 0
    per_replica = {"loss": loss, "correct": predictions.correct}
    per_test = {**({} if label is None else {"label": label}), **predictions.groups}
    belongs = {
        run_folder.METRICS: _is_recorded(dataset, count),
        run_folder.CHECKPOINT: all(leaf.shape[:1] == (count,) for leaf in jax.tree.leaves(params)),
        run_folder.PREDICTIONS: num_test > 0
        and all(_is_of(array, (count, num_test), "f") for array in per_replica.values())
        and (logits is None or logits.ndim == 3)
        and (logits is None or _is_of(logits, (count, num_test, logits.shape[-1]), "f"))
        and all(_is_of(array, (num_test,), "biu") for array in per_test.values()),
        run_folder.BARRIERS: barriers.ndim == 3 and len(barriers) == len(variants),
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
