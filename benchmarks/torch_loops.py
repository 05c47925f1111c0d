"""Our trainer beside what people would write: `python benchmarks/torch_loops.py [--tasks ...]`.

Seed-steps per second of the same work on the same machine: 40 seeds in groups on every core,
against PyTorch (`pip install -c constraints.txt -e '.[benchmark]'`) one seed at a time, PyTorch
with `torch.func` (parameters stacked, vmapped) with and without `torch.compile`, and JAX one seed
at a time under jit; same model, shapes, batches and optimiser, nothing recorded on any side. The
PyTorch loops are what one writes: whole-batch tensor code, all three positions of the transformer,
data in memory, batches by a permutation of row numbers (no data loader, which would be slower).

For modular arithmetic also the bound: the matrix products of our step, forward and backward, alone,
as batched float32 products of the same shapes and number of seeds in one compiled program. Its
seconds over the step's are the share of the step that is bare matrix product.

All sides take turns in one run, each timed `--repeats` times; the least seconds count and the
ratios are of those. `--at-once k` has groups of k seeds in place of the preset's or the rule's. On
a machine that other work shares, `taskset -c 0 python benchmarks/torch_loops.py --clock cpu`
compares processor seconds of a single core.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import torch
from torch import nn

from seedmap.experiments.processes.cores import use_cores
from seedmap.experiments.tasks import modular, sparse_parities
from seedmap.experiments.tasks.base import Setup, TrainingConfig
from seedmap.trainer import Data, make_streams, make_trainer
from seedmap.trainer.group_size import by_network
from seedmap.trainer.placement import in_lanes, place, share, spread


class TorchMLP(nn.Module):
    """The network of sparse parities."""

    def __init__(self, bits: int, hidden: int):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(bits, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.net(x)[:, 0]


class TorchTransformer(nn.Module):
    """The network of modular arithmetic on all three positions."""

    def __init__(self, config: modular.ModularConfig):
        super().__init__()
        width, heads = config.width, config.heads
        self.heads, self.head_width, self.equals = heads, width // heads, config.prime
        self.embed = nn.Embedding(config.prime + 1, width)
        self.positions = nn.Parameter(torch.randn(3, width) / math.sqrt(width))
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_hidden), nn.ReLU(), nn.Linear(config.mlp_hidden, width)
        )
        norms = (nn.LayerNorm(width) if config.layer_norm else nn.Identity() for _ in range(2))
        self.norm_0, self.norm_1 = norms
        self.unembed = nn.Linear(width, config.prime + 1, bias=False)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))

    def forward(self, operands):
        tokens = nn.functional.pad(operands, (0, 1), value=self.equals)
        x = self.embed(tokens) + self.positions
        q, k, v = (
            projection(x).unflatten(2, (self.heads, self.head_width)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(self.head_width) + self.mask
        mixed = (torch.softmax(scores, dim=3) @ v).transpose(1, 2).flatten(2)
        x = self.norm_0(x + self.out(mixed))
        x = self.norm_1(x + self.mlp(x))
        return self.unembed(x)[:, -1]


def hinge(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.relu(1 - label * output).mean()


def torch_parities(config: sparse_parities.ParitiesConfig) -> tuple[nn.Module, Callable, Callable]:
    return (
        TorchMLP(config.bits, config.hidden),
        hinge,
        lambda parameters: torch.optim.SGD(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        ),
    )


def torch_modular(config: modular.ModularConfig) -> tuple[nn.Module, Callable, Callable]:
    return (
        TorchTransformer(config),
        nn.functional.cross_entropy,
        lambda parameters: torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        ),
    )


class Case(NamedTuple):
    """A task to time: ours, and PyTorch's counterpart as (model, loss, parameters -> optimiser).

    `epochs` are trained between two readings of the clock.
    """

    config: TrainingConfig
    setup: Callable[[TrainingConfig], Setup]
    counterpart: Callable
    epochs: int

    @property
    def steps(self) -> int:
        """Optimisation steps of `epochs`, the smaller last batches included."""
        num_train = self.setup(self.config).task.num_train
        return self.epochs * -(-num_train // self.config.batch_size)


CASES = {
    "parities-128": Case(sparse_parities.PAPER, sparse_parities.setup, torch_parities, 20),
    "parities-1000": Case(
        replace(sparse_parities.PAPER, hidden=1000), sparse_parities.setup, torch_parities, 5
    ),
    "modular": Case(modular.PAPER, modular.setup, torch_modular, 2),
    "modular-stabilised": Case(modular.STABILISED, modular.setup, torch_modular, 1),
}


def without_tests(make_data: Callable[[jax.Array], Data]) -> Callable[[jax.Array], Data]:
    """Leaves one test example, so that evaluating costs nothing."""

    def make(key: jax.Array) -> Data:
        data = make_data(key)
        return Data(data.train, jax.tree.map(lambda leaf: leaf[:1], data.test))

    return make


def our_loop(case: Case, seeds: int, at_once: int | None) -> Callable[[], None]:
    """Our trainer, compiled, groups on every core; each call trains every seed for the epochs."""
    task, optimizer, *_ = case.setup(case.config)
    task = task._replace(make_data=without_tests(task.make_data))
    size = at_once or case.config.seeds_at_once or by_network(task)
    placement = place(seeds, size, jax.devices())
    trainer = make_trainer(
        task, optimizer, case.config.batch_size, case.steps, (), mesh=placement.mesh
    )
    pool = share(placement, task.pool)
    groups = [trainer.init(keys) for keys in spread(placement, make_streams(range(seeds)))]
    walk = trainer.walk.lower(groups[0], pool).compile()

    def run() -> None:
        nonlocal groups
        groups = in_lanes(placement, lambda state: jax.block_until_ready(walk(state, pool)), groups)

    return run


def jax_loop(case: Case) -> Callable[[], None]:
    """JAX without us: one seed under jit, a scan over the steps; each call trains one seed."""
    task, optimizer, *_ = case.setup(case.config)
    trainer = make_trainer(
        task._replace(make_data=without_tests(task.make_data)),
        optimizer,
        case.config.batch_size,
        case.steps,
        (),
    )
    state = trainer.init(make_streams(range(1)))
    walk = trainer.walk.lower(state, task.pool).compile()

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(walk(state, task.pool))

    return run


def torch_vmap_loop(case: Case, seeds: int, compiled: bool) -> Callable[[], None]:
    """PyTorch with torch.func: all seeds vmapped, perhaps compiled; batches are drawn per seed.

    Gradients by `grad` under `vmap` over stacked parameters; SGD with weight decay, or AdamW, as
    functions of the stacked tensors.
    """
    from torch.func import functional_call, grad, stack_module_state, vmap

    train = case.setup(case.config).task.make_data(jax.random.key(0)).train
    x, y = (torch.tensor(jax.device_get(leaf)) for leaf in train)
    if not y.is_floating_point():
        x, y = x.long(), y.long()
    parts = [case.counterpart(case.config) for _ in range(seeds)]
    (first, loss_of, _), config = parts[0], case.config
    parameters, buffers = stack_module_state([model for model, *_ in parts])
    parameters = {name: value.detach() for name, value in parameters.items()}

    def loss(own, held, inputs, labels):
        return loss_of(functional_call(first, (own, held), (inputs,)), labels)

    gradient = vmap(grad(loss))
    adam = isinstance(config, modular.ModularConfig)
    moments = [{name: torch.zeros_like(v) for name, v in parameters.items()} for _ in range(2)]

    def step(parameters, mean, square, count, inputs, labels):
        gradients = gradient(parameters, buffers, inputs, labels)
        rate, decay = config.learning_rate, config.weight_decay
        new, means, squares = {}, {}, {}
        for name, value in parameters.items():
            slope = gradients[name]
            if not adam:
                new[name] = value - rate * (slope + decay * value)
                means[name], squares[name] = mean[name], square[name]
                continue
            means[name] = 0.9 * mean[name] + 0.1 * slope
            squares[name] = 0.999 * square[name] + 0.001 * slope * slope
            scaled = (means[name] / (1 - 0.9**count)) / (
                (squares[name] / (1 - 0.999**count)).sqrt() + 1e-8
            )
            new[name] = value - rate * (scaled + decay * value)
        return new, means, squares

    advance = torch.compile(step) if compiled else step
    count = torch.zeros(())

    def run() -> None:
        nonlocal parameters, moments, count
        for _ in range(case.epochs):
            orders = torch.stack([torch.randperm(len(y)) for _ in range(seeds)])
            for rows in orders.split(config.batch_size, dim=1):
                count = count + 1
                parameters, *moments = advance(parameters, *moments, count, x[rows], y[rows])

    return run


def torch_loop(case: Case) -> Callable[[], None]:
    """The plain loop; each call trains one seed for the case's epochs."""
    torch.manual_seed(0)
    train = case.setup(case.config).task.make_data(jax.random.key(0)).train
    x, y = (torch.tensor(jax.device_get(leaf)) for leaf in train)
    if not y.is_floating_point():
        x, y = x.long(), y.long()
    model, loss_of, make_optimizer = case.counterpart(case.config)
    optimizer = make_optimizer(model.parameters())

    def run() -> None:
        for _ in range(case.epochs):
            for rows in torch.randperm(len(y)).split(case.config.batch_size):
                optimizer.zero_grad()
                loss_of(model(x[rows]), y[rows]).backward()
                optimizer.step()

    return run


