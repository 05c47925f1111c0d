"""The steps of a run between training (`runs.train`) and its report (`runs.report`).

fitted = fit_run(folder, FitConfig())      # hmm.npz, hmm.json, sweep.json, stability.json, `state`
mapped = map_run(fitted)                   # summary.json

Each step hands on what it has made, so that one command reads and computes everything once;
`runs.fitted.read_fitted` and `read_mapped` begin from the files of an earlier command.
"""

import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from seedmap import files, hmm
from seedmap.experiments.runs import folder as run_folder, ids, session
from seedmap.experiments.runs.analysis import Analysis, analyse
from seedmap.experiments.runs.dataset import check_usable, dataset_runs, seed_rows
from seedmap.experiments.runs.engines import (
    fit_beside,
    held_out_scores,
    make_fit,
    save_any_sweep,
)
from seedmap.experiments.runs.findings import (
    Findings,
    find_branches,
    find_out,
    resolution_of,
)
from seedmap.experiments.runs.fitted import Fitted, changed_config, read_fitted, read_run
from seedmap.experiments.runs.import_metrics import NewRun
from seedmap.experiments.runs.methods import compare_methods
from seedmap.experiments.runs.netcdf import write_netcdf
from seedmap.experiments.runs.robustness import stability
from seedmap.experiments.runs.settings import check_fit, check_threshold
from seedmap.experiments.runs.summary import (
    RunSummary,
    Seconds,
    SummaryParts,
    read_summary,
    summarise,
)
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.hmm.io import save_hmm
from seedmap.published import visit_notes
from seedmap.results import to_json
from seedmap.timings import timed
from seedmap.transaction import claim, transaction


@dataclass(frozen=True, eq=False)
class Mapped:
    """A fitted run and its training map.

    Attributes:
        fitted: the run.
        question: what the map was asked, the threshold filled in.
        analysis: what the HMM says about the runs on the map.
        findings: what the runs say beyond their states; None of a map read from files, see
            `findings_of`.
        summary: content of `summary.json`.
    """

    fitted: Fitted
    question: MapConfig
    analysis: Analysis
    findings: Findings | None
    summary: RunSummary

    @cached_property
    def drawn(self) -> hmm.DrawnMap:
        """The map that is drawn: one in which the named branches can be seen."""
        chosen, fitted = self.analysis.training_map, self.fitted
        if self.summary.resolution is None:
            return hmm.DrawnMap(chosen, (), tuple(self.summary.detours))
        rows = fitted.on_the_map
        decodings = {size: paths[rows] for size, paths in fitted.decodings.items()}
        return hmm.map_to_draw(chosen, self.summary.branches, self.analysis.sequences, decodings)


def copy_of(source: Path) -> NewRun:
    """Reads the metrics and the configuration of a run, to fit them anew elsewhere.

    Raises:
        UserError: the source is not a run, or its files are not of one training.
    """
    dataset, config = read_run(source)
    return NewRun(config, dataset.drop_vars("state", errors="ignore"))


