"""What the commands on a run print."""

from seedmap.experiments.report.run_text import baselines, forecasts

DASH = "\N{EN DASH}"


def cells(text):
    return [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_forecasts_are_a_line_a_seed_the_soonest_first():
    common = {"level": 0.8, "low": 10.4, "high": float("inf")}
    rows = [
        common | {"seed": "7", "median": 90.0, "actual": float("nan")},
        common | {"seed": "12", "median": 20.6, "actual": 22.0},
    ]
    header, first, second = (list(map(str.strip, row)) for row in cells(forecasts(rows)))
    assert header == ["seed", "median", "80 % interval", "came at"]
    assert first == ["12", "21", "10 to never", "22"]
    assert second == ["7", "90", "10 to never", "never"]
    assert forecasts([]).startswith("No seed is left")


def test_baselines_are_a_line_a_model():
    values = {"num_states": 4, "num_runs": 38, "r2": 0.9613, "f_pvalue": 3e-9}
    rows = [
        {"name": "HMM", **values, "leave_one_out_r2": -0.12},
        {"name": "k-means", **values, "leave_one_out_r2": None, "f_pvalue": 0.02},
    ]
    _, first, second = (list(map(str.strip, row)) for row in cells(baselines(rows)))
    assert first == ["HMM", "4", "38", "0.961", "\N{MINUS SIGN}0.120", "<0.001"]
    assert second == ["k-means", "4", "38", "0.961", "undefined", "0.020"]