def modular_products(config: modular.ModularConfig) -> list[tuple[str, tuple, tuple]]:
    """The matrix products of one step of one seed, forward and backward, as our step has them.

    With B examples, V = prime + 1 tokens, width D, M hidden units and H heads: the score and value
    of every token and position [V + 3, D] [D, D + H], attention's output [B, D] [D, D], the MLP
    [B, D] [D, M] and [B, M] [M, D], the unembedding [B, D] [D, V]; each once forward, once for its
    input's gradient, once for its weights'. The last two matrices are stored transposed.

    Returns:
        (einsum, first shape, second shape) of every product.
    """
    batch, width, hidden = config.batch_size, config.width, config.mlp_hidden
    vocab, per_token = config.prime + 1, config.width + config.heads
    layers = [
        (vocab, width, per_token, "io"),
        (3, width, per_token, "io"),
        (batch, width, width, "io"),
        (batch, width, hidden, "io"),
        (batch, hidden, width, "oi"),
        (batch, width, vocab, "oi"),
    ]
    products = []
    for rows, inputs, outputs, stored in layers:
        weight = (inputs, outputs) if stored == "io" else (outputs, inputs)
        products += [
            (f"bi,{stored}->bo", (rows, inputs), weight),
            (f"bo,{stored}->bi", (rows, outputs), weight),
            (f"bi,bo->{stored}", (rows, inputs), (rows, outputs)),
        ]
    return products


