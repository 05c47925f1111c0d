"""The chips that a plan can be made for: memory, peaks, and what their compilers ask of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

GIB = 2**30
MIB = 2**20


@dataclass(frozen=True)
class Card:
    """What XLA's compiler for GPUs is told of a card, as its driver would.

    Attributes:
        name: as the driver calls it.
        capability: compute capability, major and minor.
        cores: streaming multiprocessors.
        lanes: float32 units of a core.
        shared_memory: bytes of a core; a block may have 1 KiB less.
        cache: bytes of the L2 cache.
        clock_ghz: of the cores, at boost.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    shared_memory: int
    cache: int
    clock_ghz: float


@dataclass(frozen=True)
class Chip:
    """A kind of device.

    Attributes:
        name: as on the command line, after the platform.
        platform: "tpu", "gpu" or "cpu".
        title: for tables.
        memory: bytes; 0: those of this machine.
        share: of the memory that JAX takes for itself at most.
        bandwidth: bytes a second between memory and chip; None: not known.
        peaks: products a second, in floating-point operations, by precision of the training.
        source: of these numbers.
        card: for the compiler of GPUs.
    """

    name: str
    platform: str
    title: str
    memory: int
    share: float
    bandwidth: float | None
    peaks: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""
    card: Card | None = None


def _tpu(name: str, title: str, memory: int, bandwidth: float, bfloat16: float) -> Chip:
    # A TPU multiplies in bfloat16: three passes for JAX's "tensorfloat32", six for float32.
    peaks = {"float32": bfloat16 / 6, "tf32": bfloat16 / 3, "bfloat16": bfloat16}
    source = f"Google Cloud documentation, {title}, system architecture (read 2026-11)"
    return Chip(name, "tpu", title, memory, 1.0, bandwidth, MappingProxyType(peaks), source)


def _gpu(name: str, memory: int, bandwidth: float, peaks: tuple[float, float], card: Card) -> Chip:
    # XLA computes JAX's "bfloat16" precision of float32 products on GPUs as TensorFloat-32.
    float32, tf32 = peaks
    by_precision = MappingProxyType({"float32": float32, "tf32": tf32, "bfloat16": tf32})
    source = f"NVIDIA data sheet, {card.name}, dense products (read 2026-11)"
    # XLA_PYTHON_CLIENT_MEM_FRACTION: JAX takes three quarters of a GPU's memory unless told.
    return Chip(name, "gpu", card.name, memory, 0.75, bandwidth, by_precision, source, card)


_HOPPER = {"capability": (9, 0), "cores": 132, "lanes": 128, "shared_memory": 228 * 2**10}
_CHIPS = (
    Chip("", "cpu", "CPU of this machine", 0, 1.0, None),
    _tpu("v5e", "TPU v5e", 16 * GIB, 819e9, 197e12),
    _tpu("v5p", "TPU v5p", 95 * GIB, 2765e9, 459e12),
    _tpu("v6e", "TPU v6e", 32 * GIB, 1640e9, 918e12),
    _gpu(
        *("a100", 81_920 * MIB, 2039e9, (19.5e12, 156e12)),
        Card("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 164 * 2**10, 40 * MIB, 1.41),
    ),
    _gpu(
        *("h100", 81_559 * MIB, 3350e9, (67e12, 494e12)),
        Card("NVIDIA H100 80GB HBM3", cache=50 * MIB, clock_ghz=1.98, **_HOPPER),
    ),
    _gpu(
        *("h200", 143_771 * MIB, 4800e9, (67e12, 494e12)),
        Card("NVIDIA H200", cache=50 * MIB, clock_ghz=1.98, **_HOPPER),
    ),
)
CHIPS = MappingProxyType({f"{chip.platform}:{chip.name}".rstrip(":"): chip for chip in _CHIPS})


def card_text(chip: Chip) -> str:
    """Describes a card to XLA: a `GpuTargetConfigProto` in text form."""
    card = chip.card
    assert card is not None  # nor is the bandwidth, of any GPU
    assert chip.bandwidth is not None
    major, minor = card.capability
    device = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "threads_per_core_limit": 2048,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "registers_per_core_limit": 2**16,
        "registers_per_block_limit": 2**16,
        "shared_memory_per_block": 48 * 2**10,
        "shared_memory_per_block_optin": card.shared_memory - 2**10,
        "shared_memory_per_core": card.shared_memory,
        "core_count": card.cores,
        "fpus_per_core": card.lanes,
        "l2_cache_size": card.cache,
        "clock_rate_ghz": card.clock_ghz,
        "memory_bandwidth": int(chip.bandwidth),
        "device_memory_size": chip.memory,
    }
    lines = "\n".join(f"  {name}: {value}" for name, value in device.items())
    capability = f"cuda_compute_capability {{ major: {major} minor: {minor} }}"
    return (
        f"gpu_device_info {{\n{lines}\n  {capability}\n}}\n"
        'platform_name: "CUDA"\n'
        "dnn_version_info { major: 9 minor: 10 patch: 0 }\n"
        f'device_description_str: "{card.name}"\n'
    )
