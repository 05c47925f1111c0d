"""`seedmap overhead`: what determinism, precision and seeds side by side cost in time."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.errors import UserError
from seedmap.experiments.commands.parsing import parse
from seedmap.experiments.tasks.base import check_positive
from seedmap.transaction import claim


@dataclass(frozen=True)
class OverheadOptions:
    """Options of `seedmap overhead`."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to write overhead.json, overhead.csv, overhead.html and figures to."""
    networks: tuple[str, ...] = ()
    """Networks to time; by default those of Zhuang et al. 2022 on GPU and TPU, on CPU the small
    ones."""
    modes: tuple[str, ...] = ()
    """Modes to compare with the default one; flags:--xla_... for any flags of XLA. By default all
    that the device supports."""
    steps: int = 100
    """Training steps a turn."""
    batch_size: int = 128
    """Examples a step."""
    image_size: int | None = None
    """Rows and columns of the images; by default 224, and 32 for the networks for CIFAR and, on
    CPU, the six-layer ones."""
    rounds: int = 6
    """Turns of every mode; 6 are the fewest whose intervals cover 95 %."""
    seeds: int = 4
    """Seeds side by side in the mode vmapped."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the measurement in the folder."""


def overhead_command(argv: Sequence[str]) -> None:
    """Runs `seedmap overhead --networks ... --modes ... --out DIR`."""
    options = parse(OverheadOptions, "overhead", argv)
    from seedmap.experiments.overhead import report
    from seedmap.experiments.overhead.modes import find_modes
    from seedmap.experiments.overhead.networks import find_networks

    _check(options)
    find_networks(options.networks), find_modes(options.modes)  # before anything is started
    check = partial(report.check_out, options.out, options.overwrite)
    with claim(options.out, "overhead", check):
        _overhead(options)


def _overhead(options: OverheadOptions) -> None:
    """Measures, writes what there is after each network, and prints it."""
    from seedmap.experiments.overhead import report
    from seedmap.experiments.overhead.results import results_of

    with tempfile.TemporaryDirectory(prefix="seedmap-overhead-") as scratch:
        device, settings, networks, modes = _plan(options, Path(scratch))
        trials = _try(networks, modes, settings)
        reason = ""
        try:
            for timings in _measure(networks, modes, settings, trials):
                results = results_of(timings, settings.steps)
                summary = report.summarise_measurement(device, settings, modes, trials, results)
                page = report.write_measurement(options.out, summary)
                reason = f"; the networks timed before are in {page}"
        except KeyboardInterrupt:
            raise KeyboardInterrupt(reason) from None
    print(report.terminal(summary))
    print(f"Written: {page}")
    if not any(result.step_ms for result in results):
        raise UserError(f"nothing could be timed: {options.out / report.CSV} has the reasons")


def _check(options: OverheadOptions) -> None:
    check_positive(options, "steps", "batch_size")
    for name, least in (("rounds", 2), ("seeds", 2)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; it must be at least {least}")
    if options.image_size is not None:
        check_positive(options, "image_size")


def _plan(options: OverheadOptions, scratch: Path):
    """Returns device, settings, networks and modes, and prints them."""
    from seedmap.experiments.overhead.measuring import Settings
    from seedmap.experiments.overhead.modes import find_modes, usual_modes
    from seedmap.experiments.overhead.networks import find_networks, usual_networks
    from seedmap.experiments.overhead.processes import find_device

    device = find_device(scratch)
    platform = device["platform"]
    networks = find_networks(options.networks or usual_networks(platform))
    modes = find_modes(options.modes or usual_modes(platform))
    print(f"Device: {device['count']} x {device['kind']} ({platform})")
    print(f"Networks: {', '.join(network.name for network in networks)}")
    print(f"Modes: {', '.join(mode.name for mode in modes)}")
    sizes = {name: getattr(options, name) for name in ("steps", "batch_size", "rounds", "seeds")}
    return (
        device,
        Settings(platform, scratch, image_size=options.image_size, **sizes),
        networks,
        modes,
    )


def _try(networks, modes, settings):
    """Runs a few steps of every network and prints the estimated time of the measurement."""
    from seedmap.experiments.overhead.measuring import estimate_seconds, try_network
    from seedmap.experiments.report.progress import overhead_bar

    trials = []
    with overhead_bar("trial", " networks", len(networks)) as show:
        for network in networks:
            show(network.name, 0)
            trials.append(try_network(network, modes[0], settings))
            show(network.name, 1)
    seconds = 0.0
    for trial in trials:
        if trial.error is not None:
            print(f"  {trial.network}: no estimate, {trial.error}")
            continue
        needed = estimate_seconds(trial, modes, settings)
        seconds += needed
        print(f"  {trial.network}: {trial.step_seconds:.3g} s a step, {needed / 60:.1f} min in all")
    print(
        f"Cost: {len(networks)} networks x {len(modes)} modes x {settings.rounds} rounds x "
        f"{settings.steps} steps, about {seconds / 60:.1f} min",
        flush=True,
    )
    return trials


def _measure(networks, modes, settings, trials):
    """Yields all times after each network, so that a measurement cut short keeps them.

    What the trial compiled is loaded, not compiled, so its time counts.
    """
    from seedmap.experiments.overhead.measuring import measure
    from seedmap.experiments.report.progress import overhead_bar

    timings = []
    total = len(networks) * len(modes) * (1 + settings.rounds)
    with overhead_bar("measure", " turns", total) as show:
        for network, trial in zip(networks, trials, strict=True):
            rows = measure(network, modes, settings, show)
            if trial.compile_seconds is not None and rows[0].compile_seconds is not None:
                rows[0].compile_seconds = trial.compile_seconds
            timings += rows
            yield timings
