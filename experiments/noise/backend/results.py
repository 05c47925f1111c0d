"""Results of the same replica trained in separate processes: the content of `backend.json`."""

from dataclasses import dataclass
from typing import Any

from seedmap.experiments.noise.compare import PairSummary
from seedmap.experiments.noise.results import Estimate
from seedmap.experiments.runs.device import TrainingDevice


@dataclass(frozen=True)
class PlannedSetting:
    """A setting of the tools that processes are started under, as `backend.settings` has it."""

    name: str
    what: str
    flags: list[str]
    variables: list[tuple[str, str]]
    copies: int
    at_once: int


@dataclass(frozen=True)
class BackendPlan:
    """Plan of a study; studies of the same plan may share their processes' folders.

    Attributes:
        experiment: its name.
        hyperparameters: of the training.
        variables: of the environment, those that bear on arithmetic.
        replicas: processes of each setting.
        settings: to train under.
        children: folders of the processes, those of an earlier plan among them.
        replaces: whether the study that stands in the folder goes when this one is done.
    """

    experiment: str
    hyperparameters: dict[str, Any]
    variables: dict[str, str]
    replicas: int
    settings: list[PlannedSetting]
    children: list[str]
    replaces: bool = False


@dataclass(frozen=True)
class AccuracySummary:
    """Accuracy over the processes of a setting that did not diverge."""

    mean: float
    sd: Estimate | None
    values: list[float]


@dataclass(frozen=True)
class SettingSummary(PlannedSetting):
    """Results of the processes of one setting.

    Attributes:
        trained: processes that have.
        accuracy: over them; None where none has, or all diverged.
        seconds: of training, of each.
        copies_alike: whether each further copy in a process equals the first.
    """

    trained: int
    accuracy: AccuracySummary | None
    seconds: list[float]
    copies_alike: list[bool]


@dataclass(frozen=True)
class BackendSummary:
    """The content of `backend.json`; fields that are not named here are as of `BackendPlan`.

    Attributes:
        settings: with what their processes have come to.
        device: that they ran on.
        pairs: within a setting the pairs of its processes, between two the first against the first.
        failed: why a process has not trained, by the name of its folder.
        notes: what a reader should know first.
    """

    experiment: str
    hyperparameters: dict[str, Any]
    variables: dict[str, str]
    replicas: int
    settings: list[SettingSummary]
    device: TrainingDevice
    pairs: list[PairSummary]
    failed: dict[str, str]
    notes: list[str]
    children: list[str]