def fit_run(
    folder: Path,
    config: FitConfig,
    callback: Callable[[int, int], None] | None = None,
    new: NewRun | None = None,
) -> Fitted:
    """Fits an HMM to a run's metrics and decodes every run.

    Writes `sweep.json`, `hmm.npz`, `hmm.json`, `stability.json`, the variable `state` of
    `metrics.nc`, and `maps.nc` but for Gaussian HMMs; the map of a former fit goes.

    Args:
        folder: a run folder with metrics.
        config: how to fit.
        callback: called with (fits or EM iterations done, in all), first before compilation.
        new: a run to fit, which replaces all that is in the folder; None: the one that is there.

    Raises:
        UserError: the folder has no metrics, a setting is out of range, or the data allow no fit.
    """
    started = time.perf_counter()
    check_fit(config)  # before the folder is read
    with session.in_place(folder, "fit") if new is None else claim(folder, "fit"):
        dataset, trained = read_run(folder) if new is None else (new.dataset, new.config)
        check_usable(dataset)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            runs = dataset_runs(dataset, config.metrics)
        with timed("fit"):
            made = make_fit(runs, config, callback)
            published = fit_beside(runs, config)
        notes = [str(w.message) for w in caught if w.category is UserWarning] + list(made.notes)
        fit_id = ids.fit_id(trained[ids.TRAINING], config, made.saved.parameters)
        made = replace(made.with_id(fit_id), notes=tuple(notes))
        changes = {"fit": asdict(config), "fit_notes": notes, ids.FIT: fit_id}
        changed = changed_config(
            ids.without_map(trained), changes, {"fit": time.perf_counter() - started}
        )
        result = Fitted(
            **vars(made),
            folder=folder,
            config=changed,
            dataset=_with_states(dataset, made.sequences, made.paths, fit_id),
            published=published and replace(published, fit_id=fit_id),
        )
        stale = (run_folder.MAPS, run_folder.PUBLISHED, *run_folder.FROM_MAP)
        _write_fit(result, stale if new is None else run_folder.OWN)
        return result


def _write_fit(fitted: Fitted, replaces: Collection[str]) -> None:
    """Writes a fitted run, in place of the named files of its folder."""
    with transaction(fitted.folder, replaces, "fit") as draft:
        save_any_sweep(draft / run_folder.SWEEP, fitted.sweep, fitted.saved.fit_id)
        save_hmm(draft, fitted.saved)
        files.write_json(draft / run_folder.STABILITY, fitted.stability)
        run_folder.write_dataset(draft, fitted.dataset)
        if fitted.published is not None:
            save_hmm(draft / run_folder.PUBLISHED, fitted.published)
        if fitted.decodings:
            write_netcdf(draft / run_folder.MAPS, _maps(fitted))
        files.write_json(draft / run_folder.CONFIG, fitted.config)


def _with_states(
    dataset: xr.Dataset, sequences: hmm.Sequences, paths: np.ndarray, fit_id: str
) -> xr.Dataset:
    """Returns the dataset with the decoded state of every seed and step, -1 without one."""
    state = _spread(dataset, sequences, paths, -1, np.int32)
    name = "decoded HMM state (Viterbi), -1 where there is none"
    attributes = {"long_name": name, ids.FIT: fit_id}
    return dataset.assign(state=(("seed", "step"), state, attributes))


def _maps(fitted: Fitted) -> xr.Dataset:
    """Returns the content of `maps.nc`."""
    dataset, sequences = fitted.dataset, fitted.sequences
    assert fitted.agreement is not None  # as wherever there are decodings of other sizes
    assert fitted.saved.model is not None
    sizes = list(fitted.decodings)
    states = [_spread(dataset, sequences, fitted.decodings[size], -1, np.int8) for size in sizes]
    agreement = _spread(dataset, sequences, fitted.agreement, np.nan, np.float32)
    long_name = (
        "decoded state of a map of each number of states, -1 where there is none; but for the "
        "chosen one, of runs without their lasting offsets, which are known when a run is over"
    )
    features = hmm.apply_scale(fitted.saved.model.scale, fitted.raw)
    imputed = _spread(dataset, sequences, features.imputed, False, bool)
    filled = "whether some metrics were missing, and were filled in by those that are there"
    sure = "share of the refits to resampled runs that agree with the state in metrics.nc"
    variables = {
        "state": (("num_states", "seed", "step"), np.stack(states), {"long_name": long_name}),
        "agreement": (("seed", "step"), agreement, {"long_name": sure}),
        "imputed": (("seed", "step"), imputed, {"long_name": filled}),
    }
    return xr.Dataset(
        variables,
        {"num_states": sizes, "seed": dataset.seed, "step": dataset.step},
        {ids.FIT: fitted.saved.fit_id},
    )


