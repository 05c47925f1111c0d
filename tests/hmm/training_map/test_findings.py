from dataclasses import replace

import numpy as np

from seedmap.hmm.training_map.findings import (
    first_sentences,
    speed_sentences,
    survival_sentences,
)
from seedmap.hmm.training_map.moves_first import MovesFirst, Turn
from seedmap.hmm.training_map.path_or_speed import PathOrSpeed
from seedmap.hmm.training_map.survival import Interval, StateHazard, kaplan_meier

SPEED = PathOrSpeed(0.7, 0.6, 0.8, 0.3, 0.85, 0.4, 0.01, 40)


def test_speed():
    first, second, third = speed_sentences(SPEED)
    assert first == (
        "Runs differ more in speed than in path: 70 % of the difference between two runs at the "
        "same time is timing."
    )
    assert "85 % of the difference goes away, where 40 % would by chance" in second
    assert third.endswith("than differences in random directions would give (p = 0.01).")
    path = replace(SPEED, timing=0.45, low=0.3, high=0.55, place=0.55, pvalue=0.3)
    first, _, third = speed_sentences(path)
    assert first.startswith("Runs differ more in path than in speed: 55 % ")
    assert first.endswith("is place, though the interval holds both.")
    assert "would give as much" in third


def turn(metric, lead, before_next):
    return Turn(metric, lead, lead - 1, lead + 1, 30, 1.0, 0.5, before_next)


def test_moves_first():
    order = MovesFirst(
        (turn("l2", 40.0, 0.001), turn("trace", -10.0, None)),
        ("median_w",),
        np.arange(2.0),
        np.zeros((3, 2)),
        np.zeros((4, 3)),
        ("l2", "trace", "median_w"),
        30,
    )
    first, second, third = first_sentences(order, "convergence", "epoch")
    assert first == (
        "l2 turns first, 40 epochs before convergence (95 % interval of the median 39 to 41)."
    )
    assert second.startswith("trace turns next, 10 epochs after convergence")
    assert third == "Not turning in most runs: median_w."
    alike = replace(order, turns=(turn("l2", 40.0, 0.4), turn("trace", 39.0, None)), steady=())
    assert "trace turns and is not told apart from it" in first_sentences(alike, "x", "step")[1]
    few = replace(order, turns=(replace(order.turns[0], low=None, high=None),))
    assert "without interval" in first_sentences(few, "convergence", "epoch")[0]
    assert first_sentences(replace(order, turns=()), "convergence", "epoch") == (
        "No metric turns before convergence in most of the 30 runs.",
    )


def test_survival():
    curve = kaplan_meier(np.array([10.0, 20, 30, 40]), np.array([True, True, False, True]))
    hazards = [
        StateHazard(0, Interval(0.0, 0.0, 0.1), 0.0, 30.0, 4),
        StateHazard(1, Interval(0.25, 0.1, 0.5), 3.0, 12.0, 4),
    ]
    sentences = survival_sentences(curve, hazards, "epoch")
    assert sentences == (
        "3 of 4 runs converged, half of them by epoch 20.",
        "A run in state 1 converges before the next record with probability 0.25 (95 % interval "
        "0.1 to 0.5), more than in any other.",
        "No run converges out of state 0.",
    )
    nobody = kaplan_meier(np.array([1.0, 2]), np.zeros(2, bool))
    assert survival_sentences(nobody, [], "step") == ("None of the 2 runs converged.",)
