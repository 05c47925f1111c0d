"""Many fits to the same runs: queued, and run in lanes of a compiled program until each is done."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.cores import threads_on
from seedmap.hmm.autoregressive.em import (
    Progress,
    advance,
    evaluate,
    log_emissions,
    settle,
    start,
)
from seedmap.hmm.autoregressive.emission import NEUTRAL, num_components
from seedmap.hmm.autoregressive.model import (
    REGULARISATION,
    Parameters,
    Question,
    Records,
    Regularisation,
)
from seedmap.hmm.autoregressive.records import padded
from seedmap.hmm.em.threads import side_by_side

_FEW_STATES, _STATES = 4, 10  # states are padded to the former, else to multiples of the latter
LANES = 4  # fits that advance together: they fit the cache, and few stand idle at the end
_ITERATIONS = 8  # between two looks at which fits are done
_THREADS = 4  # at most


@dataclass(frozen=True, eq=False)
class Job:
    """One fit to make.

    Attributes:
        num_states: K.
        labels: int8 [run, time], the state of each record that EM starts from.
        run_weights: float64 [run], how much each run counts; 0 holds it out.
        tempering: tau.
        iterations: of EM at most.
    """

    num_states: int
    labels: Int[np.ndarray, "run time"]
    run_weights: Float[np.ndarray, " run"]
    tempering: float
    iterations: int


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model makes of all runs.

    Attributes:
        run_log_likelihood: float64 [run], tempered, of the records from the second on, in nats.
        path_log_likelihood: float64 [run], tempered, of a run together with its best path.
        paths: int8 [run, time], the best path of every run, -1 on padding.
    """

    run_log_likelihood: Float[np.ndarray, " run"]
    path_log_likelihood: Float[np.ndarray, " run"]
    paths: Int[np.ndarray, "run time"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted(Scored):
    """One fit, its states in any order.

    Attributes:
        parameters: float64, without padding.
        tempering: tau.
        score: tempered log-likelihood per record over the runs it was fitted to, by weight.
        iterations: of EM made.
    """

    parameters: Parameters
    tempering: float
    score: float
    iterations: int


@contextmanager
def precision(platform: str | None = None):
    """Has JAX work in float64 on a CPU and in its own precision elsewhere, products in full.

    Args:
        platform: that is computed on or compiled for; None: where JAX computes by default.
    """
    if platform is None:
        (device,) = jax.device_put(np.zeros(())).devices()  # nothing to compile for it
        platform = device.platform
    wide = jax.enable_x64(True) if platform == "cpu" else nullcontext()
    with wide, jax.default_matmul_precision("highest"):
        yield


def make_fits(
    records: Records,
    mask: Bool[np.ndarray, "run time"],
    jobs: Sequence[Job],
    regularisation: Regularisation = REGULARISATION,
    report: Callable[[int], None] = lambda fits: None,
) -> list[Fitted]:
    """Returns the fits of the jobs, in their order.

    Args:
        records: the runs, in the precision to work in.
        mask: bool [run, time], False on padding.
        jobs: what to fit; any number, as they take turns in lanes.
        regularisation: what keeps states of few records sound.
        report: called with 1 after every fit, from any thread.
    """
    if not jobs:
        return []
    threads = num_threads(records)

    def work(batch: tuple[int, list[int]]) -> dict[int, Fitted]:
        size, mine = batch
        return _in_lanes(records, mask, {i: jobs[i] for i in mine}, size, regularisation, report)

    batches = []
    sizes = [padded_states(job.num_states) for job in jobs]
    for size in sorted({*sizes}):
        mine = [i for i, own in enumerate(sizes) if own == size]
        batches += [(size, mine[k::threads]) for k in range(threads) if mine[k::threads]]
    by_job: dict[int, Fitted] = {}
    for batch_fits in side_by_side(work, batches, threads):
        by_job |= batch_fits
    return [by_job[i] for i in range(len(jobs))]


def fits_of_states(
    records: Records,
    mask: Bool[np.ndarray, "run time"],
    jobs: Sequence[Job],
    regularisation: Regularisation = REGULARISATION,
) -> list[Fitted]:
    """Returns fits whose states are given: the M step of each job's labels, and no iteration.

    Densities are those of the records here, also where states were found in others, such as the
    same runs without their offsets: then each is marginal over what was taken off.

    Args:
        records: the runs, in the precision to work in.
        mask: bool [run, time], False on padding.
        jobs: labels are the states; iterations are not looked at.
        regularisation: what keeps states of few records sound.
    """
    ended: dict[int, Progress] = {}
    for begin in range(0, len(jobs), LANES):
        asked = [*jobs[begin : begin + LANES]]
        size = padded_states(max(job.num_states for job in asked))
        lanes = asked + [asked[-1]] * (LANES - len(asked))
        question, labels = _question(records, lanes, size), _labels(records, lanes)
        progress = jax.device_get(settle(records, question, labels, regularisation))
        for lane in range(len(asked)):
            ended[begin + lane] = jax.tree.map(lambda a, lane=lane: a[lane], progress)
    made = _fitted(records, mask, dict(enumerate(jobs)), ended)
    return [made[i] for i in range(len(jobs))]


def num_threads(records: Records) -> int:
    """Returns how many batches to run side by side on the device that holds the records."""
    (device,) = records.products.devices()
    return min(_THREADS, threads_on(device))


def padded_states(num_states: int) -> int:
    """Returns the number of states that a fit is padded to.

    Two programs for a map and its search for branches: most fits have few states.
    """
    return _FEW_STATES if num_states <= _FEW_STATES else padded(num_states, _STATES)


def _in_lanes(records, mask, jobs: dict[int, Job], size: int, regularisation, report):
    """The fits of some jobs whose numbers of states are padded to `size`."""
    waiting, held = deque(jobs), np.full(LANES, -1)
    progress: Progress | None = None
    ended: dict[int, Progress] = {}
    while waiting or (held >= 0).any():
        new = np.flatnonzero(held < 0)[: len(waiting)]
        held[new] = [waiting.popleft() for _ in new]
        asked = [jobs[job] for job in np.where(held < 0, held.max(), held)]
        question = _question(records, asked, size)
        if len(new):
            begun = start(records, question, _labels(records, asked), regularisation)
            progress = _put(progress, jax.device_get(begun), new)
        assert progress is not None
        progress = progress._replace(done=progress.done | (held < 0))
        most = np.array([job.iterations for job in asked], np.int32)
        call = (records, question, regularisation, progress, most, np.int32(_ITERATIONS))
        progress = jax.device_get(advance(*call))
        for lane in np.flatnonzero(progress.done & (held >= 0)):
            ended[held[lane]] = jax.tree.map(lambda a, lane=lane: a[lane], progress)
            report(1)
            held[lane] = -1
    return _fitted(records, mask, jobs, ended)


def _fitted(records, mask, jobs: dict[int, Job], ended: dict[int, Progress]):
    """The fits that have ended, scored."""
    size = int(records.num_components)
    names = list(ended)
    models = [_unpad(ended[i].parameters, jobs[i].num_states, size) for i in names]
    scores = score_models(records, mask, models, [jobs[i].tempering for i in names])
    fits = {}
    for i, model, scored in zip(names, models, scores, strict=True):
        weights = jobs[i].run_weights
        score = float(weights @ scored.run_log_likelihood / (weights @ mask[:, 1:].sum(1)))
        fits[i] = Fitted(
            **vars(scored),
            parameters=model,
            tempering=jobs[i].tempering,
            score=score,
            iterations=int(ended[i].iterations),
        )
    return fits


def _put(old: Progress | None, new: Progress, lanes: np.ndarray) -> Progress:
    """`old` with some lanes from `new`."""
    if old is None:
        return new
    fresh = np.isin(np.arange(len(new.done)), lanes)
    return jax.tree.map(
        lambda a, b: np.where(fresh.reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old
    )


def _question(records: Records, jobs: list[Job], size: int) -> Question:
    """What the jobs ask, in the precision of the records."""
    dtype = records.products.dtype
    spare = records.mask.shape[1] - len(jobs[0].run_weights)
    return Question(
        np.array([np.arange(size) < job.num_states for job in jobs]),
        np.array([np.pad(job.run_weights, (0, spare)) for job in jobs], dtype),
        np.array([job.tempering for job in jobs], dtype),
    )


def _labels(records: Records, jobs: list[Job]) -> np.ndarray:
    """The states to start from, int8 [lane, time, run], those of the first records left out."""
    num_steps, num_runs = records.mask.shape
    labels = np.zeros((len(jobs), num_steps, num_runs), np.int8)
    for row, job in zip(labels, jobs, strict=True):
        known = job.labels[:, 1:].T
        row[: known.shape[0], : known.shape[1]] = known
    return labels


def score_models(
    records: Records,
    mask: Bool[np.ndarray, "run time"],
    models: Sequence[Parameters],
    temperings: Sequence[float],
) -> list[Scored]:
    """Returns what each model makes of the runs.

    Args:
        records: the runs.
        mask: bool [run, time], False on padding.
        models: parameters without padding.
        temperings: tau of each model.
    """
    scored: list[Scored] = []
    for begin in range(0, len(models), LANES):
        chunk = slice(begin, begin + LANES)
        scored += _score_chunk(records, mask, models[chunk], temperings[chunk])
    return scored


def log_densities(
    records: Records, mask: Bool[np.ndarray, "run time"], model: Parameters, tempering: float
) -> Float[np.ndarray, "run time state"]:
    """Returns log e_k(t) of every record, the first one by its place, 0 where none is there."""
    dtype = records.products.dtype
    padded_model = _pad(model, len(model.initial), _num_components(records))
    narrow = jax.tree.map(lambda a: a.astype(dtype), padded_model)
    logs = log_emissions(records, narrow, np.asarray(tempering, dtype))
    return np.asarray(logs)[: mask.shape[0], : mask.shape[1]]


def _score_chunk(records, mask, models, temperings) -> list[Scored]:
    """`score_models` of as many models as there are lanes, or fewer."""
    sizes = [len(model.initial) for model in models]
    size, idle = padded_states(max(sizes)), LANES - len(models)
    width, num_runs = _num_components(records), records.mask.shape[1]
    padding = [_pad(model, size, width) for model in models]
    stacked = jax.tree.map(lambda *a: np.stack(a), *padding, *idle * padding[-1:])
    dtype = records.products.dtype
    question = Question(
        np.arange(size) < np.array(sizes + idle * sizes[-1:])[:, None],
        np.ones((LANES, num_runs), dtype),
        np.array([*temperings, *idle * temperings[-1:]], dtype),
    )
    stacked = jax.tree.map(lambda a: a.astype(dtype), stacked)
    scores = jax.device_get(evaluate(records, question, stacked))
    keep, steps = slice(mask.shape[0]), mask.shape[1]
    return [
        Scored(
            np.asarray(scores.log_likelihood[lane, keep], float),
            np.asarray(scores.path_log_likelihood[lane, keep], float),
            np.where(mask, scores.paths[lane, keep, :steps], -1).astype(np.int8),
        )
        for lane in range(len(models))
    ]


def _num_components(records: Records) -> int:
    """Components of the records, padding included."""
    return num_components(records.products.shape[-1])


def _pad(parameters: Parameters, num_states: int, size: int) -> Parameters:
    """Parameters with states and components added that have no part in any density."""
    states = num_states - len(parameters.initial)
    spare = size - parameters.location.shape[1]

    def pad(array, *components):
        return np.pad(array, ((0, states), *((0, spare) if c else (0, 0) for c in components)))

    def pad_covariance(array):
        used = np.zeros((num_states, size), bool)
        used[: num_states - states, : size - spare] = True
        return pad(array, True, True) + NEUTRAL * ~used[:, :, None] * np.eye(size)

    rows = np.pad(parameters.transition, ((0, states), (0, states)))
    rows[num_states - states :, 0] = 1.0
    motion = pad(parameters.motion, False, True)
    return Parameters(
        np.pad(parameters.initial, (0, states)),
        rows,
        np.pad(motion, ((0, 0), (0, spare), (0, 0))),
        pad_covariance(parameters.noise),
        pad(parameters.location, True),
        pad_covariance(parameters.spread),
    )


def _unpad(parameters: Parameters, k: int, size: int) -> Parameters:
    """Parameters in float64 without their padding."""
    wide = Parameters(*(np.asarray(array, float) for array in parameters))
    return Parameters(
        wide.initial[:k] / wide.initial[:k].sum(),
        wide.transition[:k, :k] / wide.transition[:k, :k].sum(1, keepdims=True),
        wide.motion[:k, : 1 + size, :size],
        wide.noise[:k, :size, :size],
        wide.location[:k, :size],
        wide.spread[:k, :size, :size],
    )
