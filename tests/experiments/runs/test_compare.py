"""Several runs side by side, and one HMM for several: tables, joint fits, others' models."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

from helpers.command import seedmap
from helpers.schemas import assert_of_schema
from helpers.small_runs import METRICS, make_run
from seedmap import hmm
from seedmap.experiments.runs.compare import PAPER, PaperRow, paper_row, read_runs, row_of
from seedmap.experiments.runs.compare_joint import fit_runs_together, read_with
from seedmap.experiments.runs.dataset import raw_sequences
from seedmap.experiments.runs.folder import read_dataset, write_dataset
from seedmap.hmm.figures import Experiment, plot_comparison, plot_shared_states
from seedmap.hmm.inference import log_likelihood
from seedmap.hmm.sequences import from_arrays, z_score
from seedmap.hmm.training_map.dissimilarity import dissimilarity
from seedmap.hmm.training_map.prediction import predict_outcome, prediction_r2
from seedmap.results import to_json


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    one, two = make_run(base / "one", 0, 40), make_run(base / "two", 1, 30, name="parities")
    config = json.loads((one / "config.json").read_text())  # as if it were trained here
    config["experiment"] = "parities"
    del config["imported_from"]
    (one / "config.json").write_text(json.dumps(config))
    return one, two


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_the_table_holds_the_summaries_and_the_papers_row(folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert seedmap("compare", *folders, "--out", out) == 0
    printed = capsys.readouterr().out
    assert_of_schema(out / "compare.json")
    assert_of_schema(folders[0] / "summary.json")
    content = json.loads((out / "compare.json").read_text())
    with (out / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for folder, row, line in zip(folders, content["runs"], lines, strict=True):
        found = summary(folder)
        assert row["run"] == line["run"] == folder.name
        assert row["seeds"] == found["num_seeds"] == 10
        assert row["r2"] == found["regression"]["r2"] == float(line["r2"])
        assert row["f_pvalue"] == found["regression"]["f_pvalue"]
        assert row["dissimilarity"] == found["dissimilarity"]
        assert float(line["dissimilarity_means"]) == found["dissimilarity"]["means"]
        assert (row["forks"], row["detours"]) == (found["forking"], [])
        assert row["headline"] == found["headline"]
        assert found["headline"].partition(" (")[0] in printed
        alone, leak = (found["findings"][key] for key in ("single_threshold", "leak"))
        assert row["threshold_r2"] == alone["r2"]
        assert row["first_record_r2"] == leak["scaled"]
        assert f"{leak['scaled']:.3f}".replace("-", "\N{MINUS SIGN}") in printed
        assert row["convergence_mean"] == found["convergence"]["mean"]
        assert row["convergence_std"] == found["convergence"]["std"] > 0
        assert f"{found['regression']['r2']:.3f}" in printed
    assert content["runs"][0]["paper"] == to_json(PAPER["parities"])
    assert [line["paper_r2"] for line in lines] == ["0.961", ""]
    assert content["runs"][1]["paper"] is None  # imported, whatever its name
    assert "checkpoints (one 40, two 30)" in content["notes"][0]
    page = (out / "compare.html").read_text()
    assert page.count("<svg") == 1
    assert "Hu et al. (2023)" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_papers_rows_are_those_of_its_table():
    assert PAPER["modular"] == PaperRow(6, 0.977, "<0.001", 0.496, True)
    assert PAPER["cifar100-destabilised"].dissimilarity == 0.806
    assert {name for name, row in PAPER.items() if not row.forks} == {
        *("modular-stabilised", "mnist", "cifar100")
    }


@pytest.mark.parametrize(
    ("experiment", "own", "other"),
    [
        ("mnist", {"model": "mlp", "data": "mnist", "hidden": 9}, {"model": "lenet5"}),
        ("mnist", {}, {"data": "digits"}),
        ("cifar100-destabilised", {"data": "cifar"}, {"data": "patterns"}),
        ("modular", {"operation": "add"}, {"operation": "divide"}),
        ("modular-stabilised", {"prime": 7}, {"operation": "subtract"}),
    ],
)
def test_the_papers_row_stands_beside_its_own_experiment_only(experiment, own, other):
    config = {"experiment": experiment, "hyperparameters": own}
    assert paper_row(config) == PAPER[experiment]
    assert paper_row(config | {"hyperparameters": own | other}) is None
    assert paper_row(config | {"imported_from": "CSV files"}) is None
    assert paper_row({"experiment": "mine"}) is None


@pytest.mark.slow
def test_joint_fit_is_the_fit_of_the_concatenated_sequences(folders):
    runs = read_runs(folders)
    joint = fit_runs_together(runs)
    values, away = [], []
    for run in runs:
        sequences = z_score(raw_sequences(read_dataset(run.folder), METRICS))
        values += [v[:n] for v, n in zip(sequences.values, sequences.lengths, strict=True)]
        away += [name in run.saved.validation_runs for name in sequences.runs]
    direct = from_arrays(values, metrics=METRICS)
    config = hmm.SweepConfig((2, 3), 2, 8, "diagonal", "weak")
    parts = [direct.select(np.flatnonzero(np.array(away) == flag)) for flag in (False, True)]
    chosen = hmm.select(hmm.fit_sweep(*parts, config, jax.random.key(0)))
    paths = hmm.viterbi(chosen.parameters, direct)
    order = hmm.canonical_order(paths, chosen.num_states)
    expected = hmm.permute(chosen.parameters, order)
    for ours, theirs in zip(joint.saved.parameters, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    bag = hmm.bag_of_states(hmm.relabel(paths, order), chosen.num_states)
    held_out = log_likelihood(expected, direct)[away]
    for row, mine, scores, length in zip(
        to_json(joint.rows), np.split(bag, 2), np.split(held_out, 2), (40, 30), strict=True
    ):
        np.testing.assert_allclose(row["shares"], mine.mean(0), rtol=1e-12)
        assert row["dissimilarity"]["discrete"] == dissimilarity(mine)
        assert row["num_runs"] == (mine > 0).sum(0).tolist()
        likelihood = row["log_likelihood"]["held_out"]
        assert likelihood["median"] == pytest.approx(np.median(scores / length), rel=1e-5)
        assert likelihood["mean"] == pytest.approx(scores.mean() / length, rel=1e-5)


def test_a_model_on_its_own_run_gives_its_own_map(folders):
    one, _ = read_runs(folders)
    paths = hmm.viterbi(one.saved.parameters, one.analysis.sequences)
    np.testing.assert_array_equal(paths, one.dataset.state.values)
    (row,) = to_json(read_with(one, [one]))
    found = summary(folders[0])
    assert row["r2"] == row["own_r2"] == found["regression"]["r2"]
    assert row["prediction_r2"] == pytest.approx(row["r2"], rel=1e-9)
    assert row["adjusted_rand"] == 1
    assert row["dissimilarity"] == found["dissimilarity"]
    scores = row["log_likelihood"]
    assert scores["held_out"] == scores["own_held_out"]
    told = list(found["held_out_log_likelihood"].values())  # from the sweep, in float32
    assert scores["held_out"]["median"] == pytest.approx(np.median(told), rel=1e-4)
    # The whole log-likelihood, by a forward pass in plain probabilities.
    total = sum(map(lambda z: forward(one.saved.parameters, z), one.analysis.sequences.values))
    assert scores["all_runs"]["mean"] * 400 == pytest.approx(total, rel=1e-5)


def forward(parameters, z):
    """log p(run) by the scaled forward algorithm."""
    densities = np.exp(hmm.log_densities(parameters, z))
    alpha, total = parameters.initial * densities[0], 0.0
    for density in densities[1:]:
        total += np.log(alpha.sum())
        alpha = (alpha / alpha.sum()) @ parameters.transition * density
    return total + np.log(alpha.sum())


def test_a_model_on_another_run(folders):
    one, two = read_runs(folders)
    row = to_json(read_with(one, [two])[0])
    z = z_score(from_arrays(two.dataset[list(METRICS)].to_array().values.transpose(1, 2, 0)))
    states = hmm.viterbi(one.saved.parameters, z)
    num_states = len(one.saved.parameters.means)
    bag = np.stack([(states == k).mean(1) for k in range(num_states)], 1)
    np.testing.assert_allclose(row["shares"], bag.mean(0))
    assert row["states_visited"] == np.unique(states).tolist()
    known, y = one.analysis.bag, one.analysis.run_convergence
    new_y = two.analysis.run_convergence
    design = np.column_stack([np.ones(10), known[:, 1:]])  # an intercept and K - 1 shares
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    guesses = np.column_stack([np.ones(10), bag[:, 1:]]) @ coefficients
    expected = 1 - ((new_y - guesses) ** 2).sum() / ((new_y - new_y.mean()) ** 2).sum()
    assert row["prediction_r2"] == pytest.approx(expected, rel=1e-6)
    assert row["r2"] == pytest.approx(hmm.regress(bag, new_y).r2, rel=1e-9)
    assert row["r2"] > row["prediction_r2"]


def test_figures_show_the_numbers():
    found = [Experiment("a", 0.5, 0.25, 0.1, 3, True, (0.9, None, 6))]
    found.append(Experiment("b", None, 0.75, None, 2, False))
    axes = plot_comparison(found).axes
    ours = [[float(line.get_xdata()[0]) for line in dots(ax, "ours")] for ax in axes]
    assert ours == [[0.5], [0.25, 0.75], [0.1], [3, 2]]
    published = [[line.get_xdata()[0] for line in dots(ax, "published")] for ax in axes]
    assert published == [[0.9], [], [], [6]]
    first, second = dots(axes[1], "ours")
    assert first.get_color() != second.get_color()  # one forks, the other does not
    shares = np.array([[0.25, 0.75], [1.0, 0.0]])
    bars = plot_shared_states(shares, ["a", "b"]).axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.25, 1.0, 0.75, 0.0]
    assert [bar.get_x() for bar in bars] == [0, 0, 0.25, 1.0]


def dots(ax, gid):
    return [line for line in ax.lines if line.get_gid() == gid]


def test_prediction_by_hand():
    bag, outcome = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]), np.array([1.0, 2, 3])
    new = np.array([[0.25, 0.75, 0], [0, 0, 1.0]])
    # No known run is in the last state: only the way between the first two counts, and the new run
    # stands in its middle, whatever the mean of the known runs.
    np.testing.assert_allclose(predict_outcome(bag, outcome, new), [2.5, 2.0])
    uneven = predict_outcome(bag[[0, 1, 1]], outcome[[0, 1, 1]], new)
    np.testing.assert_allclose(uneven, [2.5, 2.0])
    known = np.array([1.0, 2, np.nan])  # the third run has no part; the line is the same
    np.testing.assert_allclose(predict_outcome(bag, known, new[:1]), [2.5])
    assert np.isnan(predict_outcome(bag, np.full(3, np.nan), new)).all()
    assert prediction_r2(np.array([5.0, 5, 0]), np.array([1.0, 3, np.nan])) == -9.0
    assert prediction_r2(np.array([1.0]), np.array([2.0])) is None
    assert prediction_r2(np.array([1.0, 2]), np.array([2.0, 2])) is None


def test_pooling_keeps_runs_lengths_and_the_first_order_of_metrics():
    rng = np.random.default_rng(0)
    a = from_arrays(rng.normal(size=(2, 4, 2)), metrics=["x", "y"])
    b = from_arrays(rng.normal(size=(1, 6, 2)), [5], metrics=["y", "x"])
    pooled = hmm.pool({"a": a, "b": b})
    assert pooled.runs == ("a/0", "a/1", "b/0")
    assert pooled.lengths.tolist() == [4, 4, 5]
    np.testing.assert_array_equal(pooled.values[2, :5], b.values[0, :5, ::-1])
    np.testing.assert_array_equal(pooled.values[:2, :4], a.values)
    with pytest.raises(ValueError, match="nothing to pool"):
        hmm.pool({})
    with pytest.raises(ValueError, match="b lacks y and a lacks w; fit all with the same"):
        hmm.pool({"a": a, "b": hmm.from_arrays(a.values, metrics=["x", "w"])})


@pytest.mark.slow
def test_one_hmm_for_all_by_the_command(folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert seedmap("compare", *folders, "--together", "--out", out) == 0
    assert_of_schema(out / "compare.json")
    content = json.loads((out / "compare.json").read_text())
    saved = hmm.load_hmm(out)
    assert [len(row["shares"]) for row in content["together"]] == 2 * [len(saved.parameters.means)]
    assert saved.train_runs[0].startswith("one/")
    assert hmm.load_sweep(out / "sweep.json")[0].num_observations_train == 8 * 40 + 8 * 30
    assert "fitted to all runs together" in capsys.readouterr().out
    assert (out / "compare.html").read_text().count("<svg") == 2
    assert seedmap("compare", folders[1], "--model", folders[0], "--out", out) == 0
    assert_of_schema(out / "compare.json")
    content = json.loads((out / "compare.json").read_text())
    assert content["model"] == "one"
    assert [row["run"] for row in content["zero_shot"]] == ["one", "two"]
    assert not (out / "hmm.npz").exists()  # of the comparison that was replaced
    assert "prediction R²" in capsys.readouterr().out


def test_settings_that_the_joint_fit_overrides_are_told(folders):
    one, two = read_runs(folders)
    fit = two.config["fit"] | {"one_standard_error": True}
    other = two._replace(config=two.config | {"fit": fit})
    (note,) = fit_runs_together([one, other]).notes
    assert "different one_standard_error (one False, two True)" in note


def test_other_units_are_not_predicted(folders, tmp_path):
    with_epochs = make_run(tmp_path / "epochs", 1, 30, unit="epoch")
    one, other = read_runs([folders[0], with_epochs])
    assert read_with(one, [other])[0].prediction_r2 is None
    assert row_of(other).unit == "epoch"


@pytest.fixture
def broken(folders, tmp_path):
    """Folders that cannot be compared with the first run."""
    unfitted, unmapped, changed = tmp_path / "unfitted", tmp_path / "unmapped", tmp_path / "changed"
    shutil.copytree(folders[1], unfitted)
    shutil.copytree(folders[1], unmapped)
    (unmapped / "summary.json").unlink()
    shutil.copytree(folders[1], tmp_path / "half")
    lacking = summary(folders[1])
    del lacking["num_diverged"]
    (tmp_path / "half" / "summary.json").write_text(json.dumps(lacking))
    write_dataset(unfitted, read_dataset(unfitted).drop_vars("state"))
    make_run(changed, 2, 30, metrics=("l1", "l2", "spectral"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    (tmp_path / "drawn" / "figures").mkdir(parents=True)
    (tmp_path / "drawn" / "figures" / "mine.png").write_text("")
    return tmp_path


def test_bad_input_is_told_in_one_line(folders, broken, capsys):
    one, two = folders
    cases = [
        ((one,), ["at least two runs", "got 1"]),
        ((one, two, one), ["comes twice"]),
        ((one, broken / "unfitted"), ["unfitted", "seedmap fit"]),
        ((one, broken / "unmapped"), ["unmapped has no summary.json", "seedmap map"]),
        ((one, broken / "none"), ["none is not a folder"]),
        ((one, broken / "changed", "--together"), ["changed lacks trace and one lacks spectral"]),
        ((broken / "changed", "--model", one), ["metrics differ"]),
        ((one, two, "--together", "--model", one), ["one at a time"]),
        ((one, two, "--out", broken / "full"), ["notes.txt"]),
        ((one, two, "--out", broken / "full" / "notes.txt" / "in"), ["notes.txt is no folder"]),
        ((one, two, "--out", broken / "drawn"), ["holds figures, which is not a comparison's"]),
        ((one, broken / "half"), ["summary.json has no 'num_diverged'", "seedmap map"]),
        ((one, two, "--out", one), ["which is not a comparison's"]),
    ]
    for arguments, words in cases:
        capsys.readouterr()
        assert seedmap("compare", *arguments) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert all(word in line for word in words), line
    capsys.readouterr()
    assert (broken / "drawn" / "figures" / "mine.png").exists()
    assert seedmap("compare", one, broken / "changed") == 0  # side by side they may differ
    assert "differ in the metrics" in capsys.readouterr().out
