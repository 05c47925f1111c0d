"""Noise of tools that is imitated: each kind alone changes what it says and nothing else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seedmap.trainer import (
    Data,
    Fork,
    Noise,
    Perturbations,
    Replicas,
    Saving,
    Task,
    in_drawn_order,
    make_streams,
    train,
)
from seedmap.trainer.metrics.replica_distance import digest
from seedmap.trainer.noise.perturb import keys_at, move_by_ulp, positions
from seedmap.trainer.order import batch_rows

EVERY, STEPS, BATCH = 4, 16, 10


def make_data(_):
    x = jax.random.normal(jax.random.key(1), (44, 6))
    y = (x[:, 0] * x[:, 1] > 0).astype(jnp.int32)
    return Data((x[:34], y[:34]), (x[34:], y[34:]))


def logits(params, x):
    hidden = jnp.tanh(x @ params["first"] + params["bias"])
    return hidden @ params["second"]


def score_of(out, y):
    loss = jax.nn.logsumexp(out, axis=-1) - jnp.take_along_axis(out, y[:, None], 1)[:, 0]
    return loss, (jnp.argmax(out, -1) == y).astype(jnp.float32)


def train_score(params, batch, noise: Noise):
    def jitter(x):
        return x + 0.1 * jax.random.normal(noise.augment, x.shape)

    return score_of(logits(params, in_drawn_order(jitter, batch[0], noise)), batch[1])


def init(key):
    first, second = jax.random.split(key)
    return {
        "first": 0.5 * jax.random.normal(first, (6, 8)),
        "bias": jnp.zeros(8),
        "second": 0.5 * jax.random.normal(second, (8, 2)),
    }


TASK = Task(
    init,
    make_data,
    lambda params, batch: score_of(logits(params, batch[0]), batch[1]),
    34,
    train_score,
    classify=lambda params, batch: (logits(params, batch[0]), batch[1]),
)


def same_streams(count, vary=(), numbers=None):
    return make_streams(numbers or range(count), vary)


def run(count, streams=None, perturb=None, task=TASK, saving=None, **options):
    streams = same_streams(count) if streams is None else streams
    return train(
        task,
        optax.adam(0.03),
        range(count),
        batch_size=BATCH,
        steps=STEPS,
        record_every=EVERY,
        metrics=lambda params: {"top": jnp.abs(params["first"]).max()},
        replicas=Replicas(streams=streams, perturb=perturb, compare=True),
        saving=saving,
        **options,
    )


def flat(params):
    leaves = jax.tree.leaves(params)
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves], axis=1)


def test_alike_replicas_never_part_and_perturbed_ones_do_when_they_are_to():
    perturb = Perturbations(
        accumulation=jnp.array([0, 0, 3, 0, 0, 0], jnp.uint32),
        mantissa_bits=jnp.array([23, 23, 23, 10, 23, 23]),
        ulp_step=jnp.array([-1, -1, -1, -1, 0, 8]),
        ulp_number=jnp.arange(6, dtype=jnp.uint32),
    )
    found = run(6, perturb=perturb, seeds_at_once=6)
    first = found.dataset.first_apart.values
    weights = flat(found.params)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.isnan(first[:2]).all()
    assert (found.dataset.distance.values[:2] == 0).all()
    assert first[3, 0] == first[4, 0] == 1
    assert np.isnan(first[5, :2]).all()
    assert first[5, 2] == 9  # the step after the change
    assert 0 < np.nanmin(first[2]) <= 4  # another order of sums, within the first few steps
    distance = np.linalg.norm(weights - weights[0], axis=1)
    np.testing.assert_allclose(found.dataset.distance[:, -1], distance, rtol=1e-4, atol=1e-9)
    relative = distance / np.linalg.norm(weights[0])
    np.testing.assert_allclose(found.dataset.relative_distance[:, -1], relative, 1e-4, 1e-9)
    # All of it is rounding: none has gone far in so few steps.
    assert relative[2] < 1e-5 > relative[4]
    assert 1e-6 < relative[3] < 1e-2


@pytest.mark.slow
def test_churn_over_time_is_the_share_of_test_examples_taken_for_another_class():
    found = run(3, same_streams(3, ("init",)))
    test = make_data(None).test
    params = [jax.tree.map(lambda leaf, i=i: leaf[i], found.params) for i in range(3)]
    taken = np.stack([np.argmax(logits(p, test[0]), -1) for p in params])
    np.testing.assert_allclose(
        found.dataset.churn[:, -1], (taken != taken[0]).mean(axis=1), rtol=1e-6
    )
    assert found.dataset.churn.values[1:].max() > 0


def test_a_changed_order_moves_the_examples_of_a_batch_with_what_was_drawn_for_them():
    """Step by step in NumPy's order: same batches, same jitter, only rows in another order."""
    perturb = Perturbations(accumulation=jnp.array([0, 5], jnp.uint32))
    found = run(2, perturb=perturb, seeds_at_once=2)
    weights = flat(found.params)
    assert 0 < np.abs(weights[0] - weights[1]).max() < 1e-5
    one = jax.tree.map(lambda leaf: leaf[1], perturb)
    places = jax.jit(positions, static_argnums=2)
    place = np.asarray(places(one, jnp.arange(STEPS), BATCH))
    assert (np.sort(place, axis=1) == np.arange(BATCH)).all()
    assert len({tuple(row) for row in place}) > STEPS // 2  # another order at every step
    as_drawn = places(Perturbations(accumulation=jnp.uint32(0)), jnp.arange(STEPS), BATCH)
    assert (as_drawn == jnp.arange(BATCH)).all()
    # A task that draws by place and does not follow gets other noise, not another order of sums.

    def careless(params, batch, noise):
        x = batch[0] + 0.1 * jax.random.normal(noise.augment, batch[0].shape)
        return score_of(logits(params, x), batch[1])

    by_place = TASK._replace(train_score=careless)
    other = flat(run(2, perturb=perturb, task=by_place, seeds_at_once=2).params)
    assert np.abs(other[0] - other[1]).max() > 1e-3


