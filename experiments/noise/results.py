"""Results of a study of noise: the content of `noise.json` (docs/reference/run_folder.md).

Numbers that are not defined are None. `experiments.noise.summary` makes it.
"""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from seedmap.experiments.noise.convergence_results import ReplicaGroup, Survival
from seedmap.experiments.noise.estimates import Estimate
from seedmap.experiments.noise.measures.components import Commitment, SourceComponent
from seedmap.experiments.noise.measures.shares import ShareCurve
from seedmap.results import named

Result = TypeVar("Result")


def without_ends(result: Result) -> Result:
    """Returns the numbers alone, without intervals and standard errors."""
    if isinstance(result, Estimate):
        return replace(result, low=None, high=None)
    if isinstance(result, list):
        return [without_ends(entry) for entry in result]
    if not is_dataclass(result):
        return result
    changes: dict[str, Any] = {
        entry.name: without_ends(getattr(result, entry.name)) for entry in fields(result)
    }
    if isinstance(result, Spread):
        changes["sd_error"] = None
    return replace(result, **changes)


@dataclass(frozen=True)
class Control:
    """Equality of replicas in which nothing varies: weights and predictions, to the bit.

    Attributes:
        exact: whether they are; None where they had diverged by the first record.
        first_apart: step after which they first differ; None where no record does.
        diverged: step at which one diverged; None where none did.
        replicas: how many there are.
    """

    exact: bool | None
    first_apart: int | None
    diverged: int | None
    replicas: int


@dataclass(frozen=True)
class GrowthSummary:
    """Growth of the distance to the first replica.

    Attributes:
        rate: exponential exponent, 1 / step, the median over replicas.
        power: exponent of a power of the step, likewise.
        better: "exponential" or "power", whichever fits most replicas better.
        replicas: in how many it could be followed.
    """

    rate: float | None
    power: float | None
    better: str | None
    replicas: int


@dataclass(frozen=True)
class Parting:
    """Time at which replicas diverge from the first one, and the growth of their distance.

    Attributes:
        first_apart: step of the first record in which each further replica differs from it.
        growth: of the distance.
        largest_churn: on the way, the median over replicas.
    """

    first_apart: list[int | None]
    growth: GrowthSummary
    largest_churn: float | None


