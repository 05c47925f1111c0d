"""`seedmap forecast DIR --upto TIME`: when seeds in progress will converge."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from seedmap.experiments.commands.folder_options import FolderOptions, check_is_run
from seedmap.experiments.commands.parsing import parse
from seedmap.experiments.report.progress import group_bar


@dataclass(frozen=True)
class ForecastOptions(FolderOptions):
    """Options of `seedmap forecast`."""

    upto: float
    """Forecast from the records up to this time (epochs, or steps where there are no epochs)."""
    skill: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also measure, over the run's seeds, what such forecasts are worth: figures/forecast.png."""


def forecast_command(argv: Sequence[str]) -> None:
    """Runs `seedmap forecast DIR --upto TIME`."""
    options = parse(ForecastOptions, "forecast", argv)
    check_is_run("forecast", options.folder)
    from seedmap.experiments.report.run_text import forecasts
    from seedmap.experiments.runs.folder import FIGURES, FORECAST
    from seedmap.experiments.runs.forecast import forecast_run
    from seedmap.experiments.runs.session import in_place

    with in_place(options.folder, "forecast"):
        with group_bar() as callback:
            made = forecast_run(options.folder, options.upto, callback, options.skill)
        print(forecasts(made))
        print(f"Written: {options.folder / FORECAST}")
        if options.skill:
            print(f"Skill: {options.folder / FIGURES / 'forecast.png'}")
