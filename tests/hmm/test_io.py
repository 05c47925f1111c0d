import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from dynamax.hidden_markov_model import GaussianHMM as DynamaxHMM
from hmmlearn.hmm import GaussianHMM as HmmlearnHMM
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from seedmap.hmm.io import (
    SavedHMM,
    from_dynamax,
    from_hmmlearn,
    load_hmm,
    save_hmm,
    to_dynamax,
    to_hmmlearn,
)
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.fits import Fit, Sweep


def random_hmm(num_states=3, num_metrics=2, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(num_states, num_metrics, num_metrics))
    arrays = (
        rng.dirichlet(np.ones(num_states)),
        rng.dirichlet(np.ones(num_states), size=num_states),
        rng.normal(size=(num_states, num_metrics)),
        factors @ factors.transpose(0, 2, 1) + np.eye(num_metrics),
    )
    return Parameters(*(array.astype(dtype) for array in arrays))


def example(**changes):
    fields = {
        "parameters": random_hmm(),
        "metrics": ("l1", "naïve_λ"),
        "covariance": "full",
        "z_score": {"first": 1000, "per": "run"},
        "train_runs": ("0", "2"),
        "validation_runs": ("1",),
        "config": {"states": [1, 2, 3], "restarts": 5, "tolerance": None},
        "selection": [{"num_states": 1, "bic": 12.25, "num_degenerate": 0}],
        "fit_id": "0123456789abcdef",
    }
    return SavedHMM(**{**fields, **changes})


def log_likelihood(parameters, run):
    """Forward algorithm in numpy, float64."""
    log_densities = np.stack(
        [
            multivariate_normal.logpdf(run, mean, covariance)
            for mean, covariance in zip(parameters.means, parameters.covariances, strict=True)
        ],
        axis=1,
    )
    forward = np.log(parameters.initial) + log_densities[0]
    for row in log_densities[1:]:
        forward = logsumexp(forward[:, None] + np.log(parameters.transition), axis=0) + row
    return logsumexp(forward)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip(tmp_path, dtype):
    saved = example(parameters=random_hmm(dtype=dtype))
    save_hmm(tmp_path / "new" / "folder", saved)
    loaded = load_hmm(tmp_path / "new" / "folder")
    for ours, theirs in zip(loaded.parameters, saved.parameters, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)
    for field in dataclasses.fields(SavedHMM)[1:]:
        assert getattr(loaded, field.name) == getattr(saved, field.name)
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["hmm.json", "hmm.npz"]


def test_from_sweep(tmp_path):
    parameters = random_hmm(num_states=2)
    scores = dict.fromkeys(["train_log_likelihood", "penalised_log_likelihood"], -1.0)
    fit = Fit(
        num_states=2,
        restart=0,
        parameters=parameters,
        validation_log_likelihood=-3.5,
        train_run_log_likelihood=np.zeros(4),
        validation_run_log_likelihood=np.zeros(1),
        num_parameters=11,
        aic=29.0,
        bic=31.5,
        iterations=4,
        converged=True,
        degenerate=False,
        **scores,
    )
    broken = dataclasses.replace(fit, num_states=3, degenerate=True, bic=np.nan)
    sweep = Sweep(
        SweepConfig(states=(2, 3), restarts=1, covariance="shared"),
        (fit, broken),
        ("l1", "l2"),
        ("0", "1", "3", "4"),
        ("2",),
        40,
        10,
    )
    saved = SavedHMM.from_sweep(sweep, parameters)
    save_hmm(tmp_path, saved)
    loaded = load_hmm(tmp_path)
    assert (loaded.metrics, loaded.covariance) == (("l1", "l2"), "shared")
    assert (loaded.train_runs, loaded.validation_runs) == (("0", "1", "3", "4"), ("2",))
    assert (
        SweepConfig(**{**loaded.config, "states": tuple(loaded.config["states"])}) == sweep.config
    )
    assert [row["bic"] for row in loaded.selection] == [31.5, None]
    assert [row["num_degenerate"] for row in loaded.selection] == [0, 1]


