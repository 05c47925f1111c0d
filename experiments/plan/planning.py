"""A plan made, in the process that compiles."""

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from seedmap.errors import UserError
from seedmap.experiments.plan.compiling import (
    Compiled,
    DoesNotFitError,
    compile_program,
    determinism_of,
)
from seedmap.experiments.plan.costs import bound_of, bytes_of_training, operations_of
from seedmap.experiments.plan.hlo import ProgramText
from seedmap.experiments.plan.programs import (
    Job,
    Program,
    count_metrics,
    fit_programs,
    spread_over,
    training_programs,
)
from seedmap.experiments.plan.results import (
    UNITS,
    Amount,
    Determinism,
    Found,
    Hardware,
    Memory,
    MostSeeds,
    Plan,
    ProgramPlan,
    Tried,
)
from seedmap.experiments.plan.search import (
    MOST_TRIES,
    SEARCH_SECONDS,
    left_open,
    most_that_fit,
)
from seedmap.experiments.plan.summary import bracket_text
from seedmap.experiments.plan.targets import Target, devices_of
from seedmap.experiments.tasks.base import FitConfig
from seedmap.trainer.group_size import USABLE, halves

OnProgress = Callable[[str], None]
_PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12", "flax", "optax")
_UNKNOWN = (
    "compiled for, not run on: speed, rounding and the kernels that a GPU chooses by timing them "
    "are not known"
)
_LIMITS = f"at most {MOST_TRIES}, or {SEARCH_SECONDS // 60} minutes"
_OPEN_LOOPS = (
    "loops whose turns are known only as they run, such as those of singular values and of EM, "
    "count once: what measures a record is somewhat more"
)


