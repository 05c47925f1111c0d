"""The steps of a run, each a function of a run folder: train, fit, map, report.

train_run(experiment, config, folder)      # config.json, metrics.nc, checkpoint/
fit_run(folder, FitConfig())               # hmm.npz, hmm.json, sweep.json, `state`
map_run(folder)                            # summary.json
report_run(folder)                         # figures/, report.html
"""

import math
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import hmm
from experiments import run_folder
from experiments.analysis import (
    Analysis,
    analyse,
    check_usable,
    metric_sequences,
    seed_rows,
    summarise,
    time_unit,
)
from experiments.experiment import Experiment, FitConfig, MapConfig, TrainingConfig
from experiments.report import write_report
from hmm import figures
from hmm.dissimilarity import pairwise_dissimilarity
from hmm.io import SavedHMM, load_hmm, save_hmm
from hmm.run_table import listed
from hmm.stability import adjusted_rand_index, edge_inclusion, edge_recurrence
from hmm.sweep_io import load_sweep, save_sweep
from trainer import train
from trainer.run import check_seeds
from trainer.training import batches_per_epoch, check_sizes

MIN_SEEDS = 5
MAX_STATES = 1000
Z_SCORE = {"first": 1000, "per": "run"}


def read_config(folder: Path, *fields: str) -> dict[str, Any]:
    """`config.json` of a run, with the fields that training writes and the given ones.

    Raises:
        ValueError: the file is missing, is not JSON or lacks a field.
    """
    trained = run_folder.read_json(
        folder, run_folder.CONFIG, "train", ("experiment", "threshold", "wall_seconds")
    )
    return trained | run_folder.read_json(folder, run_folder.CONFIG, f"fit {folder}", fields)


def _update_config(folder: Path, changes: dict[str, Any], seconds: dict[str, float]) -> None:
    config = read_config(folder) | changes
    config["wall_seconds"] = config["wall_seconds"] | seconds
    run_folder.write_json(folder / run_folder.CONFIG, config)