def _spread(
    dataset: xr.Dataset, sequences: hmm.Sequences, values: np.ndarray, nothing: float, dtype: type
) -> np.ndarray:
    """The values of the usable seeds in an array over all, float or int [seed, step]."""
    full: np.ndarray = np.full((dataset.sizes["seed"], dataset.sizes["step"]), nothing, dtype)
    full[seed_rows(dataset, sequences.runs), : values.shape[1]] = values
    return full


def analyse_fitted(fitted: Fitted, question: MapConfig) -> Analysis:
    """Analyses the runs on the map by the HMM of a fitted run."""
    rows = fitted.on_the_map
    return analyse(
        fitted.dataset,
        fitted.sequences.select(rows),
        fitted.saved.parameters,
        fitted.paths[rows],
        question,
        as_decoded=fitted.config["fit"].get("method") is not None,
    )


def map_run(fitted: Fitted, asked: MapConfig | None = None) -> Mapped:
    """Builds the training map of a fitted run and writes `summary.json`.

    Args:
        fitted: the run.
        asked: what to ask of it; by default convergence time at the experiment's threshold.

    Raises:
        UserError: the threshold is out of range, or the outcome is not recorded.
    """
    started = time.perf_counter()
    asked = MapConfig() if asked is None else asked
    check_threshold(asked.threshold)
    folder, config = fitted.folder, fitted.config
    question = replace(
        asked,
        threshold=config["threshold"] if asked.threshold is None else asked.threshold,
        censored=asked.censored or ("cap" if config["fit"].get("method") else "exclude"),
    )
    with timed("tests"):
        analysis = analyse_fitted(fitted, question)
        branches, headline = find_branches(fitted, analysis)
        findings = find_out(fitted, analysis, branches, question.outcome == "convergence")
    summary = summarise(
        fitted.dataset,
        analysis,
        question,
        SummaryParts(
            selection=fitted.saved.selection,
            scale=fitted.saved.z_score["per"],
            held_out=held_out_scores(fitted.saved, fitted.sweep, fitted.sequences),
            fit_notes=[*config["fit_notes"], *_notes_of_method(fitted, analysis)],
            odd=fitted.odd,
            branches=branches,
            headline=headline,
            resolution=resolution_of(fitted.sweep),
            findings=findings.summary,
            published=compare_methods(fitted, analysis, question),
        ),
    )
    robustness = stability(analysis, fitted.stability)
    seconds = {"analyse": time.perf_counter() - started}
    config = changed_config(config, {"map": asdict(question)}, seconds)
    times = {name: config["wall_seconds"].get(name) for name in Seconds.__dataclass_fields__}
    summary = replace(
        summary, stability=robustness, seconds=Seconds(**times), map_id=ids.map_id(config)
    )
    with transaction(folder, run_folder.FROM_MAP, "map") as draft:
        files.write_json(draft / run_folder.CONFIG, config)
        files.write_json(draft / run_folder.SUMMARY, to_json(summary))
    return Mapped(replace(fitted, config=config), question, analysis, findings, summary)


def _notes_of_method(fitted: Fitted, analysis: Analysis) -> list[str]:
    """What the published method tests of detours."""
    if fitted.config["fit"].get("method") is None:
        return []
    return visit_notes(analysis.paths, analysis.outcome, analysis.training_map.num_states)


def read_mapped(folder: Path) -> Mapped:
    """Reads a run that an earlier command has mapped; the analysis is done again.

    Raises:
        UserError: the folder is not a run, has no map yet, or its files are not of one map.
    """
    summary = read_summary(folder)
    fitted = read_fitted(folder)
    ids.check_map(folder, fitted.config, summary.map_id)
    question = MapConfig(**fitted.config["map"])
    analysis = analyse_fitted(fitted, question)
    return Mapped(fitted, question, analysis, None, summary)


def findings_of(mapped: Mapped) -> Findings:
    """Returns the findings of a mapped run, found again where it was read from files."""
    if mapped.findings is not None:
        return mapped.findings
    branches, by_time = tuple(mapped.summary.branches), mapped.question.outcome == "convergence"
    return find_out(mapped.fitted, mapped.analysis, branches, by_time)