@dataclass(frozen=True)
class Compiler:
    """Programs of a job compiled for a target.

    Attributes:
        job: the training.
        target: to compile for.
        devices: of the target.
        on_progress: called with what is compiled next.
        trained: training programs that were compiled, by seeds on a device.
    """

    job: Job
    target: Target
    devices: tuple[jax.Device, ...]
    on_progress: OnProgress
    trained: dict[int, Compiled] = field(default_factory=dict)

    @property
    def share(self) -> int:
        """Seeds asked for, of a device."""
        return -(-self.job.seeds // spread_over(self.devices))

    @property
    def usable(self) -> int:
        """Bytes of a device that a training takes at most."""
        return int(USABLE * self.target.chip.share * self.target.memory)

    def compile(self, program: Program) -> Compiled:
        """Compiles a program."""
        self.on_progress(program.name)
        return compile_program(program, self.target.lowering)

    def compile_fitting(self, programs: Sequence[Program]) -> tuple[list[Compiled], list[str]]:
        """Compiles programs of the fit; returns those for which there is memory, and notes."""
        compiled, notes = [], []
        for program in programs:
            try:
                compiled.append(self.compile(program))
            except DoesNotFitError as error:
                needed = "" if error.bytes is None else f" (it needs {_gib(error.bytes)})"
                notes.append(
                    f"{program.name} of {self.job.seeds} runs does not fit a device{needed}: fit "
                    "the recorded runs on a machine of more memory, or fewer of them"
                )
        return compiled, notes

    def training(self, seeds: int) -> Compiled:
        """Compiles the training of so many seeds on a device, once.

        Raises:
            DoesNotFitError: the compiler says so.
        """
        if seeds not in self.trained:
            self.on_progress(f"training, {seeds} seeds a device")
            program = training_programs(self.job, self.devices, seeds).training
            self.trained[seeds] = compile_program(program, self.target.lowering)
        return self.trained[seeds]

    def try_seeds(self, seeds: int) -> Tried:
        """Tells whether so many seeds fit on a device."""
        try:
            needed = self.training(seeds).memory(seeds).total
        except DoesNotFitError as error:
            return Tried(seeds, error.bytes, False)
        return Tried(seeds, needed, needed <= self.usable)

    def tried(self, search: bool) -> list[Tried]:
        """Looks for the most seeds that fit on a device; on a CPU a rule decides, not memory.

        Args:
            search: whether to look further where those asked for fit.

        Raises:
            UserError: not even one seed fits.
        """
        most = self.job.most_at_once(self.target.chip.platform) or self.share
        tried = [self.try_seeds(min(self.share, most))]
        if not tried[0].fits or (search and self.target.chip.platform != "cpu"):
            tried = most_that_fit(self.try_seeds, self.usable, tried)
        if not any(each.fits for each in tried):
            raise UserError(self._too_large(min(tried, key=lambda each: each.seeds)))
        return tried

    def _too_large(self, tried: Tried) -> str:
        what = f"--on {self.target.text}: {tried.seeds} seed on a device does not fit"
        if tried.bytes is None:
            return f"{what}, and the compiler does not say by how much"
        return (
            f"{what}: it needs {_gib(tried.bytes)} of the {_gib(self.usable)} that a training may "
            f"take, {_gib(tried.bytes - self.usable)} too much; lower the batch size or the "
            "network's width"
        )

    def most_seeds(self, tried: list[Tried]) -> MostSeeds:
        """Says how many seeds fit, and how those asked for take turns."""
        most = max(each.seeds for each in tried if each.fits)
        at_once = self.job.most_at_once(self.target.chip.platform)
        runs, groups = 1, -(-self.share // min(most, at_once or most))
        if groups > 1 and at_once is None:
            num_groups = self.groups_beside_those_that_wait(tried)
            runs, groups = (groups, 1) if num_groups is None else (1, num_groups)
        return MostSeeds(
            per_device=most,
            on_target=most * len(self.devices),
            asked=self.job.seeds,
            at_once=self.share <= most,
            runs=runs,
            groups=groups,
            tried=tried,
        )

    def groups_beside_those_that_wait(self, tried: list[Tried]) -> int | None:
        """Counts the groups that `train` makes: halved until there is memory for all that wait too.

        Args:
            tried: numbers of seeds on a device, while none waits.

        Returns:
            None where the states of all seeds do not fit, however few train at once.
        """
        too_many = min((each.seeds for each in tried if not each.fits), default=self.share + 1)
        for size in halves(self.share):
            groups = -(-self.share // size)
            on_device = -(-self.share // groups)
            if on_device >= too_many or not self.try_seeds(on_device).fits:
                continue
            memory = self.training_memory(on_device, groups)
            if memory.total <= self.usable:
                return groups
            if memory.data + memory.state + memory.other_groups > self.usable:
                break
        return None

    def training_memory(self, on_device: int, groups: int) -> Memory:
        """Returns the memory of training a group while the others wait."""
        training = self.training(on_device)
        waiting = (groups - 1) * training.memory(on_device).state
        return training.memory(on_device, waiting)

    def hardware(self) -> Hardware:
        """Describes what is compiled for."""
        chip = self.target.chip
        return Hardware(
            target=self.target.text,
            chip=chip.title,
            platform=chip.platform,
            devices=len(self.devices),
            memory=self.target.memory,
            usable=self.usable,
            bandwidth=chip.bandwidth,
            peaks=dict(chip.peaks),
            source=chip.source,
        )


def make_plan(
    job: Job,
    target: Target,
    fit: FitConfig | None = None,
    on_progress: OnProgress = lambda what: None,
    search: bool = True,
    **named: Any,
) -> Plan:
    """Compiles the programs of a run for a target, and says what they need.

    Args:
        job: the training.
        target: to compile for.
        fit: how the map is fitted; None: training alone.
        on_progress: called with what is compiled next.
        search: whether to look for the most seeds that fit where those asked for do.
        **named: `experiment`, `preset` and `hyperparameters`, for the result.

    Raises:
        UserError: the target's compiler refuses the topology, or one seed does not fit.
    """
    compiler = Compiler(job, target, devices_of(target), on_progress)
    most = compiler.most_seeds(compiler.tried(search))
    on_device = -(-compiler.share // (most.runs * most.groups))
    training = compiler.training(on_device)
    programs = training_programs(job, compiler.devices, on_device)
    fitting = []
    if fit is not None:
        sizes = job.seeds, job.num_records, count_metrics(training.program, fit)
        fitting = fit_programs(*sizes, fit, compiler.devices[0])
    fits, too_large = compiler.compile_fitting(fitting)
    compiled = [training, compiler.compile(programs.start), *fits]
    calls = most.runs * most.groups * job.num_records
    operations = operations_of(job, training, programs.steps, calls, target.lowering)
    moved = bytes_of_training(job, training, calls)
    memory = compiler.training_memory(on_device, most.groups)
    return Plan(
        **{"experiment": None, "preset": None, "hyperparameters": {}, **named},
        hardware=compiler.hardware(),
        versions=_versions(),
        steps=job.steps,
        records=job.num_records,
        compile_seconds={each.program.name: each.seconds for each in compiled},
        memory=memory,
        most_seeds=most,
        operations=operations,
        bytes=moved,
        collectives=_found(compiled, ProgramText.collectives),
        custom_calls=_found(compiled, ProgramText.custom_calls),
        callbacks=_found(compiled, ProgramText.callbacks),
        nondeterministic=_determinism(compiled, compiler),
        bound_seconds=bound_of(job, target, training, calls),
        programs=[_program_plan(each) for each in compiled],
        units=UNITS,
        notes=[*_notes(compiler, most, operations, moved), *too_large],
    )


def _determinism(compiled: Sequence[Compiled], compiler: Compiler) -> list[Determinism]:
    """What determinism changes in the programs of a GPU; elsewhere they have no other way."""
    if compiler.target.chip.platform != "gpu":
        return []
    rows = []
    for each in compiled:
        compiler.on_progress(f"{each.program.name}, deterministic operations")
        rows.append(determinism_of(each, compiler.target.lowering))
    return rows


def _found(
    compiled: Sequence[Compiled], count: Callable[[ProgramText], Counter[str]]
) -> list[Found]:
    return [
        Found(each.program.name, name, number)
        for each in compiled
        for name, number in sorted(count(each.text).items())
    ]


def _program_plan(each: Compiled) -> ProgramPlan:
    return ProgramPlan(
        name=each.program.name,
        operations=each.operations.total,
        bytes=each.text.cost.bytes,
        temporaries=each.stats.temp_size_in_bytes,
        wide=each.text.wide(),
    )


def _notes(compiler: Compiler, most: MostSeeds, operations: Amount, moved: Amount) -> list[str]:
    several = f"{most.groups} groups take turns" if most.groups > 1 else "1 group"
    platform = compiler.target.chip.platform
    asked = compiler.job.most_at_once(platform)
    notes = [_UNKNOWN]
    if platform == "cpu":
        notes.append(
            f"on a CPU the network's size decides how many seeds stand side by side: {several} "
            "on its cores; no peaks of it are known, and so no bound of time"
        )
    elif asked is not None and min(asked, compiler.share) > most.per_device:
        notes.append(
            f"seeds_at_once is {asked}, of which {most.per_device} fit a device: training would "
            f"refuse it; give {most.per_device} at most, or leave it out"
        )
    elif most.at_once and most.groups > 1:
        notes.append(
            f"seeds_at_once keeps {several} on each device, though more would fit at once: "
            "--seeds-at-once None takes as many as fit"
        )
    elif most.runs > 1:
        notes.append(
            f"{most.asked} seeds do not fit at once, {most.on_target} do, and the states of the "
            f"others do not fit beside any group: train them in {most.runs} runs, one after the "
            "other; memory is that of one, the least time that of all"
        )
    elif not most.at_once:
        notes.append(
            f"{most.asked} seeds do not fit at once, {most.on_target} do: {several} on each device"
        )
    between = None if platform == "cpu" else left_open(most.tried, compiler.usable)
    if between is not None:
        ended = f"after {len(most.tried)} compilations the search ended ({_LIMITS})"
        why = "more were not tried" if len(most.tried) == 1 else ended
        notes.append(f"{bracket_text(between)} seeds fit a device: {why}")
    if not (operations.whole and moved.whole):
        notes.append(_OPEN_LOOPS)
    return notes


def _versions() -> dict[str, str]:
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
