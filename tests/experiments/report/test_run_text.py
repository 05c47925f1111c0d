"""What the commands on a run print."""

from dataclasses import replace

from seedmap.experiments.report.run_text import baselines, forecasts
from seedmap.experiments.runs.baselines import Baseline, Baselines
from seedmap.experiments.runs.forecast import Forecasts, SeedForecast

DASH = "\N{EN DASH}"


def cells(text):
    return [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_forecasts_are_a_line_a_seed_the_soonest_first():
    common = {"convergence_probability": 0.6, "level": 0.8, "low": 10.4, "high": None}
    rows = [
        SeedForecast(**common, seed="3", median=None, actual=None),
        SeedForecast(**common, seed="7", median=90.0, actual=None),
        SeedForecast(**common, seed="12", median=20.6, actual=22.0),
    ]
    made = Forecasts("an id", None, 0.9, "step", 9.0, rows)
    header, first, second, third = (list(map(str.strip, row)) for row in cells(forecasts(made)))
    assert header == ["seed", "median", "80 % interval", "came at"]
    assert first == ["12", "21", "10 to never", "22"]
    assert second == ["7", "90", "10 to never", "never"]
    assert third == ["3", "never", "10 to never", "never"]
    assert forecasts(replace(made, forecasts=[])).startswith("No seed is left")


def test_baselines_are_a_line_a_model():
    rows = [
        Baseline("HMM", 4, 38, r2=0.9613, leave_one_out_r2=-0.12, f_pvalue=3e-9),
        Baseline("k-means", 4, 38, r2=0.9613, leave_one_out_r2=None, f_pvalue=0.02),
    ]
    made = Baselines("an id", None, 0.9, rows)
    _, first, second = (list(map(str.strip, row)) for row in cells(baselines(made)))
    assert first == ["HMM", "4", "38", "0.961", "\N{MINUS SIGN}0.120", "<0.001"]
    assert second == ["k-means", "4", "38", "0.961", "undefined", "0.020"]
