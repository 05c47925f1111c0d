"""How far a map depends on restart, runs and prior, as `summary.json` has it."""

from dataclasses import dataclass, field

from seedmap.results import ABSENT, Absent, named


@dataclass(frozen=True)
class Refits:
    """Agreement of the decodings of models refitted to resampled runs with the map's."""

    num_resamples: int
    num_degenerate: int
    adjusted_rand: list[float | None]


@dataclass(frozen=True)
class PriorRow:
    """Results under a prior; log-likelihoods in nats per checkpoint."""

    prior: str
    criterion: str
    scale: float | None
    num_states: int
    train: float | None
    held_out_mean: float | None
    held_out_median: float | None
    adjusted_rand: float | None


@dataclass(frozen=True)
class EdgeStability:
    """Frequency of an edge in restarts, in resamples of the runs, and in refits to them."""

    source: int = field(metadata=named("from"))
    target: int = field(metadata=named("to"))
    restarts: float | None
    bootstrap: float
    refits: float | None


@dataclass(frozen=True)
class Stability:
    """Dependence of the map on restart, runs and prior; residuals' lag-1 autocorrelation."""

    adjusted_rand: list[float | None]
    refits: Refits | None
    priors: list[PriorRow]
    edges: list[EdgeStability]
    autocorrelation: list[float | None] | Absent = ABSENT  # by component or metric
