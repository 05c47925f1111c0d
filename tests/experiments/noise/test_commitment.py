"""When fate is decided, on planted trainings: known shares are fixed by step k."""

import copy

import jax
import numpy as np
import pytest
import xarray as xr

from helpers.noise_summary import make_study, read
from seedmap.experiments.noise.components import (
    BRANCH,
    CONVERGENCE,
    SPEED,
    branch_differs,
    commitment_of,
    components_of,
)
from seedmap.experiments.noise.convergence import Convergence
from seedmap.experiments.noise.predictions import Predictions
from seedmap.experiments.noise.report.curve_tables import commitment_table
from seedmap.experiments.noise.report.figures import make_figures
from seedmap.experiments.noise.report.headlines import headlines
from seedmap.experiments.noise.results import Commitment
from seedmap.experiments.noise.study import NoiseConfig, StudyResult, check_noise
from seedmap.experiments.noise.variants import make_rows, make_variants, num_rows, rows_of
from seedmap.hmm.figures.style import PAPER
from seedmap.showing import MOST_ROWS

STEPS, ROOTS, REPLICAS = (4, 8), 60, 3
BRANCHES_AT, LATER = 6, 1.0  # the branch is drawn at step 6; it takes longer by this, in logs


def planted(rng):
    """A study in which order adds variance 1/12 at each of 12 steps, and decides the branch."""
    variants = make_variants(("init", "order"), REPLICAS, (), STEPS)
    size = num_rows(variants)
    log_time, branch = np.empty((ROOTS, size)), np.empty((ROOTS, size), bool)
    for root in range(ROOTS):
        shared = rng.normal(size=12)
        start, taken = rng.normal(), rng.random() < 0.5
        for variant, rows in zip(variants, rows_of(variants).values(), strict=True):
            for number, row in enumerate(rows):
                steps, own_start, own_branch = shared.copy(), start, taken
                if number and "order" in variant.varied:
                    steps[variant.fork :] = rng.normal(size=12 - variant.fork)
                    own_branch = rng.random() < 0.5 if variant.fork < BRANCHES_AT else taken
                if number and "init" in variant.varied:
                    own_start = rng.normal()
                branch[root, row] = own_branch
                log_time[root, row] = own_start + steps.sum() / np.sqrt(12) + LATER * own_branch
    states = np.where(branch.ravel()[:, None], [0, 1, 2], [0, 0, 2])
    time = np.exp(log_time.ravel())
    count = len(time)
    noise = rng.normal(size=(count, 3))
    dataset = xr.Dataset(
        {
            "eval_loss": (
                ("seed", "step"),
                np.exp(log_time.reshape(-1, 1) + [3.0, 0.5, 0.0] * noise),
            )
        },
        {"step": [4, 8, 12]},
    )
    predictions = Predictions(rng.random((count, 5)), rng.random((count, 5)), None, None, {})
    study = StudyResult(
        variants,
        dataset,
        {"w": rng.normal(size=(count, 4)).astype("float32")},
        np.full(count, -1),
        predictions,
        np.full((len(variants), ROOTS, 2), np.nan),
        [],
        roots=ROOTS,
    )
    convergence = Convergence(time, np.ones(count, bool), "step", float(time.max()))
    return study, convergence, states.astype(np.int32)


@pytest.fixture(scope="module")
def found():
    study, convergence, states = planted(np.random.default_rng(0))
    return study, (convergence, states, 3, [1])


def test_what_is_fixed_by_a_step_is_what_was_planted():
    points = []
    for seed in range(4):
        study, convergence, states = planted(np.random.default_rng(seed))
        lines = commitment_of(study, convergence, states, 3, [1])
        points.append({(p.source, p.step, p.measure): p for p in lines})

    def fixed(*key):
        return np.mean([of[key].fixed for of in points])

    total = 1 + 1 + LATER**2 / 4
    for step, open_ in ((0, 1 + LATER**2 / 4), (4, 8 / 12 + LATER**2 / 4), (8, 4 / 12)):
        assert fixed("order", step, CONVERGENCE) == pytest.approx(1 - open_ / total, abs=0.1)
        for of in points:
            point = of["order", step, CONVERGENCE]
            assert point.low < point.fixed < point.high
    assert fixed("order", 4, BRANCH) < 0.15
    assert fixed("order", 8, BRANCH) == 1.0
    assert fixed("loss", 4, CONVERGENCE) == pytest.approx(total / (total + 9), abs=0.08)
    assert fixed("loss", 8, CONVERGENCE) == pytest.approx(total / (total + 0.25), abs=0.04)
    assert ("init", 0, CONVERGENCE) not in points[0]  # nothing of it is drawn after a step


@pytest.mark.slow
def test_a_source_changes_the_branch_or_the_speed(found):
    study, asked = found
    lines = {(line.source, line.measure): line for line in components_of(study, *asked)}
    assert lines["init", BRANCH].share == 0.0
    assert lines["order", BRANCH].share > 0.6  # half of the pairs of all trainings differ
    # Within a branch either draws half of what is left.
    for source in ("init", "order"):
        assert lines[source, SPEED].share == pytest.approx(0.5, abs=0.15)
    late = asked[0]._replace(observed=np.arange(len(asked[0].time)) != 4)  # a replica of init
    censored = {(c.source, c.measure): c for c in components_of(study, late, *asked[1:])}
    assert censored["init", SPEED].share is None


