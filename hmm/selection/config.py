"""What a sweep fits: numbers of states, restarts, emission family, prior."""

from dataclasses import dataclass

import numpy as np

from seedmap.errors import UserError
from seedmap.hmm.em.emissions import covariance_family

PRIORS = {"held-out": (1e-4, 1e-2, 1e-1, 1.0, 10.0), "weak": (1e-4,)}  # scales to choose from
HMMLEARN = "hmmlearn"
PSEUDO_COUNT = 1e-2


@dataclass(frozen=True)
class SweepConfig:
    """What to fit.

    Attributes:
        states: Numbers of states K to try.
        restarts: Fits of each K: the first from k-means, each of the others from the best of a few
            short EM runs on some of the checkpoints; see `hmm.em.start`.
        iterations: EM iterations at most (Hu et al. 2023: 32), short runs not counted.
        covariance: "full", "diagonal", "spherical" or "shared" (one for all states).
        prior: How much scatter s, in squared standard deviations of the training data, the prior
            adds to every state on each axis, so that the variances of a state with n checkpoints
            are at least s / n. "held-out": for each K the scale of `PRIORS` under which held-out
            runs are most likely, see `hmm.selection.cross_validation`. "weak": 1e-4 (Dynamax's
            default), near maximum likelihood. Both add a pseudo-count of 0.01 for
            every transition and initial state, so that no run is impossible. "hmmlearn": that of
            `hmm.fit_hu2023`.
        tolerance: A fit has converged when an iteration raises its penalised log-likelihood by less
            than this share of it (or of the number of checkpoints, if that is larger).
    """

    states: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    restarts: int = 5
    iterations: int = 32
    covariance: str = "full"
    prior: str = "held-out"
    tolerance: float = 1e-6

    def __post_init__(self):
        covariance_family(self.covariance)  # raises if there is none
        if self.prior not in (*PRIORS, HMMLEARN):
            raise UserError(f"prior must be one of {', '.join(PRIORS)}; got {self.prior!r}")
        for name, values in (
            ("states", self.states),
            ("restarts", [self.restarts]),
            ("iterations", [self.iterations]),
        ):
            if not all(isinstance(value, int | np.integer) for value in values):
                raise UserError(f"{name} must be whole numbers; got {getattr(self, name)!r}")
        if not self.states or min(self.states) < 1 or len(set(self.states)) < len(self.states):
            raise UserError(
                f"states must be different whole numbers from 1 up; got {list(self.states)}"
            )
        if self.restarts < 1 or self.iterations < 1:
            raise UserError(
                f"restarts and iterations must be at least 1; got {self.restarts} and "
                f"{self.iterations}"
            )

    @property
    def starts(self) -> int:
        """Starts of each number of states that are made: one for every fold at least."""
        return max(2, self.restarts) if self.prior == "held-out" else self.restarts
