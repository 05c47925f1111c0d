"""A plan as its file holds it: `plan.json`."""

from dataclasses import dataclass
from typing import Any

from seedmap.results import ABSENT, Absent

UNITS = {
    "compile_seconds": "seconds of processor time and of the clock on this machine, by program",
    "memory": "bytes a device, of the training program at the seeds in `memory.seeds`",
    "most_seeds": "seeds; `tried` in seeds and bytes a device",
    "operations": "floating-point operations a device, a multiplication and its addition as two",
    "bytes": "bytes a device, between its memory and the chip",
    "collectives": "times in the program's text",
    "custom_calls": "times in the program's text",
    "callbacks": "times in the program's text",
    "nondeterministic": (
        "times in the program's text; bytes of a call of the program; floating-point operations of "
        "a call, counted from the traced program and so the same without and with determinism"
    ),
    "bound_seconds": "seconds of training alone, all groups of seeds one after the other",
}


@dataclass(frozen=True)
class Hardware:
    """What was compiled for.

    Attributes:
        target: as it was asked for.
        chip: its name.
        platform: "cpu", "gpu" or "tpu".
        devices: that seeds are spread over.
        memory: bytes of a device.
        usable: bytes of them that a training takes at most.
        bandwidth: bytes a second; None: not known.
        peaks: operations a second by precision.
        source: of these numbers.
    """

    target: str
    chip: str
    platform: str
    devices: int
    memory: int
    usable: int
    bandwidth: float | None
    peaks: dict[str, float]
    source: str


@dataclass(frozen=True)
class CompileSeconds:
    """What a compiler took, on the machine that planned."""

    processor: float
    wall: float


@dataclass(frozen=True)
class Memory:
    """Memory of a device by kind, in bytes.

    Attributes:
        seeds: side by side on the device.
        state: parameters, optimiser, keys of these seeds.
        data: the examples, shared by all seeds.
        outputs: that reuse no argument.
        temporaries: of the program as it runs.
        code: of the program itself.
        other_groups: states of the seeds that wait for their turn.
        total: all of them.
    """

    seeds: int
    state: int
    data: int
    outputs: int
    temporaries: int
    code: int
    other_groups: int
    total: int


@dataclass(frozen=True)
class Tried:
    """A number of seeds on a device that was compiled for.

    Attributes:
        seeds: on a device.
        bytes: of memory that they need; None where the compiler refuses and does not say.
        fits: whether it is there.
    """

    seeds: int
    bytes: int | None
    fits: bool


@dataclass(frozen=True)
class MostSeeds:
    """How many seeds fit at once.

    Attributes:
        per_device: side by side on a device, compiled for and found to fit; the most there are but
            for 10 %, or a note says between which numbers these are.
        on_target: on all devices.
        asked: that were asked for.
        at_once: whether these fit at once.
        runs: one after the other, where the states of all do not fit beside a group; else 1.
        groups: that take turns in a run.
        tried: numbers compiled for.
    """

    per_device: int
    on_target: int
    asked: int
    at_once: bool
    runs: int
    groups: int
    tried: list[Tried]


@dataclass(frozen=True)
class Amount:
    """A cost of training on a device.

    Attributes:
        step: of an optimisation step of the seeds side by side.
        record: of what is measured at a record: metrics and evaluation.
        run: of all groups, to the end.
        whole: False where a loop's turns are known only as it runs, and counted once.
        source: how it was counted.
    """

    step: float
    record: float
    run: float
    whole: bool
    source: str


@dataclass(frozen=True)
class Found:
    """Something that stands out in a program's text."""

    program: str
    name: str
    count: int


@dataclass(frozen=True)
class Determinism:
    """A program for a GPU compiled with deterministic operations, beside what it is without.

    Attributes:
        program: its name.
        refused: the compiler's words; None where it compiles.
        changed: operation to how often it stands in the text without and with them.
        bytes: of a call without and with them.
        compile_seconds: of the processor, without and with them.
        operations: floating-point operations of a call. They are counted from the traced program,
            as GPUs' compilers tell none, and so are the same without and with them. Absent from
            plans of earlier versions.
    """

    program: str
    refused: str | None
    changed: dict[str, list[int]]
    bytes: list[float]
    compile_seconds: list[float]
    operations: float | Absent = ABSENT


@dataclass(frozen=True)
class Bound:
    """The least time that a chip's peaks allow; what it takes is not known before it runs.

    Attributes:
        products: seconds by the peak of products; None where it is not known.
        memory: seconds by the bandwidth; None where it is not known, or where a GPU's cache holds
            all that the program touches.
        run: the larger of the two, of the whole training.
        binds: "products" or "memory".
        precision: of products, whose peak it is.
    """

    products: float | None
    memory: float | None
    run: float | None
    binds: str | None
    precision: str


@dataclass(frozen=True)
class ProgramPlan:
    """A program of the run.

    Attributes:
        name: of the program.
        operations: of a call, loops of unknown length once.
        bytes: likewise.
        temporaries: bytes of a device.
        wide: operations on 64-bit floats.
    """

    name: str
    operations: float
    bytes: float
    temporaries: int
    wide: int


@dataclass(frozen=True)
class Plan:
    """The content of `plan.json`: what a run was compiled for, and nothing that was run.

    Attributes:
        experiment: its name; None of one's own task.
        preset: likewise.
        hyperparameters: of the training.
        hardware: compiled for.
        versions: of JAX and the compilers.
        steps: optimisation steps of each seed.
        records: of each seed.
        compile_seconds: by program.
        memory: of the training.
        most_seeds: that fit.
        operations: floating-point operations of training.
        bytes: that training moves.
        collectives: operations between devices.
        custom_calls: of what is no operation of XLA's.
        callbacks: to the host.
        nondeterministic: of GPUs, what determinism changes.
        bound_seconds: of the whole training.
        programs: all of them.
        units: of the fields.
        notes: what a reader must know.
    """

    experiment: str | None
    preset: str | None
    hyperparameters: dict[str, Any]
    hardware: Hardware
    versions: dict[str, str]
    steps: int
    records: int
    compile_seconds: dict[str, CompileSeconds]
    memory: Memory
    most_seeds: MostSeeds
    operations: Amount
    bytes: Amount
    collectives: list[Found]
    custom_calls: list[Found]
    callbacks: list[Found]
    nondeterministic: list[Determinism]
    bound_seconds: Bound
    programs: list[ProgramPlan]
    units: dict[str, str]
    notes: list[str]