def flops(products: list[tuple[str, tuple, tuple]]) -> float:
    """Operations of the products: 2 for every multiplication and addition."""
    total = 0
    for equation, first, second in products:
        sizes = dict(zip(equation.split("->")[0].replace(",", ""), first + second, strict=True))
        total += 2 * math.prod(sizes.values())
    return float(total)


def bound_loop(case: Case, seeds: int, at_once: int) -> Callable[[], None]:
    """The bare products of the steps of every seed, `at_once` seeds in a product."""
    products = modular_products(case.config)
    shapes = [(at_once, *shape) for _, *pair in products for shape in pair]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    operands = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]

    @jax.jit
    def program(operands: list[jax.Array]) -> jax.Array:
        def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            # The barriers keep the products in the loop, and whole.
            carry, held = jax.lax.optimization_barrier((carry, operands))
            results = [
                jax.vmap(lambda a, b, eq=equation: jnp.einsum(eq, a, b))(first, second)
                for (equation, *_), first, second in zip(
                    products, held[::2], held[1::2], strict=True
                )
            ]
            results = jax.lax.optimization_barrier(results)
            return carry + sum(result[0, 0, 0] for result in results), None

        return jax.lax.scan(step, jnp.float32(0), None, length=case.steps)[0]

    compiled = program.lower(operands).compile()
    counted, expected = compiled.cost_analysis()["flops"], at_once * flops(products)
    if abs(counted / expected - 1) > 0.01:
        raise RuntimeError(f"the bound's program has {counted:.3g} flops, not {expected:.3g}")

    def run() -> None:
        for _ in range(0, seeds, at_once):
            jax.block_until_ready(compiled(operands))

    return run


def least_seconds(
    sides: dict[str, Callable[[], None]], repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Runs every side once untimed, then all in turn; the least seconds of each."""
    seconds = dict.fromkeys(sides, math.inf)
    for repeat in range(repeats + 1):
        for name, run in sides.items():
            started = clock()
            run()
            if repeat:
                seconds[name] = min(seconds[name], clock() - started)
    return seconds


def report(name: str, arguments: argparse.Namespace) -> None:
    """Times a case and prints its lines."""
    case, seeds = CASES[name], arguments.seeds
    sides = {
        "ours": our_loop(case, seeds, arguments.at_once),
        "PyTorch, one by one": torch_loop(case),
        "PyTorch, vmap": torch_vmap_loop(case, seeds, compiled=False),
        "PyTorch, vmap compiled": torch_vmap_loop(case, seeds, compiled=True),
        "JAX, one by one": jax_loop(case),
    }
    alone = {name for name in sides if "one by one" in name}
    if isinstance(case.config, modular.ModularConfig):
        sides["bound"] = bound_loop(case, seeds, arguments.at_once or seeds)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    seconds = least_seconds(sides, arguments.repeats, clock)
    speeds = {side: (1 if side in alone else seeds) * case.steps / seconds[side] for side in sides}
    print(f"{name}: ours {speeds['ours']:,.0f} seed-steps/s", flush=True)
    for side, speed in speeds.items():
        if side not in ("ours", "bound"):
            ratio = speeds["ours"] / speed
            print(f"  {side:<24} {speed:>10,.0f} seed-steps/s, ours {ratio:5.1f} times", flush=True)
    if "bound" in seconds:
        rate = seeds * case.steps * flops(modular_products(case.config)) / seconds["bound"]
        share = seconds["bound"] / seconds["ours"]
        print(f"  bare products at {rate / 1e9:.0f} GFLOP/s: {100 * share:.0f} % of our seconds")


def main() -> None:
    """Times every task asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--at-once", type=int, help="seeds of a group; by default the rule's")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    arguments = parser.parse_args()
    use_cores()
    device = jax.devices()[0]
    print(
        f"{device.device_kind}, jax {jax.__version__}, torch {torch.__version__} on "
        f"{torch.get_num_threads()} threads, {arguments.seeds} seeds"
    )
    for name in arguments.tasks:
        report(name, arguments)


if __name__ == "__main__":
    main()