def test_replicas_differ_in_branch_where_one_visits_what_the_other_does_not():
    states = np.array([[0, 1, 2], [0, 0, 2], [0, 1, -1], [3, 1, 2]])
    expected = [[0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]
    np.testing.assert_array_equal(branch_differs(states, [1, 3]), expected)


def test_a_weight_is_moved_at_the_step_of_its_variant():
    variants = make_variants(("order", "ulp"), 2, (), (8,))
    assert [v.name for v in variants][-2:] == ["order@8", "ulp@8"]
    rows, places = make_rows(variants, ulp_step=4), rows_of(variants)
    steps = {name: np.asarray(rows.perturb.ulp_step)[own].tolist() for name, own in places.items()}
    assert steps["ulp"] == [-1, 4]
    assert steps["ulp@8"] == [-1, 8]
    assert steps["order@8"] == [-1, -1]
    forks = np.asarray(rows.perturb.fork.step)
    assert forks[places["order@8"]].tolist() == [8, 8]
    order = jax.random.key_data(rows.streams.order)[places["order@8"]]
    assert not np.array_equal(order[0], order[1])
    assert not commitment_of(found_nothing(), None)


def found_nothing():
    study, _, _ = planted(np.random.default_rng(1))
    return study._replace(variants=[v for v in study.variants if not v.forks])


def test_the_curve_is_drawn_with_its_loss():
    study = make_study(("order",), roots=5, paths=False)
    summary = study.summary
    points = [Commitment("order", k, CONVERGENCE, k / 10, 0.0, 0.8) for k in (0, 4)]
    points.append(Commitment("order", 8, CONVERGENCE, 0.5, 0.0, 1.0))  # says nothing
    points.append(Commitment("order", 12, CONVERGENCE, 0.9, 0.7, 1.0))
    points.append(Commitment("order", 16, CONVERGENCE, 1.0, None, None))  # no replica differs
    points.append(Commitment("loss", 4, CONVERGENCE, 0.3, 0.2, 0.6))
    points.append(Commitment("loss", 12, CONVERGENCE, 0.2, 0.1, 0.3))
    object.__setattr__(summary, "commitment", points)
    ax = make_figures(summary, study.dataset)["commitment"].axes[0]
    curves = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert curves["order"] == [[0, 0], [4, 40], [12, 90], [16, 100]]
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == PAPER]
    assert [line.get_xydata().tolist() for line in hollow] == [[[16, 100]], []]
    assert curves["test loss at the step"] == [[4, 30], [12, 20]]
    drawn = sorted(tuple(ends[:, 1]) for lines in ax.collections for ends in lines.get_segments())
    np.testing.assert_allclose(drawn, [(0, 80), (0, 80), (10, 30), (20, 60), (70, 100)])
    (said,) = (line for line in headlines(summary) if line.startswith("Whatever order"))
    assert "90 % [70, 100] of the variance" in said
    assert "fixed by step 12; the test loss there tells of it: 20 % [10, 30]." in said
    rows = [row.split("<td>") for row in commitment_table(summary).split("<tr>")]
    (row,) = (row for row in rows if len(row) > 1 and row[1].startswith("order"))
    cells = [cell.partition("</td>")[0] for cell in row[3:]]
    known = ["0 % [0, 80]", "40 % [0, 80]", "not determined", "90 % [70, 100]"]
    assert cells == [*known, "(100 %)"]


def test_variants_of_the_curve_are_not_described_one_by_one():
    study = make_study(("order", "ulp"), roots=5, paths=False)
    later = copy.deepcopy(study.variant("order")) | {"name": "order@4", "fork": 4, "kind": "fork"}
    study.found["variants"].append(later)
    assert sum("order@4" in line for line in headlines(read(study.found))) == 2  # churn, barrier
    study.found["commitment"] = [vars(Commitment("order", 4, CONVERGENCE, 0.5, 0.2, 0.8))]
    assert not any("order@4" in line for line in headlines(read(study.found)))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (NoiseConfig(roots=1, commit_steps=(4,)), "--commit-steps: a curve is over several roots"),
        (NoiseConfig(commit_steps=(4, 4)), "--commit-steps: 4 stands twice"),
        (NoiseConfig(commit_steps=4), "--commit-steps is 4; give a sequence"),
    ],
)
def test_wrong_steps_are_refused(noise, message):
    with pytest.raises(ValueError, match=message):
        check_noise(noise)


def test_a_study_shows_its_variants_and_notes_in_a_notebook(found):
    study = found[0]._replace(notes=["a <note>"])
    html = study._repr_html_()
    assert "a &lt;note&gt;" in html
    for variant in study.variants[:MOST_ROWS]:
        assert f"<td>{variant.name}</td>" in html
    assert html.count("<tr>") == 1 + min(len(study.variants), MOST_ROWS)
