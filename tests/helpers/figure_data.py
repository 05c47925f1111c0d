"""Made-up maps, runs and sweeps to draw, and what is asked of every figure."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from seedmap.hmm import figures
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.fits import Fit, Sweep
from seedmap.hmm.training_map.build import Edge, TrainingMap
from seedmap.hmm.training_map.regression import Coefficient, Regression

LONG_NAMES = ("computational_sparsity", "gradient_symmetry_of_embeddings", "median_$w_1$")


def make_map(pairs, occupancy, num_runs=40, names=("l2", "trace", "mean_lambda"), unvisited=()):
    rng = np.random.default_rng(0)
    edges = tuple(
        Edge(j, k, 0.1, runs, runs, tuple((name, float(rng.normal(0, 30))) for name in names))
        for j, k, runs in pairs
    )
    num_states = len(occupancy)
    first = np.arange(num_states, dtype=float)
    first[list(unvisited)] = np.nan
    visits = np.full(num_states, num_runs)
    visits[list(unvisited)] = 0
    occupancy = np.array(occupancy) / np.sum(occupancy)
    return TrainingMap(
        num_states, num_runs, edges, occupancy, visits, first, forking=True, num_returning=0
    )


def hard_map():
    rng = np.random.default_rng(1)
    chain = [(k, k + 1) for k in range(7)]
    others = [p for p in itertools.permutations(range(8), 2) if p not in chain]
    rng.shuffle(others)
    pairs = [(j, k, int(rng.integers(25, 41))) for j, k in chain]
    pairs += [(int(j), int(k), int(rng.integers(1, 15))) for j, k in others[:13]]
    return make_map(pairs, [0.1, 0.25, 0.12, 0.005, 0.2, 0.08, 0.045, 0.2], names=LONG_NAMES)


MAPS = {
    "easy": (make_map([(0, 1, 40), (1, 2, 38), (0, 2, 2)], [1, 3, 2]), (1,)),
    "long names": (make_map([(0, 1, 40), (1, 2, 38)], [1, 3, 2], names=LONG_NAMES), ()),
    "fork": (make_map([(0, 1, 30), (0, 2, 10), (1, 3, 30), (2, 3, 9)], [1, 2, 1, 3]), (2,)),
    "hard": (hard_map(), (3, 6)),
    "twelve states": (make_map([(k, k + 1, 30) for k in range(11)], [1] * 12), (3,)),
    "one state": (make_map([], [1]), ()),
    "no edges": (make_map([], [3, 2, 0], unvisited=[2]), ()),
}


def make_runs(num_runs=40, num_times=60, num_states=8, num_never=2):
    rng = np.random.default_rng(0)
    steps = 5 * np.arange(num_times)
    cuts = np.sort(rng.integers(1, num_times, (num_runs, num_states - 1)), axis=1)
    paths = (np.arange(num_times)[None, :, None] >= cuts[:, None]).sum(axis=-1)
    convergence = steps[cuts[:, -1]].astype(float) if num_states > 1 else np.full(num_runs, 50.0)
    convergence[:num_never] = np.nan
    names = [str(seed) for seed in range(num_runs)]
    return paths, steps, convergence, names


def make_sweep(restarts=3, wild=False):
    rng = np.random.default_rng(0)
    fits = []
    for k, r in itertools.product(range(1, 9), range(restarts)):
        train, held_out = rng.normal(10 * k, 1), rng.normal(-1e6 if wild and k > 4 else -20, 5)
        fits.append(
            Fit(
                num_states=k,
                restart=r,
                parameters=Parameters(*[np.zeros(0)] * 4),
                train_log_likelihood=train,
                validation_log_likelihood=held_out,
                train_run_log_likelihood=np.zeros(0),
                validation_run_log_likelihood=np.zeros(0),
                penalised_log_likelihood=train,
                num_parameters=k,
                aic=-2 * held_out + 2 * k,
                bic=-2 * held_out + 5 * k,
                iterations=1,
                converged=True,
                degenerate=k == 8 or (k, r) == (7, 0),
                robust_log_likelihood=held_out + k,
            )
        )
    return Sweep(SweepConfig(), tuple(fits), ("l2",), ("0",), ("1",), 100, 10)


def make_regression(rows):
    coefficients = tuple(Coefficient(state, *row) for state, row in enumerate(rows))
    return Regression(
        *(0.961, 3.0, 0.032, (2, 35), -12.3, 38, 2, 0, "exclude", 0.95), coefficients, ()
    )


WIDE = make_regression(
    [(10, 5, 0, 20), (35, 12, 11, 59), (None,) * 4, (4e4, 9e4, -1.4e5, 2.2e5), (-3, *[None] * 3)]
)


def every_figure(names=None):
    """Every kind of figure on awkward data."""
    paths, steps, convergence, runs = make_runs()
    runs = names or runs
    curve = 1 / (1 + np.exp((steps - np.nan_to_num(convergence, nan=900)[:, None]) / 20))
    few = slice(0, 12)
    return {
        "map": figures.plot_training_map(*MAPS["hard"]),
        "raster": figures.plot_state_raster(paths, steps, convergence, runs, 8, "epoch"),
        "losses": figures.plot_losses(
            *({"train": curve, "eval": curve + 0.1}, {"eval": 1 - curve}),
            *(paths, steps, convergence, runs, 8, "epoch"),
        ),
        "convergence": figures.plot_convergence(convergence, "eval_accuracy above 0.9", "epoch"),
        "selection": figures.plot_model_selection(make_sweep(), 3),
        "wild selection": figures.plot_model_selection(make_sweep(wild=True), 3),
        "coefficients": figures.plot_coefficients(WIDE, (1, 3), "epochs later than the mean run"),
        "held out": figures.plot_held_out(np.r_[np.full(11, 1.0), -360.0], runs[few]),
        "dissimilarity": figures.plot_dissimilarity(
            np.abs(np.subtract.outer(*[curve[:, 9]] * 2)), runs
        ),
    }


def hidden_ticks(figure):
    """Labels of ticks outside the view, which matplotlib keeps but does not draw."""
    for ax, axis in itertools.product(figure.axes, ("xaxis", "yaxis")):
        low, high = sorted(getattr(ax, axis).get_view_interval())
        for tick in [*getattr(ax, axis).get_major_ticks(), *getattr(ax, axis).get_minor_ticks()]:
            if not low <= tick.get_loc() <= high:
                yield tick.label1


def texts(figure):
    """Texts that are drawn, with their boxes (frames included), in pixels."""
    FigureCanvasAgg(figure).draw()
    hidden = set(hidden_ticks(figure))
    found = []
    for text in set(figure.findobj(Text)) - hidden:
        if text.get_visible() and text.get_text().strip():
            found.append((text, (text.get_bbox_patch() or text).get_window_extent()))
    return found


def overlapping(a, b, slack=0.5):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack


def assert_legible(figure):
    width, height = figure.bbox.size
    placed = texts(figure)
    for text, box in placed:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f"{text.get_text()!r} is cut"
    for (one, a), (other, b) in itertools.combinations(placed, 2):
        assert not overlapping(a, b), f"{one.get_text()!r} covers {other.get_text()!r}"


def by_gid(figure, gid, kind=None):
    found = figure.findobj(lambda artist: artist.get_gid() == gid)
    return [artist for artist in found if kind is None or isinstance(artist, kind)]
