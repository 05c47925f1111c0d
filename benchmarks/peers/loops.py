"""The loops that are timed: ours, JAX one seed at a time, PyTorch plain and by torch.func.

Before they are timed PyTorch's are given our parameters and batch: the losses of two steps must be
ours, which tells network, loss and optimiser alike.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from peers.networks import Peer
from seedmap.experiments.tasks.base import Setup, TrainingConfig
from seedmap.trainer import Data, Task, make_streams, make_trainer
from seedmap.trainer.group_size import cpu_group
from seedmap.trainer.placement import in_lanes, place, share, spread
from seedmap.trainer.step import SeedState, train_step
from seedmap.trainer.streams import Streams
from seedmap.trainer.task import Noise, Variables, as_model, draw_data, init_model

Run = Callable[[], None]
BETAS = (0.9, 0.999)
RTOL = 1e-4  # of a loss after an update, whose gradients are float32 sums in other orders


class Case(NamedTuple):
    """A task to time: ours, and PyTorch's counterpart.

    `epochs` are trained between two readings of the clock.
    """

    config: TrainingConfig
    setup: Callable[[TrainingConfig], Setup]
    peer: Callable[[Any], Peer]
    epochs: int

    @property
    def steps(self) -> int:
        """Optimisation steps of `epochs`, the smaller last batches included."""
        num_train = self.setup(self.config).task.num_train
        return self.epochs * -(-num_train // self.config.batch_size)


def without_tests(task: Task) -> Task:
    """Leaves one test example, so that evaluating costs nothing."""

    def make(*arguments: Any) -> Data:
        data = task.make_data(*arguments)
        return Data(data.train, jax.tree.map(lambda leaf: leaf[:1], data.test))

    return task._replace(make_data=make)


def our_loop(case: Case, seeds: int, at_once: int | None) -> Run:
    """Our trainer, compiled, groups on every core; each call trains every seed for the epochs."""
    task, optimizer, *_ = case.setup(case.config)
    size = at_once or case.config.seeds_at_once or cpu_group(task)
    placement = place(seeds, size, jax.devices())
    trainer = make_trainer(
        without_tests(task),
        optimizer,
        case.config.batch_size,
        case.steps,
        (),
        mesh=placement.mesh,
    )
    pool = share(placement, task.pool)
    groups = [trainer.init(keys) for keys in spread(placement, make_streams(range(seeds)))]
    walk = trainer.walk.lower(groups[0], pool).compile()

    def run() -> None:
        nonlocal groups
        groups = in_lanes(placement, lambda state: jax.block_until_ready(walk(state, pool)), groups)

    return run


def jax_loop(case: Case) -> Run:
    """JAX without us: one seed under jit, a scan over the steps; each call trains one seed."""
    task, optimizer, *_ = case.setup(case.config)
    trainer = make_trainer(without_tests(task), optimizer, case.config.batch_size, case.steps, ())
    state = trainer.init(make_streams(range(1)))
    walk = trainer.walk.lower(state, task.pool).compile()

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(walk(state, task.pool))

    return run


class TorchStep(NamedTuple):
    """A training step in PyTorch, and the data.

    Attributes:
        inputs: [example, ...] of the whole training set.
        labels: [example].
        take: (batch of inputs, of labels) -> its loss before the update; of stacked seeds
            [seed, example, ...] -> [seed].
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    take: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def torch_step(case: Case) -> TorchStep:
    """The plain step: module, `backward`, an optimiser of `torch.optim`."""
    peer, config = case.peer(case.config), case.config
    model = _module(case, peer)
    rates = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    optimizer = (
        torch.optim.AdamW(model.parameters(), eps=peer.epsilon, betas=BETAS, **rates)
        if peer.adam
        else torch.optim.SGD(model.parameters(), **rates)
    )

    def take(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = peer.loss(model(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return TorchStep(*_examples(case, peer), take)


def torch_func_step(case: Case, seeds: int, compiled: bool) -> TorchStep:
    """The step by torch.func: all seeds vmapped over stacked parameters, perhaps compiled.

    The optimiser is written out on the stacked tensors.
    """
    peer = case.peer(case.config)
    modules = [_module(case, peer) for _ in range(seeds)]
    parameters, buffers = stack_module_state(modules)
    parameters = {name: value.detach() for name, value in parameters.items()}
    moments = [{name: torch.zeros_like(v) for name, v in parameters.items()} for _ in range(2)]

    def loss(own, held, inputs, labels):
        held = {name: value.clone() for name, value in held.items()}  # batch norm changes them
        return peer.loss(functional_call(modules[0], (own, held), (inputs,)), labels), held

    gradient = vmap(grad_and_value(loss, has_aux=True))
    update = _adamw if peer.adam else _sgd

    def step(parameters, held, moments, count, inputs, labels):
        slopes, (value, held) = gradient(parameters, held, inputs, labels)
        return *update(case.config, peer, parameters, slopes, moments, count), held, value

    advance = torch.compile(step) if compiled else step
    count = torch.zeros(())

    def take(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal parameters, buffers, moments, count
        count = count + 1
        parameters, moments, buffers, value = advance(
            parameters, buffers, moments, count, inputs, labels
        )
        return value

    return TorchStep(*_examples(case, peer), take)


def _sgd(config, peer, parameters, slopes, moments, count):
    rate, decay = config.learning_rate, config.weight_decay
    return {n: v - rate * (slopes[n] + decay * v) for n, v in parameters.items()}, moments


def _adamw(config, peer, parameters, slopes, moments, count):
    (first, second), rate, decay = BETAS, config.learning_rate, config.weight_decay
    means = {n: first * m + (1 - first) * slopes[n] for n, m in moments[0].items()}
    squares = {n: second * s + (1 - second) * slopes[n] ** 2 for n, s in moments[1].items()}
    new = {}
    for name, value in parameters.items():
        mean = means[name] / (1 - first**count)
        root = (squares[name] / (1 - second**count)).sqrt() + peer.epsilon
        new[name] = value - rate * (mean / root + decay * value)
    return new, [means, squares]


def torch_loop(case: Case, step: TorchStep) -> Run:
    """Each call trains one seed for the epochs, by a permutation of the row numbers."""

    def run() -> None:
        for _ in range(case.epochs):
            for rows in torch.randperm(len(step.labels)).split(case.config.batch_size):
                step.take(step.inputs[rows], step.labels[rows])

    return run


def torch_func_loop(case: Case, step: TorchStep, seeds: int) -> Run:
    """Each call trains every seed for the epochs, batches drawn per seed."""

    def run() -> None:
        for _ in range(case.epochs):
            orders = torch.stack([torch.randperm(len(step.labels)) for _ in range(seeds)])
            for rows in orders.split(case.config.batch_size, dim=1):
                step.take(step.inputs[rows], step.labels[rows])

    return run


def check_equal(case: Case, step: TorchStep, name: str, seeds: int | None = None) -> None:
    """Takes two steps on the first batch: their losses must be those of our step.

    Args:
        case: the task.
        step: PyTorch's, not used yet.
        name: of the step, for the message.
        seeds: stacked in it; None: one, not stacked.

    Raises:
        SystemExit: they differ.
    """
    rows = slice(case.config.batch_size)
    inputs, labels = step.inputs[rows], step.labels[rows]
    if seeds is not None:
        inputs, labels = (x.expand(seeds, *x.shape) for x in (inputs, labels))
    theirs = np.stack([step.take(inputs, labels).numpy() for _ in range(2)])
    ours = our_losses(case)
    if not np.allclose(theirs.reshape(2, -1).T, ours, rtol=RTOL, atol=0):
        raise SystemExit(f"{name}: losses {theirs.tolist()} of two steps, ours {ours.tolist()}")


def our_losses(case: Case) -> np.ndarray:
    """Losses of two of our steps on the first batch, float [2], from `_start`."""
    task, optimizer, *_ = case.setup(case.config)
    key = jax.random.key(0)
    train, model = draw_data(task, key, task.pool).train, _start(case)
    state = SeedState(
        Streams(*(key,) * len(Streams._fields)),
        {},
        model,
        optimizer.init(model.params),
        jnp.int32(-1),
        jnp.int32(-1),
    )
    rows, losses = jnp.arange(case.config.batch_size), []
    for _ in range(2):
        state, (loss, _) = train_step(task, optimizer, state, train, rows, Noise(key, key))
        losses.append(float(loss))
    return np.array(losses)


def _start(case: Case) -> Variables:
    return init_model(case.setup(case.config).task, jax.random.key(0))


def _module(case: Case, peer: Peer) -> torch.nn.Module:
    """PyTorch's network with our initial parameters, all of which it must have."""
    module, weights = peer.network(), peer.weights(as_model(_start(case)))
    expected = {name for name, value in module.named_parameters() if not _at_start(name, value)}
    if expected - set(weights):
        raise RuntimeError(f"parameters that are not ours: {sorted(expected - set(weights))}")
    with torch.no_grad():
        state = module.state_dict()
        for name, value in weights.items():
            state[name].copy_(torch.tensor(np.array(value)))
    return module


def _at_start(name: str, value: torch.Tensor) -> bool:
    """Whether a parameter is a norm's scale or bias, 1 or 0 at first on both sides."""
    return bool((value == (1 if name.endswith("weight") else 0)).all())


def _examples(case: Case, peer: Peer) -> tuple[torch.Tensor, torch.Tensor]:
    """The training set as PyTorch's tensors, in memory, in the network's own form."""
    task = case.setup(case.config).task
    x, y = jax.device_get(draw_data(task, jax.random.key(0), task.pool).train)
    inputs, labels = torch.tensor(peer.inputs(x)), torch.tensor(y)
    if not labels.is_floating_point():
        labels = labels.long()
    return inputs if inputs.is_floating_point() else inputs.long(), labels


def least_seconds(
    sides: dict[str, Run], repeats: int, clock: Callable[[], float]
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