@dataclass(frozen=True)
class Barrier:
    """Height of the error barrier on the line between pairs of replicas, as shares of examples.

    Attributes:
        values: of each pair.
        mean: of them.
        interval: of the mean over roots; without ends where there is one.
    """

    values: list[float]
    mean: float
    interval: Estimate


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over replicas.

    Attributes:
        mean: over replicas.
        sd_error: bootstrap standard error of the standard deviation.
        sd: standard deviation (ddof 1).
        values: of the replicas.
    """

    mean: Estimate
    sd_error: float | None
    sd: Estimate
    values: list[float]


@dataclass(frozen=True)
class ClassSpread:
    """Spread of the accuracy on one class.

    Attributes:
        label: of the class.
        accuracy: mean over replicas.
        sd: standard deviation over replicas.
        ratio: of it to that of top-line accuracy; None where that does not vary.
        interval: of the ratio.
    """

    label: int = field(metadata=named("class"))
    accuracy: float
    sd: float
    ratio: float | None
    interval: Estimate


@dataclass(frozen=True)
class ClassRatio:
    """Ratios of spread of all classes: their mean and their maximum."""

    mean: float
    max: float


@dataclass(frozen=True)
class RateSpread:
    """Spread of a rate of one subgroup; fields as of `ClassSpread`."""

    mean: float | None
    sd: float | None
    ratio: float | None
    interval: Estimate | None


@dataclass(frozen=True)
class GroupSpread:
    """Spread of accuracy and of both error rates of a subgroup, beside that of all examples."""

    group: str
    size: int
    accuracy: RateSpread
    fpr: RateSpread
    fnr: RateSpread


@dataclass(frozen=True)
class PathDissimilarity:
    """Mean dissimilarity over pairs of replicas, by ground metric."""

    index: Estimate
    discrete: Estimate
    means: Estimate


@dataclass(frozen=True)
class DetourTime:
    """Time that a replica is in detour states: mean and standard deviation over replicas."""

    mean: float
    sd: Estimate | None


@dataclass(frozen=True)
class PathConvergence:
    """Of the replicas that converge: their number, mean time, its standard deviation, its unit."""

    num: int
    mean: float | None
    sd: Estimate | None
    unit: str


@dataclass(frozen=True)
class PathSummary:
    """Paths of a variant's replicas through the training map.

    Attributes:
        dissimilarity: of their shares of time in the states; None with fewer than two replicas.
        distinct: different sequences of states, repeats left out.
        detour_rate: share of replicas that pass a detour state; None where the map has none.
        detour_time: spent in such states; None likewise.
        convergence: of those that converge.
    """

    dissimilarity: PathDissimilarity | None
    distinct: int
    detour_rate: float | None
    detour_time: DetourTime | None
    convergence: PathConvergence


@dataclass(frozen=True)
class VariantSummary:
    """All measures of one variant; None where fewer than two replicas are left.

    Attributes:
        name: of the variant.
        varied: the sources that differ between its replicas.
        replicas: how many.
        fork: step from which on they differ.
        kind: "control", "source", "together" or "fork".
        rows: first of its replicas among all, and the first after them, of the first root.
        num_diverged: replicas that diverged.
        diverged: the step at which, by replica; "ROOT:REPLICA" where there are several roots.
        used: replicas left for the measures.
        parting: when and how they part.
        barrier: between pairs; None where there is no pair.
        paths: through the training map; None without one.
        accuracy: top-line.
        cross_entropy: mean test loss, in nats.
        churn: share of test examples on which two replicas disagree.
        l2_distance: between weights of unit length.
        angle: between weights, in radians.
        logit_correlation: between two replicas.
        ensemble_gain: accuracy of two averaged less that of one.
        test_set_variance: of accuracy, from independent errors on these examples.
        distribution_variance: of accuracy over the distribution; may be below 0.
        share_of_variance: of that of all sources together.
        share_of_churn: likewise.
        share_of_l2: likewise.
        classes: spread of each class.
        class_ratio: of all classes.
        groups: spread of each subgroup.
        survival: convergence; None without a threshold.
    """

    name: str
    varied: tuple[str, ...]
    replicas: int
    fork: int
    kind: str
    rows: tuple[int, int]
    num_diverged: int
    diverged: dict[str, int]
    used: int
    parting: Parting
    barrier: Barrier | None
    paths: PathSummary | None = None
    accuracy: Spread | None = None
    cross_entropy: Spread | None = None
    churn: Estimate | None = None
    l2_distance: Estimate | None = None
    angle: Estimate | None = None
    logit_correlation: Estimate | None = None
    ensemble_gain: Estimate | None = None
    test_set_variance: float | None = None
    distribution_variance: float | None = None
    share_of_variance: Estimate | None = None
    share_of_churn: Estimate | None = None
    share_of_l2: Estimate | None = None
    classes: list[ClassSpread] | None = None
    class_ratio: ClassRatio | None = None
    groups: list[GroupSpread] | None = None
    survival: Survival | None = None


@dataclass(frozen=True)
class MapSummary:
    """The training map that the replicas were read with.

    Attributes:
        run: "map" for one fitted to the replicas, else the folder of its run.
        num_states: of the map.
        detours: its detour states.
        r2: of its regression.
        forking: whether its runs fork.
        map_id: of its `summary.json`.
    """

    run: str
    num_states: int
    detours: list[int]
    r2: float | None
    forking: bool
    map_id: str | None


@dataclass(frozen=True)
class StudySummary:
    """The content of `noise.json`.

    Attributes:
        experiment: its name; None for a task of one's own.
        roots: base trainings that were varied.
        replicas: of each variant and root.
        steps: of training.
        record_every: steps between records.
        epochs: of training.
        num_test: test examples.
        num_classes: None where the task has no classes.
        sources: those that variants vary alone.
        whole: the variant with the most sources, which shares are of.
        control: whether nothing varies where nothing should.
        variants: all measures, variant by variant; of several roots as `noise.pooled` has them.
        components: of variance, source by source and measure by measure; empty with one root.
        commitment: how much is fixed by which step; empty without `--commit-steps`.
        shares: each source's share of churn and distance, over training.
        groups: convergence by root, where there are several, and by branch, where the map has one.
        map: the training map; None without one.
        notes: what a reader should know first.
        unused: sources asked for that the training does not draw from.
        training_id: of the study, which its files carry; None outside of a folder, and where a
            former version trained it.
    """

    experiment: str | None
    roots: int
    replicas: int
    steps: int
    record_every: int
    epochs: float
    num_test: int
    num_classes: int | None
    sources: list[str]
    whole: str
    control: Control
    variants: list[VariantSummary]
    components: list[SourceComponent]
    commitment: list[Commitment]
    shares: list[ShareCurve]
    groups: list[ReplicaGroup]
    notes: list[str]
    map: MapSummary | None
    unused: list[str]
    training_id: str | None

    def __repr__(self) -> str:
        whose = f"{self.roots} roots x {len(self.variants)} variants x {self.replicas} replicas"
        return f"StudySummary({self.experiment or 'a study'}: {whose}, {len(self.notes)} notes)"

    def _repr_html_(self) -> str:
        from seedmap.experiments.noise.report.page import card_of  # which builds on this module

        return card_of(self)

    def variant(self, name: str) -> VariantSummary | None:
        """Returns the variant of that name; None where there is none."""
        return next((variant for variant in self.variants if variant.name == name), None)

    @property
    def all_sources(self) -> VariantSummary:
        """The variant with the most sources."""
        return next(variant for variant in self.variants if variant.name == self.whole)
