"""Cost of a record of `seedmap.Recorder` beside a training step of PyTorch, both in one run.

    python benchmarks/recorder.py                      # a MLP and a transformer of 10 M weights
    python benchmarks/recorder.py --device cuda --rounds 30

Steps and records take turns, and medians are printed, of the clock and of CPU time, which other
work on the machine changes less. What a record costs does not depend on the
batch, what a step costs does: batches here are of a usual size, and the share of a run's time that
goes into records is given for one every 100 steps.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from seedmap.experiments.recording.recorder import Recorder

EVERY = 100  # steps


def mlp() -> tuple[nn.Module, torch.Tensor, int]:
    """A classifier of images of 28 x 28, with a batch of 128."""
    layers = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*layers), torch.randn(128, 784), 10


class Transformer(nn.Module):
    """A transformer of 6 layers over 128 tokens: 10.6 M weights in its blocks."""

    def __init__(self, width: int = 384, layers: int = 6, tokens: int = 256):
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        layer = nn.TransformerEncoderLayer(width, 6, 4 * width, 0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(tokens)))


def transformer() -> tuple[nn.Module, torch.Tensor, int]:
    """A transformer, with a batch of 16 sequences of 128 tokens."""
    return Transformer(), torch.randint(0, 256, (16, 128)), 256


NETWORKS = {"MLP": mlp, "transformer": transformer}


def seconds(work: Callable[[], object], device: str) -> tuple[float, float]:
    """Times a call, with what it has begun on the device: by the clock, and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - cpu


def measure(name: str, device: str, rounds: int) -> None:
    """Prints a row of the table."""
    torch.manual_seed(0)
    model, batch, classes = NETWORKS[name]()
    model, batch = model.to(device), batch.to(device)
    labels = torch.randint(0, classes, tuple(batch.shape[:1]), device=device)
    if batch.ndim == 2 and not batch.is_floating_point():
        labels = batch
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        logits = model(batch)
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        optimizer.zero_grad(), loss.backward(), optimizer.step()

    numbers = iter(range(10**6))
    with tempfile.TemporaryDirectory() as folder, Recorder(folder, "a", heads=6) as recorder:

        def record() -> None:
            recorder.record(next(numbers), model.state_dict(), train_loss=1.0)

        step(), record()  # what is done once
        times = [(*seconds(step, device), *seconds(record, device)) for _ in range(rounds)]
    step_clock, step_cpu, clock, cpu = (median(column) for column in zip(*times, strict=True))
    weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(
        f"| {name} | {weights:.1f} M | {1e3 * step_clock:.1f} ({1e3 * step_cpu:.1f}) ms "
        f"| {1e3 * clock:.1f} ({1e3 * cpu:.1f}) ms | {clock / step_clock:.2f} "
        f"({cpu / step_cpu:.2f}) | {clock / (EVERY * step_clock + clock):.2%} |"
    )


def main() -> None:
    """Measures every network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(f"| network | weights | step (CPU) | record (CPU) | ratio | share of {EVERY} steps |")
    print("|---|---|---|---|---|---|")
    for name in NETWORKS:
        measure(name, options.device, options.rounds)


if __name__ == "__main__":
    main()
