"""Any runs read with a saved HMM, of either emission, its parameters unchanged."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.autoregressive.map_model import decode_paths, filter_runs, score_runs
from seedmap.hmm.features import scale_metrics
from seedmap.hmm.inference import filtered, log_likelihood, viterbi
from seedmap.hmm.io import SavedHMM
from seedmap.hmm.sequences import Sequences, first_records, z_score
from seedmap.hmm.training_map.baselines import only_metrics
from seedmap.hmm.training_map.regression import bag_of_states
from seedmap.hmm.training_map.transfer import check_same_metrics


class Reading(NamedTuple):
    """How an HMM reads runs that it may never have seen.

    Attributes:
        sequences: metrics in the units of the HMM's means.
        paths: int32 [run, time], decoded states, -1 on padding.
        log_likelihood: float64 [run], log p(run) in nats; of an autoregressive HMM that of the
            records from the second on, in which every record counts 1.2 times.
        bag: float64 [run, state], share of each run's records in each state.
    """

    sequences: Sequences
    paths: Int[np.ndarray, "run time"]
    log_likelihood: Float[np.ndarray, " run"]
    bag: Float[np.ndarray, "run state"]


def read_runs(saved: SavedHMM, raw: Sequences) -> Reading:
    """Decodes runs with a saved HMM and scores them.

    Args:
        saved: the HMM.
        raw: metrics as recorded; of each run the first 1000 records are read.

    Raises:
        UserError: the runs have other metrics than the HMM.
    """
    sequences = in_units_of(saved, raw)
    if saved.model is None:
        paths, scores = (read(saved.parameters, sequences) for read in (viterbi, log_likelihood))
    else:
        first = _ordered(saved, raw)
        paths = decode_paths(saved.model, first)
        scores = score_runs(saved.model, first)
    return Reading(sequences, paths, scores, bag_of_states(paths, len(saved.parameters.means)))


def read_beliefs(saved: SavedHMM, raw: Sequences) -> Float[np.ndarray, "run time state"]:
    """Returns the probabilities of the states given the records so far, 0 on padding.

    Args:
        saved: the HMM.
        raw: metrics as recorded. An HMM on z-scores within each run is told by them what is to
            come.

    Raises:
        UserError: the runs have other metrics than the HMM.
    """
    if saved.model is None:
        return filtered(saved.parameters, in_units_of(saved, raw))
    return filter_runs(saved.model, _ordered(saved, raw))


def in_units_of(saved: SavedHMM, raw: Sequences) -> Sequences:
    """Returns the first 1000 records of runs on the scale that the HMM was fitted on.

    Args:
        saved: the HMM.
        raw: metrics as recorded.

    Raises:
        UserError: the runs have other metrics than the HMM.
    """
    first = _ordered(saved, raw)
    if saved.scale is None:
        return z_score(first)
    return scale_metrics(saved.scale, first)


def _ordered(saved: SavedHMM, raw: Sequences) -> Sequences:
    check_same_metrics({"the model": saved.metrics, "the data": raw.metrics})
    if raw.metrics != saved.metrics:  # else as they are: another layout sums up to other bits
        raw = only_metrics(raw, saved.metrics)
    return first_records(raw)
