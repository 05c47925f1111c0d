"""Saves a fitted HMM without pickle, and exchanges it with hmmlearn and Dynamax.

A saved HMM is two files in a folder. `hmm.npz` holds the arrays `initial` [K], `transition` [K, K],
`means` [K, D] and `covariances` [K, D, D], and for a map's model or a common scale those of
`hmm.autoregressive.map_io` beside them. `hmm.json` says what the numbers mean: `format`,
`version`, `num_states`, and the fields of `SavedHMM` other than the parameters and the model.
Both have the `fit_id`, and `hmm.npz` the checksum of its arrays.
"""

import dataclasses
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.hmm.autoregressive.map_io import (
    model_arrays,
    model_from_arrays,
    scale_arrays,
    scale_from_arrays,
)
from seedmap.hmm.autoregressive.map_model import MapModel
from seedmap.hmm.features import Scale
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.selection.criteria import selection_table
from seedmap.hmm.selection.fits import Sweep
from seedmap.hmm.sequences import FIRST_RECORDS
from seedmap.identity import (
    CHECKSUM,
    Mark,
    check_content,
    check_marks,
    fit_again,
    identify,
    with_checksum,
)
from seedmap.results import to_json

if TYPE_CHECKING:
    from dynamax.hidden_markov_model.models.gaussian_hmm import ParamsGaussianHMM

FORMAT = "seedmap-hmm"
VERSION = 1

_JSON_FIELDS = {
    "metrics": list,
    "covariance": str,
    "z_score": dict,
    "train_runs": list,
    "validation_runs": list,
    "config": dict,
    "selection": list,
}


@dataclasses.dataclass(frozen=True)
class SavedHMM:
    """A fitted HMM with what is needed to use and to judge it.

    Attributes:
        parameters: float arrays, states in their final order.
        metrics: names of the D metrics.
        covariance: "full", "diagonal", "spherical" or "shared".
        z_score: what metrics are scaled by: {"first": 1000, "per": "run"}, as `hmm.z_score` does,
            or "per": "common", by `scale`.
        train_runs: names of the runs it was fitted to.
        validation_runs: names of the runs held out.
        config: settings of the sweep.
        selection: the selection table, a row per number of states.
        fit_id: of the fit, which all its files carry. Where it is None, `save_hmm` gives one that
            follows from the content; of a former version's files it is None.
        scale: of the training runs pooled, which any runs are scaled by; None: each run is by its
            own mean and spread.
        model: the map's model, of which `parameters` are the location (`location_model`); None for
            a Gaussian HMM.
    """

    parameters: Parameters
    metrics: tuple[str, ...]
    covariance: str
    z_score: Mapping[str, Any]
    train_runs: tuple[str, ...]
    validation_runs: tuple[str, ...]
    config: Mapping[str, Any]
    selection: list[dict[str, Any]]
    fit_id: str | None = None
    scale: Scale | None = None
    model: MapModel | None = None

    @classmethod
    def from_sweep(
        cls, sweep: Sweep, parameters: Parameters, scale: Scale | None = None
    ) -> "SavedHMM":
        """Collects what there is to save of a sweep and the parameters chosen from it.

        Args:
            sweep: gives the names, the settings and the selection table.
            parameters: of the chosen fit, states in their final order.
            scale: of the training runs, where metrics were not z-scored within each run.
        """
        return cls(
            parameters=parameters,
            metrics=sweep.metrics,
            covariance=sweep.config.covariance,
            z_score={"first": FIRST_RECORDS, "per": "run" if scale is None else "common"},
            train_runs=sweep.train_runs,
            validation_runs=sweep.validation_runs,
            config=dataclasses.asdict(sweep.config),
            selection=selection_table(sweep),
            scale=scale,
        )


@runtime_checkable
class HmmlearnGaussian(Protocol):
    """What `from_hmmlearn` reads of hmmlearn's GaussianHMM."""

    startprob_: np.ndarray
    transmat_: np.ndarray
    means_: np.ndarray
    covars_: np.ndarray


