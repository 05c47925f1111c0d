"""Names of columns: the paper's metrics as they are called here, and what others call things.

The 14 metrics of Hu et al. 2023 (arXiv 2308.09543) are known by their names here and by those the
released code gives them.
"""

import re
from collections.abc import Iterable

from seedmap.errors import nearest, printable

ALIASES = {
    "variance_lambda": "var_lambda",
    "mean_singular_value": "mean_lambda",
    "var_singular_value": "var_lambda",
}
UNNAMED = re.compile(r"(Unnamed: [\d.]+)?")  # the index, as pandas writes and as it reads it
STEP_NAMES = (  # the first recorded orders the records; how they are written does not matter
    *("step", "_step", "global_step", "trainer/global_step", "train/global_step"),
    *("iteration", "iterations", "iter", "time/total_timesteps", "total_timesteps", "timesteps"),
    *("num_timesteps", "training_iteration", "epoch", "epochs"),
)
RUN_NAMES = ("run", "seed", "run_name", "run_id", "run name", "experiment", "trial", "trial_id")
ACCURACY_NAMES = (  # of examples not trained on
    *("eval_accuracy", "eval_acc", "val_accuracy", "val_acc", "validation_accuracy"),
    *("validation_acc", "valid_accuracy", "valid_acc", "test_accuracy", "test_acc"),
    *("val_top1", "val_acc1", "metrics_accuracy_top1"),
)
CLOCK_NAMES = (  # which two rows of one step may tell differently
    *("_timestamp", "_runtime", "timestamp", "time", "wall_time", "walltime", "elapsed"),
    *("elapsed_time", "runtime", "time_elapsed", "time/time_elapsed", "time/fps", "seconds", "fps"),
)


def plain(name: str) -> str:
    """Returns a name without its writing: lower case, runs of other characters as one "_".

    Example:
        >>> plain("Val/Acc"), plain("val acc"), plain("_step")
        ('val_acc', 'val_acc', 'step')
    """
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def first_of(wanted: Iterable[str], names: Iterable[str]) -> str | None:
    """Returns the first of the wanted names that is there, as written or else by `plain`."""
    candidates = list(names)
    by_plain: dict[str, str] = {}
    for name in candidates:
        by_plain.setdefault(plain(name), name)
    for name in wanted:
        if name in candidates:
            return name
        if plain(name) in by_plain:
            return by_plain[plain(name)]
    return None


def is_clock(name: str) -> bool:
    """Tells whether a column tells the time of day or how long something took."""
    return plain(name) in {plain(clock) for clock in CLOCK_NAMES}


def our_name(name: str) -> str:
    """Returns the name of a column that is used here."""
    name = printable(name)
    return ALIASES.get(name, name)


def listed(names: Iterable[object]) -> str:
    """Returns up to 20 names, quoted and none of over 100 characters, for a message."""
    quoted = [repr(str(name)[:100]) for name in names]
    return ", ".join([*quoted[:20], *(["..."] if len(quoted) > 20 else [])]) or "none"


def natural(name: str) -> tuple[list[str | int], str]:
    """Returns a sort key: digits compare as numbers, so that seed2 comes before seed10."""
    pieces = re.split("([0-9]+)", name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def nearest_of(name: str, columns: Iterable[str]) -> str:
    """Returns " (nearest: NAME)", or "" where there are no columns."""
    near = nearest(name, columns, cutoff=0.0)
    return f" (nearest: {near[0]!r})" if near else ""
