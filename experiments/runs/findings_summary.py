"""What `summary.json` says of a run beyond its states."""

from dataclasses import dataclass

from seedmap import hmm


@dataclass(frozen=True)
class Resolution:
    """The number of states as a resolution.

    Attributes:
        tempering: tau, the share of records that counts as independent.
        num_states: chosen.
        half: chosen at half the tempering.
        double: chosen at twice the tempering, at most 1.
    """

    tempering: float
    num_states: int
    half: int
    double: int


@dataclass(frozen=True)
class BranchSurvival:
    """How the visitors of a named branch converge, beside those who pass it by.

    Attributes:
        state: of the branch.
        num_states: of its map.
        visitors: how many visit it.
        visitors_converged: of them.
        skippers: how many pass it by.
        skippers_converged: of them.
        later: by how much later visitors converge, in restricted means; None where a group has no
            run that was followed to the end of the other.
        pvalue: of the log-rank test, two-sided.
    """

    state: int
    num_states: int
    visitors: int
    visitors_converged: int
    skippers: int
    skippers_converged: int
    later: hmm.Interval | None
    pvalue: float


@dataclass(frozen=True)
class SurvivalSummary:
    """Convergence as survival, runs that never converge counting as censored.

    Attributes:
        num_runs: on the map.
        num_converged: those that converge.
        half: time by which half have converged (Kaplan-Meier); None where fewer do.
        restricted_mean: mean time, later ones counting as the last record's; None where runs are
            censored before it.
        hazards: probability to converge before the next record, by filtered state.
        branches: by named branch.
        sentences: what it says.
    """

    num_runs: int
    num_converged: int
    half: float | None
    restricted_mean: hmm.Interval | None
    hazards: list[hmm.StateHazard]
    branches: list[BranchSurvival]
    sentences: list[str]


@dataclass(frozen=True)
class PathOrSpeedSummary:
    """How much of the difference between runs is timing, and what that says."""

    found: hmm.PathOrSpeed
    sentences: list[str]


@dataclass(frozen=True)
class MovesFirstSummary:
    """Metrics in the order in which they turn before convergence, and what that says."""

    turns: list[hmm.Turn]
    steady: list[str]
    runs: int
    sentences: list[str]


@dataclass(frozen=True)
class FindingsSummary:
    """What `summary.json` says of the findings; None where the runs do not allow one.

    Attributes:
        leak: what first records tell of the time of convergence, raw and as the HMM sees them.
        single_threshold: what one threshold of one metric explains of the outcome.
        survival: convergence as survival.
        path_or_speed: what the difference between runs is.
        moves_first: what turns before convergence.
    """

    leak: hmm.Leak | None
    single_threshold: hmm.SingleThreshold | None
    survival: SurvivalSummary | None
    path_or_speed: PathOrSpeedSummary | None
    moves_first: MovesFirstSummary | None


@dataclass(frozen=True)
class PublishedSummary:
    """What the published method says of the same runs.

    Attributes:
        num_states: chosen.
        forking: by the published definition.
        detours: likewise.
        r2: of the time of convergence on the bag of states, runs that never converge at the end.
        leave_one_out_r2: likewise.
        f_pvalue: likewise.
        adjusted_rand: agreement of its decoding with the map's.
        leak: what first records tell of the time of convergence as it sees them.
        sentences: why the two differ.
    """

    num_states: int
    forking: bool
    detours: list[int]
    r2: float | None
    leave_one_out_r2: float | None
    f_pvalue: float | None
    adjusted_rand: float | None
    leak: hmm.Leak | None
    sentences: list[str]
