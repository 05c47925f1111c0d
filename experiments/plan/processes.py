"""The process that compiles, seen from the one that starts it."""

import os
from collections.abc import Callable, Sequence

from seedmap.errors import UserError
from seedmap.experiments.plan.results import Plan
from seedmap.experiments.plan.targets import Target, environment
from seedmap.experiments.processes.child import REFUSED, ChildProcess
from seedmap.results import from_json

_MODULE = "seedmap.experiments.plan.child"


def plan_elsewhere(argv: Sequence[str], target: Target, on_program: Callable[[str], None]) -> Plan:
    """Has a process of its own make a plan; it does not outlive this call.

    Args:
        argv: the command line of `seedmap plan`, which the process reads as well.
        target: to compile for.
        on_program: called with what is compiled next.

    Raises:
        UserError: the process refuses its input, or ends without a plan; the message says why.
    """
    environ = {**os.environ, **environment(target), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    plan = None
    with ChildProcess(_MODULE, argv, environ) as process:
        for message in process.messages():
            if "compiling" in message:
                on_program(message["compiling"])
            plan = message.get("plan", plan)
        if plan is not None:
            return from_json(Plan, plan)
        if process.wait() == REFUSED:
            raise UserError(process.last_line().removeprefix("seedmap: "))
        raise UserError(f"--on {target.text}: the compiler's process {process.reason()}")
