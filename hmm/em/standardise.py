"""Runs in the units that EM works in: standardised by the training data, time first."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from seedmap.hmm.em.e_step import chunk_size
from seedmap.hmm.em.emissions import covariance_family
from seedmap.hmm.em.missing import gather_missing
from seedmap.hmm.em.model import Data
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.sequences import Sequences


class Scaling(NamedTuple):
    """Mean and standard deviation of every metric over the training data.

    Attributes:
        mean: float64 [metric].
        std: float64 [metric], 1 where the metric is constant.
    """

    mean: np.ndarray
    std: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Standardised values [..., metric]."""
        return (values - self.mean) / self.std

    def undo(self, parameters: Parameters) -> Parameters:
        """Parameters of a model of standardised values, in the units of the data."""
        return parameters._replace(
            means=parameters.means * self.std + self.mean,
            covariances=parameters.covariances * np.outer(self.std, self.std),
        )


def scaling_of(train: Sequences, covariance: str) -> Scaling:
    """Returns the scaling by the training runs, missing values left out.

    Args:
        train: the training runs.
        covariance: name of the emission family, which says whether metrics share a scale.
    """
    observations = train.observations()
    known = ~np.isnan(observations)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, observations, 0.0).sum(0) / count
    variance = np.where(known, (observations - mean) ** 2, 0.0).sum(0) / count
    variance = covariance_family(covariance).units(variance)
    return Scaling(mean, np.where(variance > 0, np.sqrt(variance), 1.0))


def as_data(groups: list[Sequences], scaling: Scaling) -> Data:
    """Returns the runs of all groups, standardised, padded to a length that chunks divide."""
    num_steps = max(int(group.lengths.max()) for group in groups)
    size = chunk_size(num_steps, sum(group.num_runs for group in groups))
    padded = -(-num_steps // size) * size
    values, masks = [], []
    for group in groups:
        steps = int(group.lengths.max())
        mask = group.mask[:, :steps]
        scaled = np.where(mask[:, :, None], scaling.apply(group.values[:, :steps]), 0.0)
        values.append(np.pad(scaled, ((0, 0), (0, padded - steps), (0, 0))))
        masks.append(np.pad(mask, ((0, 0), (0, padded - steps))))
    joined, mask = np.concatenate(values).transpose(1, 0, 2), np.concatenate(masks).T
    missing = gather_missing(joined, mask)
    return Data(jnp.asarray(np.nan_to_num(joined), float), jnp.asarray(mask), missing)
