"""Each source's share of what all sources do, over a study's training (`measures.shares`)."""

from seedmap.experiments.noise.components import most_sources
from seedmap.experiments.noise.measures.shares import ShareCurve, share_curve
from seedmap.experiments.noise.study import StudyResult
from seedmap.experiments.noise.variants import rows_by_root

MEASURES = {"churn": "churn", "relative_distance": "distance"}
"""Records of distance to replica 0, and what their share is called."""


def shares_of(study: StudyResult) -> list[ShareCurve]:
    """Returns the curves of every variant that varies something from step 0 on, but the whole.

    Replicas that diverged have no part in them. Of a single root there are no intervals.

    Args:
        study: trained.
    """
    rows, reference = rows_by_root(study.variants, study.roots), most_sources(study.variants).name
    names = [v.name for v in study.variants if v.varied and not v.forks and v.name != reference]
    steps = study.dataset.step.values
    curves = []
    for record, measure in MEASURES.items():
        if record not in study.dataset:
            continue
        values = study.dataset[record].values.astype(float)
        kept = {
            name: [values[own[1:]][study.diverged[own[1:]] < 0] for own in rows[name]]
            for name in (*names, reference)
        }
        curves += [share_curve(name, measure, steps, kept[name], kept[reference]) for name in names]
    return curves
