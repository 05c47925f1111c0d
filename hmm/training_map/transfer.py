"""One HMM for several experiments: their runs pooled, or those of one read with another's.

Z-scores within each run (Hu et al. 2023) take units and scale out, so that the runs of one
experiment can be compared with those of another. What is left to compare is the shape of a run's
course over its own length; runs of more checkpoints weigh more in a joint fit.
"""

from collections.abc import Mapping, Sequence

from seedmap.errors import UserError
from seedmap.hmm.sequences import Sequences, from_arrays
from seedmap.hmm.training_map.baselines import only_metrics


def check_same_metrics(groups: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError, with the difference, unless all groups name the same set of metrics.

    Args:
        groups: name -> its metrics, in any order.
    """
    (first, known), *others = groups.items()
    for name, metrics in others:
        lacking = [metric for metric in known if metric not in metrics]
        further = [metric for metric in metrics if metric not in known]
        if lacking or further:
            differences = [f"{name} lacks {', '.join(lacking)}"] * bool(lacking)
            differences += [f"{first} lacks {', '.join(further)}"] * bool(further)
            raise UserError(
                f"metrics: the metrics differ: {' and '.join(differences)}; fit all with the same"
            )


def pool(groups: Mapping[str, Sequences]) -> Sequences:
    """Returns the runs of several experiments as one set of runs.

    Args:
        groups: experiment -> its runs, of any lengths, with the same metrics in any order.

    Returns:
        All runs, experiment by experiment, named "experiment/run"; the metrics in the order of the
        first experiment.

    Raises:
        UserError: there is no experiment, or the metrics differ.

    Example:
        >>> a, b = from_arrays(np.zeros((2, 3, 1))), from_arrays(np.ones((1, 5, 1)))
        >>> pool({"a": a, "b": b}).runs
        ('a/0', 'a/1', 'b/0')
    """
    if not groups:
        raise UserError("there is nothing to pool; give at least one experiment")
    check_same_metrics({name: runs.metrics for name, runs in groups.items()})
    metrics = next(iter(groups.values())).metrics
    ordered = {name: only_metrics(runs, metrics) for name, runs in groups.items()}
    return from_arrays(
        [
            row[:length]
            for runs in ordered.values()
            for row, length in zip(runs.values, runs.lengths, strict=True)
        ],
        metrics=metrics,
        runs=[f"{name}/{run}" for name, runs in ordered.items() for run in runs.runs],
    )
