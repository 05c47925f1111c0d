"""What a whole training costs, and the least time that a chip's peaks allow."""

from seedmap.experiments.plan.compiling import Compiled
from seedmap.experiments.plan.operations import count_operations
from seedmap.experiments.plan.programs import Job, Program
from seedmap.experiments.plan.results import Amount, Bound
from seedmap.experiments.plan.targets import Target

_OPERATIONS = (
    "counted from the traced program, loops times their turns (XLA's own cost analysis counts the "
    "body of a loop once, and gives none for GPUs)"
)
_BYTES = (
    "counted from the compiled program's text: what its kernels read and write of the chip's main "
    "memory, loops times their turns"
)


def operations_of(
    job: Job, training: Compiled, steps: Program, calls: int, platform: str
) -> Amount:
    """Returns the operations of a training on a device.

    Args:
        job: what is trained.
        training: compiled, to a record.
        steps: the same without what is measured.
        calls: of the program in all.
        platform: as JAX's lowering names it.
    """
    every, each = job.recipe.record_every, training.operations
    step = count_operations(steps.trace().jaxpr, platform).total / every
    measured = each.total - step * every
    return Amount(step, measured, calls * each.total, each.whole, _OPERATIONS)


def bytes_of_training(job: Job, training: Compiled, calls: int) -> Amount:
    """Returns the bytes that a training moves on a device; arguments as of `operations_of`."""
    cost, every = training.text.cost, job.recipe.record_every
    step = cost.bytes if every == 1 else training.text.turn_of_loop(every)
    return Amount(step, cost.bytes - every * step, calls * cost.bytes, cost.whole, _BYTES)


def bound_of(job: Job, target: Target, training: Compiled, calls: int) -> Bound:
    """Returns the least time of a training by the peaks of a chip; arguments as above.

    Of the operations only products count, whose peak is known; of a GPU whose cache holds all that
    the program touches, memory does not.
    """
    chip, precision = target.chip, job.recipe.precision
    peak = chip.peaks.get(precision)
    products = calls * training.operations.products / peak if peak else None
    cached = chip.card is not None and training.memory(1).total <= chip.card.cache
    moved = calls * training.text.cost.bytes
    memory = moved / chip.bandwidth if chip.bandwidth and not cached else None
    known = {"products": products, "memory": memory}
    named = {name: seconds for name, seconds in known.items() if seconds is not None}
    binds = max(named, key=lambda name: named[name]) if named else None
    return Bound(products, memory, named[binds] if binds else None, binds, precision)