def test_an_ulp_moves_one_entry_of_a_matrix_to_its_neighbour():
    params, move = jax.jit(init)(jax.random.key(3)), jax.jit(move_by_ulp)
    moved_at = set()
    for number in range(40):
        perturb = Perturbations(ulp_step=jnp.int32(2), ulp_number=jnp.uint32(number))
        moved = move(params, perturb, jnp.int32(2))
        changed = {name: np.flatnonzero(np.asarray(moved[name]) != params[name]) for name in params}
        ((name, (place,)),) = [(n, at) for n, at in changed.items() if len(at)]
        before, after = (np.asarray(tree[name]).ravel()[place] for tree in (params, moved))
        assert after == np.nextafter(before, np.copysign(np.float32(np.inf), before))
        moved_at.add((name, int(place)))
        still = move(params, perturb, jnp.int32(1))
        jax.tree.map(np.testing.assert_array_equal, params, still)
    assert {name for name, _ in moved_at} == {"first", "second"}
    assert len(moved_at) > 20


def test_replicas_share_their_keys_until_they_fork():
    own, base = make_streams([7], ("order",)), make_streams([0])
    own, base = (jax.tree.map(lambda key: key[0], keys) for keys in (own, base))
    perturb = Perturbations(fork=Fork(jnp.int32(8), base))

    rows_of = jax.jit(lambda keys, step: batch_rows(keys.order, step, EVERY, 34, BATCH))
    keys_now = jax.jit(lambda step: keys_at(own, perturb, step))
    for step, keys in ((0, base), (4, base), (8, own), (12, own)):
        at = jnp.int32(step)
        np.testing.assert_array_equal(rows_of(keys_now(at), at), rows_of(keys, at))
    streams = make_streams([0, 7, 7], ("order",))
    common = make_streams([0, 0, 0], ("order",))
    fork = Perturbations(fork=Fork(jnp.array([0, 8, 0]), common))
    found = run(3, streams, fork, seeds_at_once=3)
    first = np.nanmin(found.dataset.first_apart.values[1:], axis=1)
    np.testing.assert_array_equal(first, [9, 1])


def test_digests_tell_what_sums_of_bits_do_not():
    one = jnp.array([1.0, 1.0, 2.0])
    up, down = (jnp.nextafter(jnp.float32(1), jnp.float32(to)) for to in (2, 0))
    for other in (jnp.stack([up, down, 2.0]), jnp.array([1.0, 2.0, 1.0]), one.at[0].set(up)):
        assert digest({"w": one}) != digest({"w": other})
    assert digest({"a": one, "b": one.at[0].set(up)}) != digest({"a": one.at[0].set(up), "b": one})
    assert digest({"w": one}) == digest({"w": jnp.array(one)})
    assert digest({"w": one.astype(jnp.bfloat16)}) != digest({"w": (2 * one).astype(jnp.bfloat16)})


