"""The contract of every emission family: count, start, units, M step, prior, dtype, compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM

from helpers.em_fits import as_data, as_model, prior_of, start_of
from helpers.planted import planted
from seedmap.errors import UserError
from seedmap.hmm.em.candidates import starting_factor
from seedmap.hmm.em.e_step import expectation
from seedmap.hmm.em.emissions import FAMILIES, covariance_family
from seedmap.hmm.em.m_step import log_prior, maximisation
from seedmap.hmm.em.model import Layout
from seedmap.hmm.em.standardise import scaling_of
from seedmap.hmm.parameters import COVARIANCES, num_parameters

LAYOUT_STATES = (2, 3)


def fits_of(covariance):
    """A layout of 2 and 3 states, their starts, and the model of both."""
    layout = Layout(LAYOUT_STATES, covariance)
    starts = [start_of(2, covariance), start_of(3, covariance, seed=1)]
    return layout, starts, as_model(layout, starts)


def m_step(covariance):
    """The M step of both fits, and their layout."""
    layout, _, model = fits_of(covariance)
    data = as_data(planted()[0].select(range(6)))
    statistics = expectation(layout, model, data, jnp.ones((2, 6), data.values.dtype))
    return layout, maximisation(layout, model, statistics, prior_of(2, 0.5, 0.2))


def matrices_of(model):
    """Covariances [S, D, D] of all states, float64."""
    factors = np.asarray(model.factors, np.float64)
    return factors @ factors.transpose(0, 2, 1)


def test_the_table_names_every_family_and_no_other():
    assert tuple(FAMILIES) == COVARIANCES == ("full", "diagonal", "spherical", "shared")
    for name, family in FAMILIES.items():
        assert covariance_family(name) is family
    with pytest.raises(UserError, match=r"one of full, .*; got 'tied'"):
        covariance_family("tied")


@pytest.mark.parametrize(
    ("covariance", "expected"),
    [("full", 3 * 10), ("diagonal", 3 * 4), ("spherical", 3), ("shared", 10)],
)
def test_count_of_covariances_in_closed_form_and_as_hmmlearn_counts(covariance, expected):
    """3 states over 4 metrics: 2 initial, 6 transition and 12 mean parameters besides."""
    family = FAMILIES[covariance]
    assert family.num_parameters(3, 4) == expected
    assert num_parameters(3, 4, covariance) == 2 + 6 + 12 + expected
    peer = GaussianHMM(3, family.hmmlearn)
    peer.n_features = 4
    assert num_parameters(3, 4, covariance) == sum(peer._get_n_fit_scalars_per_param().values())


def test_the_starting_covariance_is_that_of_the_data_plus_the_floor():
    values = planted()[0].observations()
    full = np.cov(values.T, bias=True)
    expected = {
        "full": full,
        "shared": full,
        "diagonal": np.diag(np.diag(full)),
        "spherical": np.trace(full) / 3 * np.eye(3),
    }
    for covariance, matrix in expected.items():
        factor = starting_factor(values, covariance)
        np.testing.assert_allclose(factor @ factor.T, matrix + 1e-3 * np.eye(3), rtol=1e-9)


def set_covariances(peer, covariance, covariances):
    peer.covars_ = {
        "full": covariances,
        "diagonal": covariances.diagonal(axis1=1, axis2=2),
        "spherical": covariances[:, 0, 0],
        "shared": covariances[0],
    }[covariance]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_one_em_step_against_hmmlearn(covariance):
    sequences = planted()[0].select(range(6))
    layout, starts, model = fits_of(covariance)
    prior = prior_of(2, 0.5, 0.2)
    statistics = expectation(layout, model, as_data(sequences), jnp.ones((2, 6)))
    new = jax.tree.map(np.asarray, maximisation(layout, model, statistics, prior))
    for i, (initial, transition, means, covariances) in enumerate(starts):
        scatter = 0.5 * np.eye(3) if covariance in ("full", "shared") else 0.5
        peer = GaussianHMM(
            len(initial),
            FAMILIES[covariance].hmmlearn,
            n_iter=1,
            init_params="",
            startprob_prior=1.2,
            transmat_prior=1.2,
            covars_prior=scatter,
        )
        peer.startprob_, peer.transmat_, peer.means_ = initial, transition, means
        set_covariances(peer, covariance, covariances)
        values = sequences.observations()
        total = peer.score(values, sequences.lengths)
        np.testing.assert_allclose(statistics.log_likelihood[i].sum(), total, rtol=1e-5)
        peer.fit(values, sequences.lengths)
        k, mine = len(initial), layout.fit == i
        np.testing.assert_allclose(new.initial[i, :k], peer.startprob_, atol=1e-5)
        np.testing.assert_allclose(new.transition[i, :k, :k], peer.transmat_, atol=1e-5)
        np.testing.assert_allclose(new.means[mine], peer.means_, atol=2e-4)
        found = new.factors[mine] @ new.factors[mine].transpose(0, 2, 1)
        # hmmlearn repeats a spherical covariance once for each metric
        repeat = 3 if covariance == "spherical" else 1
        expected = np.broadcast_to(peer.covars_, (repeat * k, 3, 3))[::repeat]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_prior_against_its_formula(covariance):
    layout, starts, model = fits_of(covariance)
    found = log_prior(layout, model, prior_of(2, 0.5, 0.2))
    for i, (initial, transition, _, covariances) in enumerate(starts):
        if covariance == "shared":
            covariances = covariances[:1]
        traces = np.trace(0.5 * np.linalg.inv(covariances), axis1=1, axis2=2)
        expected = 0.2 * (np.log(initial).sum() + np.log(transition).sum()) - traces.sum() / 2
        np.testing.assert_allclose(found[i], expected, rtol=1e-4)


def of_its_form(covariance, matrices, layout):
    """Whether covariances [S, 3, 3] are of the form, to rounding, and of no narrower one."""
    diagonal = np.abs(matrices * (1 - np.eye(3))).max() < 1e-5
    variances = np.diagonal(matrices, axis1=1, axis2=2)
    equal = np.allclose(variances, variances[:, :1], rtol=1e-4)
    groups = [matrices[layout.fit == i] for i in range(len(layout.num_states))]
    tied = all(np.allclose(group, group[:1], rtol=1e-4, atol=1e-4) for group in groups)
    return (diagonal, equal, tied) == {
        "full": (False, False, False),
        "diagonal": (True, False, False),
        "spherical": (True, True, False),
        "shared": (False, False, True),
    }[covariance]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_an_m_step_stays_in_its_family(covariance):
    layout, new = m_step(covariance)
    assert of_its_form(covariance, matrices_of(new), layout)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_an_m_step_is_the_same_compiled_and_keeps_its_dtype(covariance):
    _, narrow = m_step(covariance)
    assert {array.dtype for array in narrow} == {np.dtype(np.float32)}
    compiled = jax.jit(lambda: m_step(covariance)[1])()
    with jax.enable_x64(True):
        _, wide = m_step(covariance)
    assert {array.dtype for array in wide} == {np.dtype(np.float64)}
    for first, second, third in zip(narrow, compiled, wide, strict=True):
        np.testing.assert_allclose(second, first, rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(third, first, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_units_keep_the_form_of_a_covariance(covariance):
    sequences = planted()[0]
    layout, starts, _ = fits_of(covariance)
    scaling = scaling_of(sequences, covariance)
    matrices = np.concatenate([start[3] for start in starts])
    assert of_its_form(covariance, matrices * np.outer(scaling.std, scaling.std), layout)
    variances = sequences.observations().var(0)
    if covariance == "spherical":
        variances = np.full(3, variances.mean())
    np.testing.assert_allclose(scaling.std, np.sqrt(variances), rtol=1e-12)
