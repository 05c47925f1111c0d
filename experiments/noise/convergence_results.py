"""Convergence as survival, as `noise.json` has it."""

from dataclasses import dataclass

from seedmap.experiments.noise.estimates import Estimate


@dataclass(frozen=True)
class Survival:
    """Convergence of a variant's replicas, those that have not converged being censored.

    Attributes:
        num: replicas, diverged ones included.
        converged: of them.
        horizon: time of the last record.
        unit: of times, "epoch" or "step".
        restricted_mean: time to convergence, one that never comes counting with the horizon; None
            where a replica was censored before.
        at: times at which replicas are counted: quarters of those of the whole study.
        at_risk: replicas that have not converged, nor been censored, before each.
        log_rank: p-value of the log-rank test within roots: of a variant against that with the most
            sources, of those who take a branch against the others; None for what is compared with,
            for roots, and where nothing can be told.
    """

    num: int
    converged: int
    horizon: float
    unit: str
    restricted_mean: Estimate | None
    at: list[float]
    at_risk: list[int]
    log_rank: float | None


@dataclass(frozen=True)
class ReplicaGroup:
    """Convergence of the replicas of a root, or of those that take a branch or pass it by.

    Replicas of all variants that do not fork have a part in it, copies of replica 0 once.

    Attributes:
        root: number of the root, from 0; None for a branch.
        state: of the branch; None for a root.
        visits: whether these visit the branch; None for a root.
        survival: of the group.
    """

    root: int | None
    state: int | None
    visits: bool | None
    survival: Survival

    @property
    def name(self) -> str:
        """What the group is, in words."""
        if self.root is not None:
            return f"root {self.root}"
        return f"{'visit' if self.visits else 'pass by'} state {self.state}"