def check_training(config: TrainingConfig) -> None:
    """Raises ValueError where the common hyperparameters are out of range."""
    for name, value in asdict(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{_flag(name)} is {value}; it must be a finite number")
    if config.seeds < MIN_SEEDS:
        raise ValueError(
            f"--seeds is {config.seeds}; the HMM needs at least {MIN_SEEDS} runs, some to train on "
            "and some held out"
        )
    if config.learning_rate <= 0:
        raise ValueError(f"--learning-rate is {config.learning_rate}; it must be above 0")
    if config.weight_decay < 0:
        raise ValueError(f"--weight-decay is {config.weight_decay}; it must not be negative")
    for name in ("epochs", "record_every"):
        if getattr(config, name) < 1:
            raise ValueError(f"{_flag(name)} is {getattr(config, name)}; it must be at least 1")
    if config.epochs % config.record_every:
        raise ValueError(
            f"--epochs {config.epochs} is not a multiple of --record-every {config.record_every}"
        )
    if config.epochs // config.record_every < 2:
        raise ValueError("--epochs must hold at least two records; lower --record-every")


def check_run(training: TrainingConfig, fit: FitConfig, asked: MapConfig) -> None:
    """Raises ValueError where a later step would refuse what training is about to make."""
    check_training(training)
    check_threshold(asked.threshold)
    states = max(sweep_config(fit).states)
    runs = [str(training.first_seed + i) for i in range(training.seeds)]
    records = min(training.epochs // training.record_every, Z_SCORE["first"])
    observations = len(split(runs, fit)[0]) * records
    if states > observations // 2:
        raise ValueError(
            f"--states: {states} states are more than the data allow: {observations} training "
            f"checkpoints allow at most {observations // 2}"
        )


def check_threshold(threshold: float | None) -> None:
    """Raises ValueError unless the threshold is a share of examples that can be passed."""
    if threshold is not None and not 0 <= threshold < 1:
        raise ValueError(f"--threshold is {threshold}; it must be at least 0 and below 1")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def train_run(
    experiment: Experiment,
    config: TrainingConfig,
    folder: Path,
    threshold: float,
    overwrite: bool = False,
    on_record: Callable[[int, dict[str, np.ndarray] | None], None] | None = None,
) -> None:
    """Trains all seeds and writes `config.json`, `metrics.nc` and `checkpoint/`.

    Args:
        experiment: what to train.
        config: its hyperparameters.
        folder: the run folder, made here.
        threshold: evaluation accuracy above which a seed has converged; only recorded here.
        overwrite: whether a run that stands there may be replaced.
        on_record: as in `trainer.train`.

    Raises:
        ValueError: a hyperparameter is out of range, or the folder is taken.
    """
    check_training(config)
    setup = experiment.setup(config)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    check_sizes(setup.task, config.batch_size, config.record_every)
    check_seeds(seeds)
    per_epoch = batches_per_epoch(setup.task.num_train, config.batch_size)
    content = {
        "experiment": experiment.name,
        "hyperparameters": asdict(config),
        "threshold": threshold,
        **run_folder.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": {},
    }
    with run_folder.claimed(folder, overwrite, content):
        run = train(
            setup.task,
            setup.optimizer,
            seeds,
            batch_size=config.batch_size,
            steps=config.epochs * per_epoch,
            record_every=config.record_every * per_epoch,
            on_record=on_record,
        )
        dataset = run.dataset.assign(
            diverged=("seed", run.diverged, {"long_name": "step at which a seed diverged, else -1"})
        )
        content["wall_seconds"] = {"compile": run.compile_seconds, "train": run.train_seconds}
        run_folder.clear(folder, run_folder.OWN)
        run_folder.write_json(folder / run_folder.CONFIG, content)
        run_folder.save_params(folder, run.params)
        run_folder.write_dataset(folder, dataset)


def parse_states(text: str) -> tuple[int, ...]:
    """Numbers of states from "1-8", "3" or "2,4,6".

    Raises:
        ValueError: the text is none of these, or a number is under 1 or above 1000.
    """
    states: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= low <= high <= MAX_STATES:
            raise ValueError(
                f"--states {text!r} is neither a rising range (1-8) nor a list (2,4,6) of numbers "
                f"from 1 to {MAX_STATES}"
            )
        states.update(range(low, high + 1))
    return tuple(sorted(states))


def sweep_config(config: FitConfig) -> hmm.SweepConfig:
    """The engine's settings, from the flags.

    Raises:
        ValueError: a flag is out of its range; all of `FitConfig` is checked here, so that nothing
            long is begun in vain.
    """
    if not 0 < config.validation_share < 1:
        raise ValueError(f"--validation-share is {config.validation_share}; it must be in (0, 1)")
    if not 0 <= config.fit_seed < 2**32:
        raise ValueError(f"--fit-seed is {config.fit_seed}; it must lie in 0 .. 2**32 - 1")
    if config.criterion not in (None, *hmm.CRITERIA):
        raise ValueError(
            f"--criterion {config.criterion!r} is unknown; choose one of {', '.join(hmm.CRITERIA)}"
        )
    if config.criterion == "kfold" and config.prior == "weak":
        raise ValueError("--criterion kfold needs --prior held-out, which leaves folds out")
    return hmm.SweepConfig(
        states=parse_states(config.states),
        restarts=config.restarts,
        iterations=config.iterations,
        covariance=config.covariance,
        prior=config.prior,
    )


def split(runs: Sequence[str], config: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the held-out runs.

    Raises:
        ValueError: a run to hold out does not exist, or none is left to train on.
    """
    if not config.validation_runs:
        return hmm.split_runs(len(runs), config.validation_share, config.fit_seed)
    unknown = [name for name in config.validation_runs if name not in runs]
    if unknown:
        raise ValueError(
            f"--validation-runs: there is no run {unknown[0]!r}; runs are {listed(runs)}"
        )
    held_out = np.isin(runs, config.validation_runs)
    if held_out.all():
        raise ValueError("--validation-runs names every run; leave some to train on")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def fit_run(
    folder: Path, config: FitConfig, callback: Callable[[int, int], None] | None = None
) -> None:
    """Fits the sweep to a run's metrics and decodes every run.

    Writes `sweep.json`, `hmm.npz`, `hmm.json` and the variable `state` of `metrics.nc`.

    Args:
        folder: a run folder with metrics.
        config: how to fit.
        callback: called with (EM iterations done, in all).

    Raises:
        ValueError: the folder has no metrics, a setting is out of range, or the data allow no fit.
    """
    started = time.perf_counter()
    settings = sweep_config(config)
    dataset = run_folder.read_dataset(folder)
    read_config(folder)
    check_usable(dataset)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        sequences = metric_sequences(dataset, config.metrics)
        sweep, other = fit_both_priors(sequences, settings, config, callback)
        chosen = hmm.select(sweep, config.criterion, config.one_standard_error)
        hmm.dominant_validation_runs(sweep)
    notes = [str(w.message) for w in caught if w.category is UserWarning]
    if chosen.num_states == max(settings.states) > min(settings.states):
        notes.append(f"the most states tried, {chosen.num_states}, were chosen: try more")
    paths = hmm.viterbi(chosen.parameters, sequences)
    order = hmm.canonical_order(paths, chosen.num_states)
    parameters, paths = hmm.permute(chosen.parameters, order), hmm.relabel(paths, order)
    save_sweep(folder / run_folder.SWEEP, sweep, chosen)
    save_hmm(
        folder,
        SavedHMM(
            parameters=parameters,
            metrics=sequences.metrics,
            covariance=settings.covariance,
            z_score=Z_SCORE,
            train_runs=sweep.train_runs,
            validation_runs=sweep.validation_runs,
            config=asdict(settings),
            selection=hmm.selection_table(sweep),
        ),
    )
    stability = restart_stability(sweep, chosen, sequences, paths)
    stability["priors"] = [
        prior_row(sweep, chosen, sequences, paths),
        prior_row(other, hmm.select(other), sequences, paths),
    ]
    run_folder.write_json(folder / run_folder.STABILITY, stability)
    run_folder.clear(folder, run_folder.FROM_MAP)
    run_folder.write_dataset(folder, _with_states(dataset, sequences, paths))
    seconds = {"fit": time.perf_counter() - started}
    _update_config(folder, {"fit": asdict(config), "fit_notes": notes}, seconds)


def fit_both_priors(
    sequences: hmm.Sequences,
    settings: hmm.SweepConfig,
    config: FitConfig,
    callback: Callable[[int, int], None] | None,
) -> tuple[hmm.Sweep, hmm.Sweep]:
    """The sweep that is asked for, and one under the other prior to compare it with.

    Both run the same compiled program, so the second costs a fraction of the first.
    """
    train_runs, held_out = split(sequences.runs, config)
    parts = sequences.select(train_runs), sequences.select(held_out)
    key = jax.random.key(config.fit_seed)
    sweep = hmm.fit_sweep(*parts, settings, key, callback)
    other = "weak" if settings.prior == "held-out" else "held-out"
    return sweep, hmm.fit_sweep(*parts, replace(settings, prior=other), key)


def prior_row(
    sweep: hmm.Sweep, chosen: hmm.Fit, sequences: hmm.Sequences, paths: np.ndarray
) -> dict[str, Any]:
    """What a prior gives; log-likelihoods are in nats per checkpoint."""
    decoded = hmm.viterbi(chosen.parameters, sequences)
    return {
        "prior": sweep.config.prior,
        "criterion": hmm.default_criterion(sweep),
        "scale": chosen.prior_scale,
        "num_states": chosen.num_states,
        "train": chosen.train_log_likelihood / sweep.num_observations_train,
        "held_out_mean": chosen.validation_log_likelihood / sweep.num_observations_validation,
        "held_out_median": chosen.robust_log_likelihood / sweep.num_observations_validation,
        "adjusted_rand": adjusted_rand_index(paths, decoded),
    }


def restart_stability(
    sweep: hmm.Sweep, chosen: hmm.Fit, sequences: hmm.Sequences, paths: np.ndarray
) -> dict[str, Any]:
    """How alike the chosen number of states' other restarts decode the runs.

    Returns:
        `adjusted_rand`: of each other restart that did not degenerate with the chosen one, in the
        order of restarts; `edges`: [source, target], the share of these restarts that have each
        edge, states matched by their decodings; null where there is no other restart.
    """
    others = [
        hmm.viterbi(fit.parameters, sequences)
        for fit in sweep.fits
        if fit.num_states == chosen.num_states
        and fit.restart != chosen.restart
        and not fit.degenerate
    ]
    recurrence = edge_recurrence(paths, others, chosen.num_states) if others else None
    agreement = [adjusted_rand_index(paths, other) for other in others]
    return {"adjusted_rand": agreement, "edges": recurrence}


def _with_states(dataset, sequences: hmm.Sequences, paths: np.ndarray):
    """The dataset with the decoded state of every seed and step, -1 where there is none."""
    state = np.full((dataset.sizes["seed"], dataset.sizes["step"]), -1, dtype=np.int32)
    state[seed_rows(dataset, sequences.runs), : paths.shape[1]] = paths
    attributes = {"long_name": "decoded HMM state (Viterbi), -1 where there is none"}
    return dataset.assign(state=(("seed", "step"), state, attributes))


def _load_analysis(folder: Path, asked: MapConfig | None):
    """A fitted run folder and what it says: dataset, config, question, HMM, analysis.

    Without a question, the one that the last `map_run` recorded.
    """
    dataset = run_folder.read_dataset(folder)
    if "state" not in dataset:
        raise ValueError(f"{folder} holds no fitted HMM; make one with `seedmap fit {folder}`")
    config = read_config(folder, "fit_notes")
    saved = load_hmm(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the fit has told of them
        sequences = metric_sequences(dataset, saved.metrics)
    rows = seed_rows(dataset, sequences.runs)
    paths = dataset.state.values[rows, : sequences.values.shape[1]]
    question = _question(asked, config)
    analysis = analyse(dataset, sequences, saved.parameters, paths, question)
    return dataset, config, question, saved, analysis


def _question(asked: MapConfig | None, config: dict[str, Any]) -> MapConfig:
    if asked is None:
        return MapConfig(**config["map"])
    if asked.threshold is None:
        return replace(asked, threshold=config["threshold"])
    return asked


def map_run(folder: Path, asked: MapConfig | None = None) -> dict[str, Any]:
    """Builds the training map of a fitted run and writes `summary.json`.

    Args:
        folder: a run folder with a fitted HMM.
        asked: what to ask of it; by default convergence time at the experiment's threshold.

    Returns:
        The summary (the README describes its fields).

    Raises:
        ValueError: the folder is not a run, or is not fitted yet.
    """
    started = time.perf_counter()
    check_threshold(asked.threshold if asked is not None else None)
    loaded = _load_analysis(folder, asked if asked is not None else MapConfig())
    dataset, config, question, saved, analysis = loaded
    sweep, chosen = load_sweep(folder / run_folder.SWEEP)
    lengths = dict(zip(analysis.sequences.runs, analysis.sequences.lengths, strict=True))
    scores = zip(sweep.validation_runs, chosen.validation_run_log_likelihood, strict=True)
    held_out = {run: score / lengths[run] for run, score in scores}
    summary = summarise(dataset, analysis, saved.selection, question, config["fit_notes"], held_out)
    restarts = run_folder.read_json(
        folder, run_folder.STABILITY, f"fit {folder}", ("adjusted_rand", "edges", "priors")
    )
    summary["stability"] = _stability(analysis, restarts)
    _update_config(folder, {"map": asdict(question)}, {"analyse": time.perf_counter() - started})
    seconds = read_config(folder)["wall_seconds"]
    summary["seconds"] = {
        name: seconds.get(name) for name in ("compile", "train", "fit", "analyse")
    }
    run_folder.clear(folder, run_folder.FROM_MAP)
    run_folder.write_json(folder / run_folder.SUMMARY, summary)
    return run_folder.json_ready(summary)


def _stability(analysis: Analysis, restarts: dict[str, Any]) -> dict[str, Any]:
    """Agreement of restarts, and how often each edge comes back."""
    inclusion = edge_inclusion(analysis.paths, analysis.training_map.num_states)
    recurrence = restarts["edges"]
    return {
        "adjusted_rand": restarts["adjusted_rand"],
        "priors": restarts["priors"],
        "edges": [
            {
                "from": edge.source,
                "to": edge.target,
                "restarts": recurrence and recurrence[edge.source][edge.target],
                "bootstrap": inclusion[edge.source, edge.target],
            }
            for edge in analysis.training_map.edges
        ],
    }


def make_figures(folder: Path) -> dict[str, Figure]:
    """All figures of a fitted run, by name."""
    dataset, _, question, _, analysis = _load_analysis(folder, None)
    unit = time_unit(dataset)
    sweep, chosen = load_sweep(folder / run_folder.SWEEP)
    runs, num_states = analysis.sequences.runs, analysis.training_map.num_states
    first = slice(analysis.paths.shape[1])
    usable = dataset.isel(seed=seed_rows(dataset, runs), step=first)
    times = usable[unit].values.astype(float)
    when = (times, analysis.run_convergence, runs, num_states, unit)
    lengths = dict(zip(runs, analysis.sequences.lengths, strict=True))
    curves = {
        kind: {
            part: usable[f"{part}_{kind}"].values
            for part in ("train", "eval")
            if f"{part}_{kind}" in usable
        }
        for kind in ("loss", "accuracy")
    }
    by_time = question.outcome == "convergence"
    measure = f"{unit}s later than the mean run" if by_time else f"{question.outcome} over the mean"
    drawn = {
        "training_map": figures.plot_training_map(analysis.training_map, analysis.detours),
        "state_raster": figures.plot_state_raster(analysis.paths, *when),
        "model_selection": figures.plot_model_selection(sweep, chosen.num_states),
        "held_out": figures.plot_held_out(
            chosen.validation_run_log_likelihood,
            np.array([lengths[name] for name in sweep.validation_runs]),
            sweep.validation_runs,
        ),
        "convergence": figures.plot_convergence(analysis.convergence, question.threshold, unit),
        "coefficients": figures.plot_coefficients(analysis.regression, analysis.detours, measure),
        "dissimilarity": figures.plot_dissimilarity(
            pairwise_dissimilarity(analysis.bag, "discrete"), runs
        ),
    }
    if curves["loss"]:  # runs trained elsewhere may come without
        losses = figures.plot_losses(curves["loss"], curves["accuracy"], analysis.paths, *when)
        drawn["losses"] = losses
    return drawn


def report_run(folder: Path) -> Path:
    """Draws every figure and writes `report.html`; returns its path.

    Raises:
        ValueError: the folder is not a run, or has no map yet.
    """
    started = time.perf_counter()
    summary = run_folder.read_json(folder, run_folder.SUMMARY, f"map {folder}", ("notes",))
    read_config(folder, "map")
    drawn = make_figures(folder)
    paths = {
        name: figures.save(figure, folder / run_folder.FIGURES / f"{name}.png")
        for name, figure in drawn.items()
    }
    config = read_config(folder)
    report = write_report(
        folder / run_folder.REPORT,
        f"Training map of {config['experiment']}",
        summary,
        config,
        paths,
        summary["notes"],
    )
    _update_config(folder, {}, {"report": time.perf_counter() - started})
    return report
