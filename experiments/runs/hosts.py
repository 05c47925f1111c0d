"""Joining a training over several hosts."""

import jax

from seedmap.errors import UserError


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Starts `jax.distributed`; must come before anything else asks JAX for a device.

    Args:
        coordinator: HOST:PORT of process 0. Without it, and without the rest, the cluster (TPU pod,
            Slurm, Open MPI, Kubernetes) provides it.
        num_processes: number of processes.
        process_id: number of this one.

    Raises:
        UserError: the processes cannot find each other.
    """
    given = [coordinator, num_processes, process_id]
    if any(x is not None for x in given) and any(x is None for x in given):
        raise UserError(
            "--coordinator, --num-processes and --process-id go together; a TPU pod or Slurm needs "
            "none of them"
        )
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator is {coordinator!r}; give HOST:PORT, as host0:1234")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"--distributed: {reason}; outside a TPU pod or Slurm give --coordinator, "
            "--num-processes and --process-id"
        ) from None
