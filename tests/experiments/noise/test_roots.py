"""A study of several roots: each root is a study of its own, and the summary is over roots."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from scipy import stats

from helpers.noise_summary import make_study, panels_of, read
from helpers.noise_task import TASK
from seedmap.experiments.noise.components import components_of
from seedmap.experiments.noise.convergence import (
    Convergence,
    convergence_of,
    groups_of,
    log_rank_by_root,
    survival_of,
)
from seedmap.experiments.noise.convergence_results import Survival
from seedmap.experiments.noise.pooled import over_roots, pooled
from seedmap.experiments.noise.report import captions
from seedmap.experiments.noise.report.curve_tables import survival_tables
from seedmap.experiments.noise.report.figures import make_figures
from seedmap.experiments.noise.report.page import write_noise_report
from seedmap.experiments.noise.results import Estimate
from seedmap.experiments.noise.share_curves import shares_of
from seedmap.experiments.noise.study import NoiseConfig, check_noise, run_study, study_of_root
from seedmap.experiments.noise.summary import summarise_study
from seedmap.experiments.noise.variants import make_variants, num_rows, rows_by_root

ROOTS, FIRST = 3, 5


def train(root, roots):
    return run_study(
        TASK,
        optax.adam(0.03),
        batch_size=10,
        steps=12,
        record_every=4,
        noise=NoiseConfig("init,ulp", roots=roots, replicas=2),
        metrics=lambda params: {"top": jnp.abs(params["first"]).max()},
        seeds_at_once=8,
        root=root,
    )


@pytest.fixture(scope="module")
def study():
    return train(FIRST, ROOTS)


def test_a_root_of_several_is_to_the_bit_the_study_of_that_root(study):
    alone, part = train(FIRST + 1, 1), study_of_root(study, 1)
    for ours, theirs in zip(
        jax.tree.leaves(part.params), jax.tree.leaves(alone.params), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(part.predictions.logits, alone.predictions.logits)
    np.testing.assert_array_equal(part.predictions.label, alone.predictions.label)
    np.testing.assert_array_equal(part.barriers, alone.barriers)
    xr.testing.assert_identical(part.dataset.drop_vars("seed"), alone.dataset.drop_vars("seed"))
    first = [jax.tree.leaves(study_of_root(study, i).params)[0][0] for i in range(ROOTS)]
    assert len(np.unique(np.reshape(first, (ROOTS, -1)), axis=0)) == ROOTS


def test_the_summary_is_of_the_summaries_of_its_roots(study):
    found = summarise_study(study)
    of_roots = [summarise_study(study_of_root(study, i)) for i in range(ROOTS)]
    assert found.roots == ROOTS
    assert found.control.exact is True
    assert found.control.replicas == sum(root.control.replicas for root in of_roots)
    init = [root.variant("init") for root in of_roots]
    churns = np.array([variant.churn.value for variant in init])
    reach = stats.t.ppf(0.975, ROOTS - 1) * churns.std(ddof=1) / np.sqrt(ROOTS)
    pool = found.variant("init")
    assert pool.churn.value == pytest.approx(churns.mean())
    assert pool.churn.high == pytest.approx(min(churns.mean() + reach, 1.0), rel=0.05)
    variances = [variant.accuracy.sd.value**2 for variant in init]
    assert pool.accuracy.sd.value == pytest.approx(np.sqrt(np.mean(variances)))
    whole = [root.all_sources.churn.value for root in of_roots]
    assert pool.share_of_churn.value == pytest.approx(churns.sum() / np.sum(whole))
    assert pool.used == 2 * ROOTS
    barriers = np.array([variant.barrier.mean for variant in init])
    reach = stats.t.ppf(0.975, ROOTS - 1) * barriers.std(ddof=1) / np.sqrt(ROOTS)
    assert barriers.std() > 0
    assert pool.barrier.interval.value == pytest.approx(barriers.mean())
    assert pool.barrier.interval.high == pytest.approx(barriers.mean() + reach, rel=0.05)
    assert (init[0].barrier.interval.low, init[0].barrier.interval.high) == (None, None)


def test_components_of_a_study_are_those_of_its_predictions(study):
    rows = rows_by_root(study.variants, ROOTS)
    lines = {(line.source, line.measure): line for line in components_of(study)}
    loss = study.predictions.loss.mean(axis=1, dtype=np.float64)
    within = loss[rows["init"]].var(axis=1, ddof=1).mean()
    assert lines["init", "loss"].variance == pytest.approx(within)
    # One unit in the last place does next to nothing in 12 steps, another start does nearly all.
    assert lines["ulp", "l2_distance"].share < 1e-3 < 0.5 < lines["init", "l2_distance"].share
    whole = lines["ALGO+IMPL", "loss"]
    assert lines["root", "loss"].share == pytest.approx(1 - whole.share)
    assert components_of(study_of_root(study, 0)) == []


def test_shares_over_training_are_those_of_the_records(study):
    rows = rows_by_root(study.variants, ROOTS)
    curves = {(curve.source, curve.measure): curve for curve in summarise_study(study).shares}
    assert {source for source, _ in curves} == {"init", "ulp"}
    assert curves["init", "churn"].steps == [4, 8, 12]
    for measure, record in (("churn", "churn"), ("distance", "relative_distance")):
        apart = study.dataset[record].values
        own, whole = (apart[rows[name][:, 1:], 1].mean(1) for name in ("init", "ALGO+IMPL"))
        expected = own.sum() / whole.sum()
        assert curves["init", measure].share[1] == pytest.approx(expected, rel=1e-5)
    assert curves["ulp", "distance"].share[0] < 1e-3
    one = np.arange(len(study.diverged)) == rows["init"][0, 1]
    lost = study._replace(diverged=np.where(one, 4, -1))
    assert shares_of(lost)[0].high == [None] * 3  # two roots are left
    assert shares_of(study)[0].low == [1.0] * 3


def test_numbers_at_risk_stand_once_at_each_time_with_its_digits():
    """Where a quarter of the runs and a half of them have converged by the same record."""
    summary = make_study(("init", "ulp"), roots=3, paths=False).summary
    found = Survival(
        15, 14, 7.5, "epoch", Estimate(2.7, 1.6, 3.8), [2.54, 2.54, 3.17], [10, 10, 4], None
    )
    object.__setattr__(summary.variants[0], "survival", found)
    cells = re.findall(r"<t[hd]>([^<]*)</t", survival_tables(summary))
    header, row = cells[: len(cells) // 2], cells[len(cells) // 2 :]
    assert header[4:] == ["at risk at 2.54", "at risk at 3.17"]
    assert row[4:] == ["10", "4"]


def test_runs_that_never_converge_are_censored_and_nowhere_dropped():
    accuracy = np.array([[0.1, 0.95, 1.0], [0.1, 0.1, 0.1], [0.2, np.nan, np.nan]])
    dataset = xr.Dataset(
        {"eval_accuracy": (("seed", "step"), accuracy)},
        {"step": [10, 20, 30], "epoch": ("step", [1.0, 2.0, 3.0])},
    )
    times = convergence_of(dataset, 0.9)
    np.testing.assert_array_equal(times.time, [2.0, 3.0, 1.0])
    np.testing.assert_array_equal(times.observed, [True, False, False])
    assert convergence_of(dataset, None) is None
    found = survival_of(times, np.array([[0, 1]]))
    assert (found.num, found.converged) == (2, 1)
    assert (found.at, found.at_risk) == ([2.0, 2.0, 3.0], [2, 2, 1])
    assert found.restricted_mean.value == pytest.approx(2.5)
    assert found.log_rank is None
    # Censored before the end by its divergence: the mean up to the end is not known.
    assert survival_of(times, np.array([[0, 2]])).restricted_mean is None


def test_the_log_rank_test_holds_its_level_where_replicas_of_a_root_are_alike():
    """One set of replicas copies its root: an unstratified test would count it thrice."""
    rng = np.random.default_rng(0)
    pvalues = []
    for _ in range(300):
        own = rng.exponential(size=(5, 1)).repeat(3, axis=1)
        other = rng.exponential(size=(5, 3))
        time = np.concatenate([own, other], axis=1)
        rows = np.arange(30).reshape(5, 6)
        observed = np.ones(30, bool)
        pvalues.append(log_rank_by_root(time.ravel(), observed, rows[:, :3], rows[:, 3:]))
    assert np.mean(np.array(pvalues) < 0.05) < 0.08
    later = np.where(np.arange(30) % 6 < 3, 3.0, 1.0) * (1 + 0.01 * rng.random(30))
    rows = np.arange(30).reshape(5, 6)
    assert log_rank_by_root(later, np.ones(30, bool), rows[:, :3], rows[:, 3:]) < 0.02
    assert log_rank_by_root(later, np.zeros(30, bool), rows[:, :3], rows[:, 3:]) is None


def test_convergence_by_root_and_by_branch_counts_copies_once():
    variants = make_variants(("init", "order"), 3, (), (4,))  # 4 variants, and order@4
    size, roots = num_rows(variants), 3
    rng = np.random.default_rng(0)
    time = np.round(rng.uniform(1, 9, roots * size))
    observed = time < 8
    time = np.where(observed, time, 10.0)
    visits = rng.random(roots * size) < 0.5
    visits[:size] = False  # no replica of the first root
    states = np.where(visits[:, None], [0, 1], [0, 2])
    times = Convergence(time, observed, "epoch", 10.0)
    own = np.array([0, 4, 5, 7, 8, 10, 11])  # CONTROL's first, and the others of each source
    groups = groups_of(variants, roots, times, states, [1, 3])
    assert [group.name for group in groups] == [
        *(f"root {root}" for root in range(3)),
        *("visit state 1", "pass by state 1"),
    ]
    for root, group in enumerate(groups[:3]):
        rows = own + root * size
        assert group.survival.num == 7
        assert group.survival.converged == observed[rows].sum()
        assert group.survival.restricted_mean.value == pytest.approx(time[rows].mean())
        assert group.survival.at_risk == [(time[rows] >= at).sum() for at in group.survival.at]
        assert group.survival.log_rank is None
    every = np.concatenate([own + root * size for root in range(roots)])
    visited, passed = groups[3].survival, groups[4].survival
    assert visited.num == visits[every].sum()
    assert visited.num + passed.num == len(every)
    statistics = [
        stats.logrank(*(censored(time, observed, rows[visits[rows] == side]) for side in (1, 0)))
        for rows in (own + size, own + 2 * size)
    ]
    z = np.array([found.statistic for found in statistics])
    t = z.mean() / (max(z.std(ddof=1), 1) / np.sqrt(2))
    assert visited.log_rank == pytest.approx(2 * stats.t.sf(abs(t), 1))
    assert passed.log_rank is None
    assert groups_of(variants, 1, None) == []


def test_convergence_is_drawn_and_counted_by_root_and_branch(tmp_path):
    made = make_study(("order",), replicas=3, roots=2, paths=False, records=2)
    size, rng = num_rows(made.summary.variants), np.random.default_rng(1)
    time = rng.uniform(1, 9, 2 * size)
    times = Convergence(time, np.ones(2 * size, bool), "epoch", 10.0)
    states = np.where(np.arange(2 * size)[:, None] % 2, [0, 1], [0, 2])
    groups = groups_of(made.summary.variants, 2, times, states, [1])
    rows = rows_by_root(made.summary.variants, 2)
    variants = [
        replace(v, survival=survival_of(times, rows[v.name])) for v in made.summary.variants
    ]
    summary = replace(made.summary, groups=groups, variants=variants)
    figure = make_figures(summary, made.dataset, states, convergence=times)["survival"]
    panels = panels_of(figure)
    assert [len(panels[name].lines) for name in ("by root", "state 1: visit, pass by")] == [2, 2]
    visits, _ = panels["state 1: visit, pass by"].lines
    (visited,) = (group.survival for group in groups if group.visits)
    assert len(visits.get_xdata()) == visited.num + 2  # each time once, and both ends
    page = write_noise_report(tmp_path, summary, {}, {}).read_text()
    assert "visit state 1" in page
    assert ", within roots</th>" in page
    assert "by root, all sources together, by branch (solid" in captions.survival(summary)


def censored(time, observed, rows):
    held = observed[rows]
    return stats.CensoredData(uncensored=time[rows][held], right=time[rows][~held])


def test_over_roots_is_the_t_interval_of_the_roots_that_have_a_value():
    found = over_roots([Estimate(1.0, 0.0, 9.0), None, 2.0, 3.0])
    assert found.value == 2.0
    assert (found.low + found.high) / 2 == pytest.approx(2.0)
    assert over_roots([None, None]) is None
    assert over_roots([4.0]) == Estimate(4.0, None, None)


def test_a_summary_of_one_root_stays_as_it_is_and_lost_roots_leave_the_others():
    whole = make_study(("init", "ulp")).summary
    lost = make_study(("init", "ulp"), diverged=("init",), seed=1).summary
    assert pooled([whole]) is whole
    found = pooled([whole, lost, make_study(("init", "ulp"), seed=2).summary])
    init = found.variant("init")
    assert init.churn is not None
    assert init.num_diverged == 9
    assert "1:1" in init.diverged
    assert read(found) == found


@pytest.mark.parametrize("roots", [0, 1001, 2.5, "x"])
def test_a_wrong_number_of_roots_is_refused(roots):
    with pytest.raises(ValueError, match=r"--roots is .*; it must be a whole number"):
        check_noise(NoiseConfig(roots=roots))


def test_replicas_are_three_a_root_and_ten_of_a_single_one():
    assert NoiseConfig().num_replicas == 3
    assert NoiseConfig(roots=1).num_replicas == 10
    assert NoiseConfig(roots=1, replicas=4).num_replicas == 4