def save_hmm(folder: str | os.PathLike, saved: SavedHMM) -> None:
    """Writes `hmm.npz` and `hmm.json`, replacing earlier ones.

    Each file is written whole or not at all. Numbers that are not finite (the score of a degenerate
    fit) become null in the JSON.

    Args:
        folder: where to; created if need be.
        saved: the HMM. `config`, `z_score` and `selection` hold strings, numbers, booleans, None,
            and lists, tuples and dicts of them; numpy scalars count as numbers.

    Raises:
        UserError: parameters that are no HMM over these metrics.
        TypeError: a value that JSON cannot hold.
    """
    arrays = {name: np.asarray(array) for name, array in saved.parameters._asdict().items()}
    _check(arrays, len(saved.metrics), "parameters")
    if saved.scale is not None:
        arrays |= scale_arrays(saved.scale)
    if saved.model is not None:
        arrays |= model_arrays(saved.model)
    facts = {name: getattr(saved, name) for name in _JSON_FIELDS}
    header = {"format": FORMAT, "version": VERSION, "num_states": len(arrays["initial"])}
    content = to_json({**header, **facts})
    json.dumps(content)  # refuse what JSON cannot hold before a file is written
    fit_id = saved.fit_id or identify(content, arrays)
    folder = Path(folder)
    files.make_folder(folder)
    files.write_npz(folder / "hmm.npz", with_checksum({**arrays, "fit_id": np.array(fit_id)}))
    files.write_json(folder / "hmm.json", {**content, "fit_id": fit_id})


def load_hmm(folder: str | os.PathLike, mend: str | None = None) -> SavedHMM:
    """Reads what `save_hmm` wrote. Nothing is unpickled.

    Args:
        folder: that holds `hmm.npz` and `hmm.json`.
        mend: what the reader of a message about damaged files can do; None: fit `folder` again.

    Returns:
        The HMM; arrays with the dtype they were saved in, lists where tuples were in `config`,
        `z_score` and `selection`, and None where numbers were not finite.

    Raises:
        UserError: a file is missing, damaged or of another version, or the two do not fit.
    """
    folder, again = Path(folder), mend or fit_again(Path(folder))
    facts = _read_facts(folder / "hmm.json", again)
    arrays, fit_id = _read_arrays(folder / "hmm.npz", again)
    marks = [Mark(folder / "hmm.json", facts.get("fit_id")), Mark(folder / "hmm.npz", fit_id)]
    check_marks("fits", marks, again)
    _check(arrays, len(facts["metrics"]), str(folder / "hmm.npz"))
    if len(arrays["initial"]) != facts["num_states"]:
        raise UserError(f"{folder}: hmm.npz and hmm.json are of different fits: {again}")
    metrics, where = tuple(facts["metrics"]), str(folder / "hmm.npz")
    scale = scale_from_arrays(arrays, metrics, where)
    return SavedHMM(
        parameters=Parameters(**{name: arrays[name] for name in Parameters._fields}),
        metrics=metrics,
        covariance=facts["covariance"],
        z_score=facts["z_score"],
        train_runs=tuple(facts["train_runs"]),
        validation_runs=tuple(facts["validation_runs"]),
        config=facts["config"],
        selection=facts["selection"],
        fit_id=fit_id,
        scale=scale,
        model=model_from_arrays(arrays, scale, where),
    )


def to_hmmlearn(parameters: Parameters) -> dict[str, Float[np.ndarray, "..."]]:
    """Returns the attributes to set on an `hmmlearn.hmm.GaussianHMM(K, covariance_type="full")`.

    Args:
        parameters: of any covariance type; all are written as full matrices.

    Returns:
        float64 arrays startprob_ [K], transmat_ [K, K], means_ [K, D], covars_ [K, D, D].
        Probabilities are divided by their sums, which float32 leaves too far from 1 for hmmlearn.
    """
    initial, transition, means, covariances = (np.asarray(a, dtype=float) for a in parameters)
    return {
        "startprob_": initial / initial.sum(),
        "transmat_": transition / transition.sum(axis=1, keepdims=True),
        "means_": means,
        "covars_": covariances,
    }