def test_json_is_plain_and_non_finite_becomes_null(tmp_path):
    selection = [{"num_states": np.int64(2), "bic": np.inf, "aic": np.float32(1.5), "best": np.nan}]
    save_hmm(tmp_path, example(selection=selection, config={"states": (1, 2)}))
    content = (tmp_path / "hmm.json").read_text(encoding="utf-8")
    facts = json.loads(content, parse_constant=pytest.fail)
    assert (facts["format"], facts["version"], facts["num_states"]) == ("seedmap-hmm", 1, 3)
    assert facts["selection"] == [{"num_states": 2, "bic": None, "aic": 1.5, "best": None}]
    assert load_hmm(tmp_path).config == {"states": [1, 2]}


def test_failed_save_leaves_the_earlier_file(tmp_path):
    save_hmm(tmp_path, example())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError):
        save_hmm(tmp_path, example(config={"prior": object()}))
    with pytest.raises(ValueError, match="initial must be probabilities"):
        save_hmm(tmp_path, example(parameters=random_hmm()._replace(initial=np.ones(3))))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"hmm\.json does not exist"):
        load_hmm(tmp_path / "nowhere")
    save_hmm(tmp_path, example())
    (tmp_path / "hmm.npz").unlink()
    with pytest.raises(ValueError, match=r"hmm\.npz does not exist"):
        load_hmm(tmp_path)


