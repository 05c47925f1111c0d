"""A source's share of what all sources do, over training."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.noise_summary import make_study
from seedmap.experiments.noise.measures.shares import ShareCurve, ratio_over_roots, share_curve
from seedmap.experiments.noise.report.curve_tables import shares_table
from seedmap.experiments.noise.report.figures import make_figures
from seedmap.experiments.noise.report.headlines import headlines

STEPS = np.array([10, 20, 30, 40])


def planted(rng, share, roots=5, replicas=200):
    """Distances of replicas, those of the source `share` times as large, roots alike."""
    size = np.exp(0.3 * rng.normal(size=roots))
    own, whole = (
        [s * f * (1 + 0.1 * rng.normal(size=(replicas, 4))) for s in size]
        for f in (np.asarray(share), np.ones(4))
    )
    return own, whole


def test_the_share_is_that_of_the_roots_means_and_reaches_all_when_it_does():
    own, whole = planted(np.random.default_rng(0), [0.0, 0.3, 1.0, 1.0])
    curve = share_curve("ulp", "churn", STEPS, own, whole)
    for i in range(4):
        means = [[each[:, i].mean() for each in side] for side in (own, whole)]
        assert curve.share[i] == pytest.approx(np.sum(means[0]) / np.sum(means[1]))
        expected = ratio_over_roots(*map(np.array, means))
        assert (curve.low[i], curve.high[i]) == (expected.low, expected.high)
    assert curve.share == pytest.approx([0.0, 0.3, 1.0, 1.0], abs=0.02)
    assert curve.low[0] == curve.high[0] == 0.0
    assert curve.whole_at == 30
    less = [each * [1.0, 1.0, 1.0, 0.9] for each in own]
    assert share_curve("ulp", "churn", STEPS, less, whole).whole_at is None  # not to the end


def test_an_interval_that_holds_everything_is_not_all():
    """Roots from a tenth to three times: the interval holds 1, and 0.2."""
    whole = [np.ones((3, 4))] * 4
    own = [np.full((3, 4), size) for size in (0.1, 0.2, 0.4, 3.0)]
    curve = share_curve("order", "churn", STEPS, own, whole)
    assert curve.low[-1] < 0.5 < 1 < curve.high[-1]
    assert curve.whole_at is None


def test_nothing_is_said_where_all_agree_a_record_lacks_or_roots_are_few():
    own, whole = planted(np.random.default_rng(2), [1.0] * 4)
    for each in whole:
        each[:, 1] = 0.0
    whole[2][0, 2] = np.nan
    curve = share_curve("order", "churn", STEPS, own, whole)
    assert [share is None for share in curve.share] == [False, True, True, False]
    assert curve.whole_at == 40
    gone = [np.empty((0, 4)), *own[1:]]
    assert share_curve("order", "churn", STEPS, gone, whole).share[2] is None
    one = share_curve("order", "churn", STEPS, own[:1], whole[:1])
    assert one.share[0] is not None
    assert one.low[0] is one.whole_at is None


def test_shares_are_drawn_tabled_and_said():
    study = make_study(("init", "ulp"), roots=5, paths=False)
    nothing = [None, 0.5, 1.0, 1.0]
    ends = [None, 0.001, 0.8, 0.7], [None, 0.9, 1.2, 1.3]
    curve = ShareCurve("ulp", "churn", STEPS.tolist(), nothing, *ends, 30)
    summary = replace(study.summary, shares=[curve])
    ax = make_figures(summary, study.dataset)["share_over_steps"].axes[0]
    (line,) = (line for line in ax.lines if line.get_gid() == "churn ulp")
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, np.nan, 1.0, 1.0])
    table = shares_table(summary)
    assert "not determined" in table
    assert "1.0 [0.70,\xa01.3]" in table
    said = [text for text in headlines(summary) if text.startswith("One unit in the last place br")]
    assert said == [
        "One unit in the last place brings 1.0 [0.70, 1.3] of the churn of ALGO+IMPL at the last "
        "record; from step 30 on every interval holds 1 and none reaches below a half."
    ]
    never = replace(summary, shares=[replace(curve, whole_at=None)])
    assert any("that it brings all is not shown" in text for text in headlines(never))


def test_intervals_hold_the_share_in_95_percent():
    rng, held = np.random.default_rng(3), 0
    for _ in range(400):
        own = np.exp(0.4 * rng.normal(size=5)) * 0.5
        other = np.exp(0.4 * rng.normal(size=5))
        found = ratio_over_roots(own, other)
        held += found.low <= 0.5 <= found.high
    assert 0.91 <= held / 400 <= 0.99