def from_hmmlearn(model: HmmlearnGaussian) -> Parameters:
    """Reads the parameters of a fitted `hmmlearn.hmm.GaussianHMM` of any covariance type.

    Args:
        model: with startprob_, transmat_, means_, and covars_, which reads as full matrices.

    Returns:
        float64 parameters.

    Raises:
        UserError: the attributes are no HMM, for instance after a degenerate fit.
    """
    arrays = {
        "initial": np.asarray(model.startprob_, dtype=float),
        "transition": np.asarray(model.transmat_, dtype=float),
        "means": np.asarray(model.means_, dtype=float),
        "covariances": np.asarray(model.covars_, dtype=float),
    }
    num_states, num_metrics = arrays["means"].shape
    if len(arrays["covariances"]) == num_states * num_metrics:
        # hmmlearn 0.3.3 repeats each state's matrix D times after fitting a spherical model.
        arrays["covariances"] = arrays["covariances"][::num_metrics]
    _check(arrays, num_metrics, "hmmlearn model")
    return Parameters(**arrays)


def to_dynamax(parameters: Parameters) -> "ParamsGaussianHMM":
    """Returns parameters for Dynamax's `GaussianHMM`, as JAX arrays in JAX's precision."""
    from dynamax.hidden_markov_model.models import (
        gaussian_hmm,
    )  # 0.6 s, which `import hmm` need not

    initial, transition, means, covariances = (jnp.asarray(array) for array in parameters)
    return gaussian_hmm.ParamsGaussianHMM(
        initial=gaussian_hmm.ParamsStandardHMMInitialState(probs=initial),
        transitions=gaussian_hmm.ParamsStandardHMMTransitions(transition_matrix=transition),
        emissions=gaussian_hmm.ParamsGaussianHMMEmissions(means=means, covs=covariances),
    )


def from_dynamax(params: "ParamsGaussianHMM") -> Parameters:
    """Reads the parameters of Dynamax's `GaussianHMM`, as numpy arrays of the same dtype.

    Raises:
        UserError: the arrays are no HMM, for instance after a degenerate fit.
    """
    arrays = {
        "initial": np.asarray(params.initial.probs),
        "transition": np.asarray(params.transitions.transition_matrix),
        "means": np.asarray(params.emissions.means),
        "covariances": np.asarray(params.emissions.covs),
    }
    _check(arrays, arrays["means"].shape[-1], "Dynamax parameters")
    return Parameters(**arrays)


def _read_facts(path: Path, again: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: {again}")
    try:
        facts = limits.read_json(path)
    except UserError as error:
        raise UserError(f"{path} is damaged ({error}): {again}") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UserError(f'{path} is not a saved HMM: its "format" is not "{FORMAT}"')
    if facts.get("version") != VERSION:
        raise UserError(
            f"{path} has format version {facts.get('version')}, this program reads {VERSION}: "
            f"use the program that wrote it, or {again}"
        )
    for name, kind in {**_JSON_FIELDS, "num_states": int}.items():
        if not isinstance(facts.get(name), kind):
            raise UserError(f'{path} is damaged: "{name}" is missing or of the wrong type')
    return facts


def _read_arrays(path: Path, again: str) -> tuple[dict[str, np.ndarray], str | None]:
    """Returns the parameters, and the fit's id where there is one."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: {again}")
    try:
        with path.open("rb") as file, files.open_npz(file) as archive:
            arrays = {name: archive[name] for name in {*Parameters._fields, *archive.files}}
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): {again}") from None
    checksum = arrays.pop(CHECKSUM, None)
    check_content(path, arrays, checksum, again)
    fit_id = arrays.pop("fit_id", None)
    return arrays, None if fit_id is None else str(fit_id)


def _check(arrays: Mapping[str, np.ndarray], num_metrics: int, where: str) -> None:
    """Raises UserError unless the arrays are an HMM's."""
    num_states = len(np.atleast_1d(arrays["initial"]))
    shapes = {
        "initial": (num_states,),
        "transition": (num_states, num_states),
        "means": (num_states, num_metrics),
        "covariances": (num_states, num_metrics, num_metrics),
    }
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise UserError(
                f"{where}: {name} must be float {list(shape)}, not {array.dtype} "
                f"{list(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise UserError(f"{where}: {name} holds numbers that are not finite")
    for name in ("initial", "transition"):
        sums = arrays[name].sum(axis=-1)
        if (arrays[name] < 0).any() or not np.allclose(sums, 1, atol=1e-4):
            raise UserError(f"{where}: {name} must be probabilities that sum to 1")