def test_a_run_cut_short_goes_on_to_the_bit_with_its_perturbations(tmp_path):
    perturb = Perturbations(
        accumulation=jnp.array([0, 4], jnp.uint32), mantissa_bits=jnp.array([23, 7])
    )
    whole = run(2, perturb=perturb, seeds_at_once=2)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step >= 8:
            raise Stop

    saving = Saving(tmp_path / "t", save_seconds=0.0)
    options = dict(perturb=perturb, seeds_at_once=2)
    with pytest.raises(Stop):
        run(2, saving=saving, on_progress=stop, **options)
    again = run(2, saving=replace(saving, resume=True), **options)
    np.testing.assert_array_equal(flat(again.params), flat(whole.params))
    np.testing.assert_array_equal(again.dataset.first_apart, whole.dataset.first_apart)


def test_data_are_the_same_at_every_precision():
    def turned(key):
        data = make_data(key)
        turn = jax.random.normal(jax.random.key(2), (6, 6))
        return jax.tree.map(lambda x: x @ turn if x.ndim == 2 else x, data)

    def total(batch):
        return {"total": jnp.sum(jnp.abs(batch[0]))}

    found = train(
        TASK._replace(make_data=turned),
        optax.sgd(0.1),
        range(2),
        batch_size=34,
        steps=1,
        record_every=1,
        metrics=total,
        replicas=Replicas(
            streams=same_streams(2),
            perturb=Perturbations(mantissa_bits=jnp.array([23, 7])),
            compare=True,
        ),
        seeds_at_once=2,
    )
    first, other = found.dataset.total.values[:, 0]
    assert first == other
    assert found.dataset.distance.values[1, 0] > 1e-5  # training is at its precision all the same


@pytest.mark.parametrize("seeds_at_once", [6, 2])
def test_each_replica_is_compared_with_the_first_of_its_family(seeds_at_once):
    """Groups of 2 straddle the families of 3, whose firsts are replicas 0 and 3."""
    streams = same_streams(6, ("init",), [0, 1, 0, 7, 2, 7])

    def distances(families):
        found = train(
            TASK,
            optax.adam(0.03),
            range(6),
            batch_size=BATCH,
            steps=EVERY,
            record_every=EVERY,
            metrics=lambda params: {"top": jnp.abs(params["first"]).max()},
            replicas=Replicas(streams=streams, compare=True, families=families),
            seeds_at_once=seeds_at_once,
        )
        return found.dataset, flat(found.params)

    records, weights = distances(2)
    expected = np.linalg.norm(weights - weights[[0, 0, 0, 3, 3, 3]], axis=1)
    np.testing.assert_allclose(records.distance[:, 0], expected, rtol=1e-4, atol=1e-9)
    assert np.isnan(records.first_apart.values[[0, 2, 3, 5], 0]).all()
    assert (records.first_apart.values[[1, 4], 0] == 1).all()
    alone, _ = distances(1)
    assert alone.distance.values[3, 0] > 0
    with pytest.raises(ValueError, match="families is 4; it must divide the number of replicas, 6"):
        distances(4)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="streams are of 2 replicas, for 3 seeds"):
        run(3, same_streams(2))
    with pytest.raises(ValueError, match="compare needs replicas that train equally long"):
        run(2, threshold=0.5, early_stop="each", seeds_at_once=2)


@pytest.mark.parametrize("first_explodes", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_diverged_replica_has_no_distance(first_explodes):
    begins = [float(jax.jit(init)(key)["first"][0, 0]) for key in make_streams(range(6)).init]
    assert begins[0] < 0 < max(begins)

    def explode(params, batch, noise):
        loss, correct = train_score(params, batch, noise)
        entry = params["first"][0, 0]
        explodes = entry < begins[0] + 0.01 if first_explodes else entry > 0
        return loss * jnp.where(explodes, jnp.nan, 1.0), correct

    found = run(6, same_streams(6, ("init",)), task=TASK._replace(train_score=explode))
    exploded = found.diverged >= 0
    assert exploded[0] == first_explodes
    assert 0 < exploded.sum() < 6
    distance = found.dataset.distance.values
    if first_explodes:  # there is nothing to be compared with
        assert np.isnan(distance).all()
    else:
        assert np.isnan(distance[exploded]).all()
        assert np.isfinite(distance[~exploded]).all()
