"""From runs to their states: fit, choose, decode, and number the states as runs meet them.

State 0 is where runs start: the states of every model that is shown are in order of first visit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int

from seedmap.hmm.inference import viterbi
from seedmap.hmm.parameters import Parameters, canonical_order, permute, relabel
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.criteria import select
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Decoded:
    """An HMM and its Viterbi paths, states in order of first visit.

    Attributes:
        parameters: of the HMM.
        paths: int32 [run, time], -1 on padding.
        order: int64 [state], the state's label in the model that was decoded.
    """

    parameters: Parameters
    paths: Int[np.ndarray, "run time"]
    order: Int[np.ndarray, " state"]

    @property
    def num_states(self) -> int:
        """Number of states K."""
        return len(self.parameters.means)


def decode(parameters: Parameters, sequences: Sequences) -> Decoded:
    """Decodes runs by Viterbi and puts the states in order of first visit.

    Args:
        parameters: the model, its states in any order.
        sequences: runs with the same metrics, z-scored as in the fit.

    Returns:
        The same model and the paths of all runs, in the order of `canonical_order`.

    Raises:
        UserError: the runs have another number of metrics than the model.
    """
    paths = viterbi(parameters, sequences)
    order = canonical_order(paths, len(parameters.means))
    return Decoded(permute(parameters, order), relabel(paths, order), order)


def fit_and_decode(
    sequences: Sequences,
    train: Sequence[int] | Int[np.ndarray, " fitted"],
    held_out: Sequence[int] | Int[np.ndarray, " held_out"],
    config: SweepConfig,
    seed: int = 0,
    criterion: str | None = None,
    one_standard_error: bool = False,
) -> Decoded:
    """Fits a sweep to some runs, chooses the number of states on others, decodes them all.

    On `only_metrics(sequences, ["l2"])` this is the HMM-1 of Hu et al. 2023.

    Args:
        sequences: z-scores of all runs.
        train: int [training run], indices of the runs to fit.
        held_out: int [validation run], indices of the runs to choose the number of states by.
        config: the sweep.
        seed: of the restarts.
        criterion: what chooses the number of states, as in `select`.
        one_standard_error: as in `select`.

    Returns:
        The HMM and the paths of all runs.

    Raises:
        UserError: as `fit_sweep` and `select`.

    Example:
        decoded = fit_and_decode(z_score(sequences), *split_runs(sequences.num_runs), SweepConfig())
    """
    key = jax.random.key(seed)
    sweep = fit_sweep(sequences.select(train), sequences.select(held_out), config, key)
    return decode(select(sweep, criterion, one_standard_error).parameters, sequences)
