"""What a map was chosen among, written and read back, and any runs read with a saved map."""

import json

import numpy as np
import pytest

from helpers.relaxing import relaxing_runs
from seedmap import hmm
from seedmap.errors import UserError
from seedmap.hmm.autoregressive.map_sweep import load_map_sweep, map_sweep, save_map_sweep
from seedmap.hmm.io import SavedHMM, load_hmm, save_hmm
from seedmap.identity import Mark

SETTINGS = hmm.MapSettings(
    states=(1, 3), restarts=2, final_restarts=2, iterations=24, resamples=2, seed=3
)


@pytest.fixture(scope="module")
def made():
    """A map of 16 of 20 runs through 3 places, and all runs."""
    values, _ = relaxing_runs(20, 48, 3, seed=4)
    sequences = hmm.from_arrays(values)
    return hmm.make_map(sequences, np.arange(16), SETTINGS), sequences


@pytest.fixture(scope="module")
def sweep(made):
    return map_sweep(made[0], SETTINGS, made[1], "a fit")


def saved_of(fit):
    return SavedHMM(
        parameters=hmm.location_model(fit.model),
        metrics=fit.model.scale.metrics,
        covariance="full",
        z_score={"first": 1000, "per": "common"},
        train_runs=fit.fitted,
        validation_runs=(),
        config={},
        selection=[],
        scale=fit.model.scale,
        model=fit.model,
    )


def test_the_sweep_holds_scores_of_starts_and_of_runs_held_out(made, sweep):
    fit, sequences = made
    assert (sweep.num_states, sweep.train_runs, sweep.validation_runs) == (
        fit.num_states,
        [str(i) for i in range(16)],
        ["16", "17", "18", "19"],
    )
    assert sweep.num_observations_train == 16 * 47
    assert [(row.num_states, row.restart) for row in sweep.fits] == [(1, 0), (3, 0), (3, 1)]
    best = {row.num_states: row.log_likelihood for row in sweep.sizes}
    for size, score in best.items():
        of_size = [row.train_log_likelihood for row in sweep.fits if row.num_states == size]
        assert max(of_size) == pytest.approx(score * 16 * 47)
    by_run = hmm.score_runs(fit.model, sequences)
    np.testing.assert_allclose(sweep.validation_run_log_likelihood, by_run[16:], rtol=1e-9)


def test_a_sweep_comes_back_as_it_was_written(sweep, tmp_path):
    path = tmp_path / "sweep.json"
    save_map_sweep(path, sweep)
    assert load_map_sweep(path, Mark(tmp_path / "config.json", "a fit")) == sweep
    with pytest.raises(UserError, match=r"are of different fits: fit .* again with overwrite"):
        load_map_sweep(path, Mark(tmp_path / "config.json", "another"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content | {"format": "seedmap-sweep"}, "it is seedmap-sweep version 3"),
        (lambda content: content | {"version": 99}, "version 99"),
        (lambda content: content | {"sizes": 3}, "'sizes' of another type"),
        (lambda content: [], "it is None version None"),
    ],
)
def test_what_is_no_sweep_of_a_map_is_refused(sweep, tmp_path, change, words):
    path = tmp_path / "sweep.json"
    save_map_sweep(path, sweep)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=words):
        load_map_sweep(path)


def test_a_saved_map_reads_any_runs_as_it_did_when_it_was_made(made, tmp_path):
    fit, sequences = made
    save_hmm(tmp_path, saved_of(fit))
    saved = load_hmm(tmp_path)
    read = hmm.read_runs(saved, sequences)
    np.testing.assert_array_equal(read.paths, fit.paths)
    np.testing.assert_allclose(read.log_likelihood, hmm.score_runs(fit.model, sequences))
    np.testing.assert_allclose(read.bag, hmm.bag_of_states(fit.paths, fit.num_states))
    scale = fit.model.scale
    np.testing.assert_allclose(
        read.sequences.values, (sequences.values - scale.mean) / scale.std, rtol=1e-12
    )
    begun = hmm.from_arrays(sequences.values[:, :20])
    np.testing.assert_allclose(
        hmm.read_beliefs(saved, begun), hmm.read_beliefs(saved, sequences)[:, :20], atol=1e-9
    )
    with pytest.raises(UserError, match="metrics differ"):
        hmm.read_runs(saved, hmm.from_arrays(sequences.values[:, :, 1:]))


def test_a_gaussian_hmm_reads_runs_on_the_scale_that_it_keeps(made, tmp_path):
    fit, sequences = made
    saved = saved_of(fit)
    save_hmm(tmp_path, SavedHMM(**vars(saved) | {"model": None}))
    loaded = load_hmm(tmp_path)
    assert loaded.model is None
    scaled = hmm.scale_metrics(fit.model.scale, sequences)
    read = hmm.read_runs(loaded, sequences.select([3, 5]))  # no run's scale depends on the others
    np.testing.assert_array_equal(read.paths, hmm.viterbi(saved.parameters, scaled)[[3, 5]])
    own = SavedHMM(**vars(saved) | {"model": None, "scale": None})
    z = hmm.z_score(sequences)
    np.testing.assert_array_equal(hmm.in_units_of(own, sequences).values, z.values)
    assert hmm.read_runs(own, sequences).log_likelihood == pytest.approx(
        hmm.log_likelihood(saved.parameters, z)
    )
