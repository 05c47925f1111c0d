"""What the shares of time in the states explain, as `summary.json` has it."""

from dataclasses import dataclass

from seedmap.results import ABSENT, Absent


@dataclass(frozen=True)
class CoefficientSummary:
    """A coefficient of the regression with its interval; None where the runs do not tell."""

    state: int
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class EarlyRegression:
    """The regression on the checkpoints up to a time, as `seedmap baselines` adds it."""

    upto: float
    name: str
    num_states: int
    num_runs: int
    r2: float | None
    leave_one_out_r2: float | None
    f_pvalue: float | None


@dataclass(frozen=True)
class RegressionSummary:
    """The outcome explained by the shares of time in the states.

    Attributes:
        outcome: "convergence", or a recorded variable.
        r2: share of variance explained; None where it is not defined.
        f_pvalue: of the F test.
        permutation_pvalue: over shuffles of the outcome.
        leave_one_out_r2: on left-out runs.
        num_runs: runs it uses.
        num_censored: runs whose outcome was missing, excluded or set to the cap.
        censoring: "exclude" or "cap".
        coefficients: one for each state.
        early: from the beginnings of the runs, where `seedmap baselines` has measured it.
    """

    outcome: str
    r2: float | None
    f_pvalue: float | None
    permutation_pvalue: float | None
    leave_one_out_r2: float | None
    num_runs: int
    num_censored: int
    censoring: str
    coefficients: list[CoefficientSummary]
    early: list[EarlyRegression] | Absent = ABSENT