def test_truncated_at_any_byte_is_refused(tmp_path):
    save_hmm(tmp_path, example())
    for name in ("hmm.npz", "hmm.json"):
        whole = (tmp_path / name).read_bytes()
        for size in range(0, len(whole) - 2, 37):
            (tmp_path / name).write_bytes(whole[:size])
            with pytest.raises(ValueError, match=rf"{name} is (damaged|not a saved HMM)"):
                load_hmm(tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_flipped_bits_are_refused(tmp_path):
    save_hmm(tmp_path, example())
    whole = (tmp_path / "hmm.npz").read_bytes()
    position = whole.index(example().parameters.means.tobytes())
    (tmp_path / "hmm.npz").write_bytes(
        whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
    )
    with pytest.raises(ValueError, match="damaged"):
        load_hmm(tmp_path)


def test_the_files_of_two_fits_are_told_apart_by_an_id_of_their_content(tmp_path):
    without = example(fit_id=None)
    others = {
        "same": without,
        "fit": example(fit_id=None, parameters=random_hmm(seed=1)),
        "runs": example(fit_id=None, train_runs=("0", "3")),
    }
    save_hmm(tmp_path / "ours", without)
    for name, other in others.items():
        save_hmm(tmp_path / name, other)
        mixed = shutil.copytree(tmp_path / "ours", tmp_path / f"mixed {name}")
        shutil.copy(tmp_path / name / "hmm.npz", mixed)
        if name == "same":
            assert load_hmm(mixed).fit_id == load_hmm(tmp_path / "ours").fit_id is not None
        else:
            with pytest.raises(ValueError, match=r"hmm.npz and .* are of different fits"):
                load_hmm(mixed)


def test_what_a_former_version_saved_is_read_and_has_no_id(tmp_path):
    save_hmm(tmp_path, example())
    rewrite_arrays(tmp_path, fit_id=None)
    with pytest.raises(ValueError, match=r"hmm.npz and \S+hmm.json are of different fits"):
        load_hmm(tmp_path)
    facts = json.loads((tmp_path / "hmm.json").read_text())
    del facts["fit_id"]
    (tmp_path / "hmm.json").write_text(json.dumps(facts))
    assert load_hmm(tmp_path).fit_id is None


def rewrite_arrays(folder, **changes):
    """Writes changed arrays without a checksum, which would tell of it first."""
    with np.load(folder / "hmm.npz") as archive:
        arrays = {**archive, "checksum": None, **changes}
    np.savez(folder / "hmm.npz", **{k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": np.array([[{}]], dtype=object)}, "'means' holds Python objects"),
        ({"means": None}, "means"),
        ({"means": np.zeros((3, 5))}, r"means must be float \[3, 2\], not float64 \[3, 5\]"),
        ({"means": np.zeros((3, 2), dtype=int)}, "means must be float"),
        ({"means": np.full((3, 2), np.nan)}, "means holds numbers that are not finite"),
        ({"transition": np.eye(3) * 2}, "transition must be probabilities"),
        ({"transition": np.array([[2.0, -1, 0]] * 3)}, "transition must be probabilities"),
        ({"initial": np.float64(1)}, "initial must be float"),
        (random_hmm(num_states=2)._asdict(), "different fits"),
    ],
)
def test_arrays_that_are_no_such_hmm(tmp_path, changes, message):
    save_hmm(tmp_path, example())
    rewrite_arrays(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load_hmm(tmp_path)


def test_an_array_file_in_place_of_the_archive(tmp_path):
    save_hmm(tmp_path, example())
    np.save(tmp_path / "array.npy", np.zeros(3))
    shutil.move(tmp_path / "array.npy", tmp_path / "hmm.npz")
    with pytest.raises(ValueError, match="it holds a single array"):
        load_hmm(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "format version 2, this program reads 1"),
        ({"format": "other"}, "not a saved HMM"),
        ({"metrics": None}, '"metrics" is missing or of the wrong type'),
    ],
)
def test_facts_of_another_kind(tmp_path, changes, message):
    save_hmm(tmp_path, example())
    path = tmp_path / "hmm.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}))
    with pytest.raises(ValueError, match=message):
        load_hmm(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_hmmlearn_scores_alike(dtype):
    parameters, run = random_hmm(dtype=dtype), np.random.default_rng(1).normal(size=(20, 2))
    model = HmmlearnHMM(3, covariance_type="full")
    for name, value in to_hmmlearn(parameters).items():
        setattr(model, name, value)
    assert model.score(run) == pytest.approx(log_likelihood(parameters, run), rel=1e-6)
    for ours, theirs in zip(from_hmmlearn(model), parameters, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical", "tied"])
def test_from_hmmlearn_scores_alike(covariance_type):
    runs = np.random.default_rng(2).normal(size=(200, 2)) + np.repeat([[0], [8]], 100, axis=0)
    model = HmmlearnHMM(2, covariance_type=covariance_type, n_iter=3, tol=0, random_state=0)
    model.fit(runs)
    parameters = from_hmmlearn(model)
    # A state that is never left has transition probability 0 out of it: log 0 is meant.
    with np.errstate(divide="ignore"):
        assert log_likelihood(parameters, runs[:30]) == pytest.approx(model.score(runs[:30]))


def test_a_degenerate_hmmlearn_model_is_refused():
    model = HmmlearnHMM(3)
    for name, value in to_hmmlearn(random_hmm()).items():
        if name != "covars_":
            setattr(model, name, value)
    model.covars_ = np.ones((3, 2))
    model.n_features = 2
    model.startprob_ = np.full(3, np.nan)
    with pytest.raises(ValueError, match="hmmlearn model: initial holds"):
        from_hmmlearn(model)


def test_dynamax_scores_alike_and_round_trips():
    parameters, run = random_hmm(), np.random.default_rng(3).normal(size=(20, 2))
    with jax.enable_x64(True):
        params = to_dynamax(parameters)
        score = DynamaxHMM(3, 2).marginal_log_prob(params, run)
        assert float(score) == pytest.approx(log_likelihood(parameters, run), rel=1e-9)
    for ours, theirs in zip(from_dynamax(params), parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    broken = params._replace(emissions=params.emissions._replace(means=np.full((3, 2), np.nan)))
    with pytest.raises(ValueError, match="Dynamax parameters: means holds"):
        from_dynamax(broken)
