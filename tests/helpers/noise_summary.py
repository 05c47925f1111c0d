"""A made-up `noise.json` with the records that go with it."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from seedmap.experiments.noise.report.figures import make_figures
from seedmap.experiments.noise.results import StudySummary
from seedmap.experiments.noise.variants import CONTROL, SOURCES, make_variants
from seedmap.results import from_json, to_json

LONG = ("sex=Female", "race=Amer-Indian-Eskimo and others of the kind", "age=over 50")
ALL_FORKS = (100, 1000, 4000, 8000, 16000)


class Study(NamedTuple):
    found: dict
    dataset: xr.Dataset
    paths: np.ndarray
    barriers: np.ndarray

    def variant(self, name):
        return next(v for v in self.found["variants"] if v["name"] == name)

    @property
    def summary(self):
        return read(self.found)


def read(found):
    """The summary that a `noise.json` of this content holds."""
    return from_json(StudySummary, to_json(found))


def draw(study):
    paths = study.paths if study.found["map"] else None
    return make_figures(study.summary, study.dataset, paths, study.barriers)


def panels_of(figure):
    return {ax.get_title(loc="left"): ax for ax in figure.axes}


def interval(value, width=0.2, ends=True):
    ends = (-width, width) if ends else ()
    low, high = (float(value * np.exp(end)) for end in ends) if ends else (None, None)
    return {"value": float(value), "low": low, "high": high}


def around_ratio(ratio):
    return interval(ratio) if ratio is not None else dict.fromkeys(("value", "low", "high"))


def make_study(
    sources=SOURCES,
    replicas=10,
    forks=(),
    num_classes=10,
    groups=(),
    diverged=(),
    paths=True,
    records=200,
    seed=0,
    roots=1,
):
    """Every source brings about the same churn, as chaos makes it; CONTROL is exactly zero.

    Args:
        diverged: variants all of whose replicas diverged.
        groups: names of subgroups.
    """
    rng = np.random.default_rng(seed)
    plan = make_variants(sources, replicas, forks)
    steps = 160 * np.arange(1, records + 1)
    relative = np.zeros((sum(v.replicas for v in plan), records))
    start, variants = 0, []
    whole = max(plan, key=lambda v: (len(v.varied), -v.fork)).name
    for v in plan:
        rows = slice(start, start + v.replicas)
        relative[rows] = distances(v, steps, rng)
        lost = v.name in diverged
        if lost:
            relative[start + 1 : start + v.replicas, records // 3 :] = np.nan
        fields = variant(v, whole, lost, num_classes, groups, paths, rng)
        variants.append({**fields, "rows": [rows.start, rows.stop]})
        start += v.replicas
    churn = 0.11 * np.minimum(1, relative)
    data = {"relative_distance": (("seed", "step"), relative)}
    data |= {"churn": (("seed", "step"), churn)} if num_classes else {}
    found = {
        "experiment": "parities",
        "roots": roots,
        "replicas": replicas,
        "steps": int(steps[-1]),
        "record_every": 160,
        "epochs": 1000.0,
        "num_test": 100,
        "num_classes": num_classes or None,
        "sources": list(sources),
        "unused": [],
        "training_id": "0123",
        "whole": whole,
        "control": {
            "exact": True,
            "first_apart": None,
            "diverged": None,
            "replicas": replicas,
        },
        "variants": variants,
        "components": made_components(sources, whole, paths, rng) if roots > 1 else [],
        "commitment": [],
        "shares": [],
        "groups": [],
        "map": None,
        "notes": [],
    }
    if paths:
        found["map"] = {"run": "map", "num_states": 6, "detours": [3], "r2": 0.9, "forking": True}
        found["map"]["map_id"] = "4567"
    decoded = np.minimum(5, (np.arange(records) // (records / 6)).astype(int))
    decoded = np.stack([np.maximum(0, np.roll(decoded, s)) for s in rng.integers(-9, 9, start)])
    barriers = np.full((len(plan), 3, 11), np.nan)
    share = np.linspace(0, 1, 11)
    for i, v in enumerate(plan):
        if v.varied and v.name not in diverged:
            for pair in range(min(3, v.replicas // 2)):
                height = rng.uniform(0.2, 0.5)
                barriers[i, pair] = 0.1 + 4 * height * share * (1 - share)
    return Study(found, xr.Dataset(data, {"step": steps}), decoded, barriers)


def made_components(sources, whole, paths, rng):
    """A line for each source and measure, as `noise.components` gives them."""
    measures = ["log_convergence_time", "accuracy", "loss", "churn", "l2_distance"]
    lines = []
    for measure in measures + ["path", "time_in_state_0"] * paths:
        for source in dict.fromkeys((*sources, whole, "root")):
            share = float(rng.uniform(0.05, 0.9))
            ends = {"low": share / 2, "high": min(1.0, share * 2)}
            line = {"source": source, "measure": measure, "variance": share, "share": share}
            lines.append(line | ends)
    return lines


def distances(v, steps, rng):
    """Relative distance to replica 0: saturating growth from a start that the source sets."""
    if not v.varied:
        return np.zeros((v.replicas, len(steps)))
    first = 1e-8 if set(v.varied) <= {"ulp", "accumulation"} else 0.3
    time = np.maximum(0, steps - v.fork)
    grown = first * np.exp(time / 1500 * rng.uniform(0.8, 1.2, (v.replicas, 1)))
    found = np.where(time > 0, 1.3 * grown / (1.3 + grown), 0.0)
    found[0] = 0
    return found


def variant(v, whole, lost, num_classes, groups, paths, rng):
    control, ends = v.name == CONTROL, v.replicas > 2
    size = 0.0 if control else rng.uniform(0.8, 1.2)
    kind = {True: "control"}.get(control, "source" if v.varied == (v.name,) else "together")
    found = {
        **v._asdict(),
        "kind": "fork" if v.fork else kind,
        "num_diverged": (v.replicas - 1) * lost,
        "diverged": {str(r): 10720 for r in range(1, v.replicas)} if lost else {},
        "used": 1 if lost else v.replicas,
        "parting": {
            "first_apart": [None if control else v.fork + 1] * (v.replicas - 1),
            "growth": {
                "rate": None if control else 0.00067,
                "power": None if control else 2.1,
                "better": None if control else "exponential",
                "replicas": 0 if control else v.replicas - 1,
            },
            "largest_churn": (None if lost else 0.11 * (not control)) if num_classes else None,
        },
        "barrier": None
        if control or lost
        else {
            "values": [0.31, 0.35],
            "mean": 0.33,
            "interval": {"value": 0.33, "low": None, "high": None},
        },
        "paths": path_fields(v, size, ends, lost) if paths else None,
    }
    names = "accuracy cross_entropy churn l2_distance angle logit_correlation ensemble_gain "
    names += "test_set_variance distribution_variance share_of_variance share_of_churn share_of_l2 "
    names += "classes class_ratio groups survival"
    found |= dict.fromkeys(names.split())
    if lost:
        return found
    values = 0.912 + 0.0025 * size * rng.normal(size=v.replicas)
    found |= {
        "accuracy": spread(values, 0.0025 * size, ends),
        "cross_entropy": spread(values / 3, 0.004 * size, ends),
        "l2_distance": interval(1.02 * size, 0.01, ends),
        "angle": interval(1.1 * size, 0.01, ends),
    }
    if v.name != whole and not control:
        found["share_of_variance"] = interval(size**2, 0.9, ends)
        found["share_of_l2"] = interval(size, 0.02, ends)
    if not num_classes:
        return found
    if v.name != whole and not control:
        found["share_of_churn"] = interval(size, 0.1, ends)
    ratios = [None if control else float(r) for r in rng.gamma(9, 0.4, num_classes)]
    return found | {
        "churn": interval(0.107 * size, 0.05, ends),
        "logit_correlation": interval(1 - 0.05 * size, 0.001, ends),
        "ensemble_gain": interval(0.018 * size, 0.1, ends),
        "test_set_variance": 6e-6 * size,
        "distribution_variance": 1e-7 * size,
        "classes": [
            {
                "class": k,
                "accuracy": 0.9,
                "sd": 0.0025 * (r or 0),
                "ratio": r,
                "interval": around_ratio(r),
            }
            for k, r in enumerate(ratios)
        ],
        "class_ratio": None if control else {"mean": float(np.mean(ratios)), "max": max(ratios)},
        "groups": [group(name, k, control, rng) for k, name in enumerate(groups)] or None,
    }


def group(name, number, control, rng):
    def rate(mean):
        ratio = None if control or (number == 1 and mean < 0.1) else float(rng.gamma(4, 0.6))
        return {
            "mean": mean,
            "sd": 0.002 * (ratio or 0),
            "ratio": ratio,
            "interval": around_ratio(ratio),
        }

    rates = {"accuracy": rate(0.85), "fpr": rate(0.07), "fnr": rate(0.4)}
    return {"group": name, "size": 5421 // (number + 1), **rates}


def spread(values, sd, ends):
    mean = interval(float(values.mean()), 0.002, ends)
    spread = {"mean": mean, "sd_error": 0.3 * sd if ends else None, "sd": interval(sd, 0.5, ends)}
    return spread | {"values": values.tolist()}


def path_fields(v, size, ends, lost):
    if lost:
        convergence = {"mean": None, "sd": None, "num": 0, "unit": "epoch"}
        lone = {"dissimilarity": None, "distinct": 1, "detour_rate": 0.0, "detour_time": None}
        return {**lone, "convergence": convergence}
    return {
        "dissimilarity": {
            "index": interval(0.9 * size, 0.3, ends),
            "discrete": interval(0.31 * size, 0.3, ends),
            "means": interval(1.7 * size, 0.3, ends),
        },
        "distinct": 1 if size == 0 else 4,
        "detour_rate": 0.0 if size == 0 else 0.4,
        "detour_time": {"mean": 75.0, "sd": interval(20.0 * size, 0.5, ends)},
        "convergence": {
            "mean": 310.0,
            "sd": interval(42.0 * size, 0.4, ends),
            "num": v.replicas,
            "unit": "epoch",
        },
    }
