"""Studies of noise: what varies in which variant, what is found, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from helpers.noise_task import TASK, jittered, logits, make_data, score
from seedmap.experiments.noise import (
    churn,
    independent_error_variance,
    sd_interval,
    weight_distances,
)
from seedmap.experiments.noise.check_task import check_logits
from seedmap.experiments.noise.predictions import errors_between, predict_rows
from seedmap.experiments.noise.report.headlines import headlines, when_apart
from seedmap.experiments.noise.steps import parted_note
from seedmap.experiments.noise.study import NoiseConfig, run_study
from seedmap.experiments.noise.summary import summarise_study
from seedmap.experiments.noise.variants import (
    Variant,
    draws_by_place,
    make_rows,
    make_variants,
    parse_sources,
    rows_of,
    used_sources,
)
from seedmap.results import to_json
from seedmap.text import DASH
from seedmap.trainer import Variables, make_streams

SOURCES = ("init", "order", "augment", "dropout", "accumulation", "precision", "ulp")
EVERY, STEPS = 4, 12


@pytest.fixture(scope="module")
def study():
    is_left = np.asarray(make_data(None).test[0][:, 2] > 0)
    return run_study(
        TASK,
        optax.adam(0.03),
        batch_size=10,
        steps=STEPS,
        record_every=EVERY,
        noise=NoiseConfig(roots=1, replicas=3, fork_steps=(8,)),
        groups={"left": is_left, "right": ~is_left},
        metrics=lambda params: {"top": jnp.abs(params["first"]).max()},
        seeds_at_once=14,
    )


def test_variants_are_each_source_alone_and_the_sets_of_them():
    names = [v.name for v in make_variants(SOURCES, 10)]
    assert names == ["CONTROL", *SOURCES, "ALGO", "IMPL", "ALGO+IMPL"]
    varied = {v.name: v.varied for v in make_variants(SOURCES, 10)}
    assert varied["ALGO"] == SOURCES[:4]
    assert varied["IMPL"] == SOURCES[4:]
    assert {v.name: v.replicas for v in make_variants(SOURCES, 10)}["precision"] == 3
    # No set twice under two names.
    assert [v.name for v in make_variants(("init",), 4)] == ["CONTROL", "init"]
    assert [v.name for v in make_variants(("init", "ulp"), 4)][1:] == ["init", "ulp", "ALGO+IMPL"]
    assert make_variants((), 5) == [Variant("CONTROL", (), 5)]
    fork = make_variants(("init", "order", "ulp"), 4, (20,))[-1]
    assert fork == Variant("fork@20", ("order",), 4, 20)


def test_a_row_has_the_number_of_its_replica_where_its_variant_varies_and_0_elsewhere():
    variants = make_variants(SOURCES, 4)
    rows, places = make_rows(variants, ulp_step=8), rows_of(variants)
    own = make_streams(range(4))
    for variant in variants:
        for name in (*SOURCES[:4], "data"):
            keys = jax.random.key_data(getattr(rows.streams, name)[places[variant.name]])
            number = np.arange(variant.replicas) * (name in variant.varied)
            np.testing.assert_array_equal(keys, jax.random.key_data(getattr(own, name))[number])
        replica = np.arange(variant.replicas)
        took = jax.tree.map(lambda leaf, v=variant: leaf[places[v.name]], rows.perturb)
        varies = {name: name in variant.varied for name in SOURCES}
        np.testing.assert_array_equal(took.accumulation, replica * varies["accumulation"])
        bits = np.array([23, 10, 7, 23])[replica] if varies["precision"] else 23
        np.testing.assert_array_equal(took.mantissa_bits, np.broadcast_to(bits, len(replica)))
        moved = (replica > 0) & varies["ulp"]
        np.testing.assert_array_equal(took.ulp_step, np.where(moved, 8, -1))
    # What varies nowhere leaves no trace in the program.
    plain = make_rows(make_variants(("init",), 4)).perturb
    assert jax.tree.leaves(plain) == []


def test_sources_that_training_does_not_read_are_known_from_its_trace():
    assert used_sources(TASK, SOURCES) == tuple(name for name in SOURCES if name != "dropout")
    assert used_sources(TASK._replace(train_score=None), SOURCES) == (
        *("init", "order", "accumulation", "precision", "ulp"),
    )
    assert not draws_by_place(TASK)
    # A function under jit is handed all of the noise, whether it reads it or not.
    under_jit = TASK._replace(train_score=jax.jit(jittered))
    assert used_sources(under_jit, SOURCES) == used_sources(TASK, SOURCES)

    def careless(params, batch, noise):
        x = batch[0] * jax.random.bernoulli(noise.dropout, 0.9, batch[0].shape)
        return score(params, (x, batch[1]))

    assert draws_by_place(TASK._replace(train_score=careless))
    assert draws_by_place(TASK._replace(train_score=jax.jit(careless)))


def measures(study):
    """The content of the `noise.json` of a study."""
    return to_json(summarise_study(study))


def test_control_is_exactly_zero_and_every_source_does_something(study):
    found = measures(study)
    copies = 3 + len(study.variants) - 1  # those of CONTROL, and the first of every other variant
    assert found["control"] == {
        "exact": True,
        "first_apart": None,
        "diverged": None,
        "replicas": copies,
    }
    by_name = {v["name"]: v for v in found["variants"]}
    zero = {"value": 0.0, "low": 0.0, "high": 0.0}
    control = by_name["CONTROL"]
    assert control["churn"] == control["l2_distance"] == control["accuracy"]["sd"] == zero
    assert found["sources"] == [name for name in SOURCES if name != "dropout"]
    assert "dropout" in found["notes"][0]
    for name in found["sources"]:
        first = by_name[name]["parting"]["first_apart"]
        # `init` before the first step, the others at the latest some steps in.
        assert first == [1] * (by_name[name]["replicas"] - 1) or name in ("accumulation", "ulp")
        assert by_name[name]["l2_distance"]["value"] > 0
    assert by_name["fork@8"]["parting"]["first_apart"] == [9, 9]
    rows = rows_of(study.variants)["init"][1:]
    largest = np.median(study.dataset.churn.values[rows].max(axis=1))
    assert by_name["init"]["parting"]["largest_churn"] == pytest.approx(largest)
    assert by_name["init"]["l2_distance"]["value"] > 0.1 > by_name["ulp"]["l2_distance"]["value"]


def test_found_numbers_are_those_of_the_replicas(study):
    found = measures(study)
    rows, predictions = rows_of(study.variants), study.predictions
    test = make_data(None).test
    for variant in found["variants"]:
        own = rows[variant["name"]]
        params = [jax.tree.map(lambda leaf, r=r: leaf[r], study.params) for r in own]
        taken = np.stack([np.argmax(logits(p, test[0]), axis=-1) for p in params])
        accuracy = (taken == np.asarray(test[1])).mean(axis=1)
        np.testing.assert_allclose(variant["accuracy"]["values"], accuracy, rtol=1e-6)
        np.testing.assert_allclose(
            variant["accuracy"]["sd"]["value"], accuracy.std(ddof=1), atol=1e-12
        )
        pairs = np.triu_indices(len(own), 1)
        np.testing.assert_allclose(variant["churn"]["value"], churn(taken)[pairs].mean())
        tree = jax.tree.map(lambda leaf, own=own: leaf[own], study.params)
        l2 = weight_distances(tree).l2_RxR[pairs].mean()
        np.testing.assert_allclose(variant["l2_distance"]["value"], l2)
        expected = independent_error_variance(predictions.correct[own])
        assert variant["test_set_variance"] == expected
        left = next(g for g in variant["groups"] if g["group"] == "left")
        members = predictions.groups["left"]
        right = (taken == np.asarray(test[1]))[:, members]
        np.testing.assert_allclose(left["accuracy"]["mean"], right.mean(), rtol=1e-6)
        if left["accuracy"]["ratio"] is not None:
            bounds = left["accuracy"]["interval"]
            np.testing.assert_allclose(bounds["value"], left["accuracy"]["ratio"])
            assert bounds["low"] <= bounds["value"] <= bounds["high"]
    by_name = {v["name"]: v for v in found["variants"]}
    assert found["whole"] == "ALGO+IMPL"
    share = by_name["init"]["share_of_churn"]["value"]
    whole = by_name["ALGO+IMPL"]["churn"]["value"]
    np.testing.assert_allclose(share, by_name["init"]["churn"]["value"] / whole)
    assert by_name["ALGO+IMPL"]["share_of_churn"] is None


def test_barriers_are_of_the_networks_between_two_replicas(study):
    rows = rows_of(study.variants)["init"]
    first, second = (jax.tree.map(lambda leaf, r=r: leaf[r], study.params) for r in rows[:2])
    test = make_data(None).test
    errors = []
    for a in np.linspace(0, 1, 11):
        between = jax.tree.map(lambda x, y, a=a: (1 - a) * x + a * y, first, second)
        errors.append(1 - np.mean(score(between, test)[1]))
    found = study.barriers[[v.name for v in study.variants].index("init"), 0]
    np.testing.assert_allclose(found, errors, atol=1e-6)
    control = study.barriers[0]
    assert np.isnan(control).all()
    variant = next(v for v in measures(study)["variants"] if v["name"] == "init")
    np.testing.assert_allclose(
        variant["barrier"]["values"], [max(errors) - (errors[0] + errors[-1]) / 2], atol=1e-6
    )


def test_a_control_that_parts_is_the_finding(study):
    first = study.dataset.first_apart.copy()
    first[2, 1] = 7.0
    broken = summarise_study(study._replace(dataset=study.dataset.assign(first_apart=first)))
    assert not broken.control.exact
    assert broken.control.first_apart == 7
    assert "first after step 7" in parted_note(broken.control)
    assert parted_note(summarise_study(study).control) is None
    moved = jax.tree.map(np.array, study.params)
    moved["first"][1, 0, 0] = np.nextafter(moved["first"][1, 0, 0], 9, dtype=np.float32)
    assert not measures(study._replace(params=moved))["control"]["exact"]
    # So is a replica 0 that is not that of CONTROL.
    other = jax.tree.map(np.array, study.params)
    row = rows_of(study.variants)["ulp"][0]
    other["second"][row, 0, 0] = np.nextafter(other["second"][row, 0, 0], 9, dtype=np.float32)
    assert not measures(study._replace(params=other))["control"]["exact"]


def test_replicas_that_diverge_before_anything_is_seen_of_them_are_not_said_to_be_one(study):
    def at(step, rows):
        diverged = study.diverged.copy()
        diverged[rows] = step
        first = study.dataset.first_apart.where(study.dataset.step < step)
        found = study._replace(diverged=diverged, dataset=study.dataset.assign(first_apart=first))
        return summarise_study(found)

    everything = slice(None)
    begun = at(1, everything)
    assert begun.control.exact is None
    assert headlines(begun)[0].startswith("CONTROL shows nothing: its replicas had ")
    assert parted_note(begun.control) is None
    assert {when_apart(variant) for variant in begun.variants} == {DASH}
    later = at(int(study.dataset.step[-1]), everything)
    assert later.control.exact
    assert "until its replicas diverge" in headlines(later)[0]
    assert {when_apart(v) for v in later.variants[1:]} >= {"1"}
    churn = study.dataset.churn.copy()
    rows = rows_of(study.variants)["init"]
    churn[rows[1], 0] = 1.0
    gone = study._replace(
        diverged=np.where(np.arange(len(study.diverged)) == rows[1], 9, -1),
        dataset=study.dataset.assign(churn=churn),
    )
    (variant,) = [v for v in measures(gone)["variants"] if v["name"] == "init"]
    assert variant["used"] == 2
    assert variant["parting"]["largest_churn"] == churn[rows[2]].max()  # of those that are used


def test_growth_counts_steps_from_the_weight_that_is_moved(study):
    steps = 4 * np.arange(1, 41)
    since = np.maximum(steps - 40, 0)
    distance = np.broadcast_to(1e-6 * since**2.0, (len(study.diverged), len(steps)))
    first = np.where(steps == 44, 41.0, np.nan) * np.ones((len(study.diverged), 1))
    records = {"distance": distance, "first_apart": first}
    dataset = xr.Dataset(
        {name: (("seed", "step"), values) for name, values in records.items()},
        {"step": steps, "epoch": ("step", steps / 4)},
    )
    found = measures(study._replace(dataset=dataset, ulp_step=40))
    growth = {v["name"]: v["parting"]["growth"] for v in found["variants"]}
    assert growth["ulp"]["better"] == "power"
    np.testing.assert_allclose(growth["ulp"]["power"], 2.0)
    assert growth["init"]["power"] > 3  # counted from the beginning of training


def test_modes_of_precision_are_all_there_are_and_have_no_interval(study):
    by_name = {v["name"]: v for v in measures(study)["variants"]}
    alone = by_name["precision"]
    assert alone["churn"]["low"] is alone["accuracy"]["sd"]["high"] is None
    assert alone["share_of_l2"]["value"] > 0
    assert alone["share_of_l2"]["low"] is alone["classes"][0]["interval"]["low"] is None
    assert by_name["IMPL"]["l2_distance"]["low"] is not None
    assert alone["accuracy"]["sd_error"] is None
    assert by_name["init"]["accuracy"]["sd_error"] > 0
    sd = by_name["init"]["accuracy"]["sd"]
    assert sd_interval(np.array(by_name["init"]["accuracy"]["values"])).high > 0.5
    assert sd["high"] == 0.5  # shares do not spread further


@pytest.mark.parametrize("function", ["predict_rows", "errors_between"])
def test_what_is_measured_at_the_end_has_products_in_float32(study, function):
    """Where devices have others by default, as GPUs do."""
    seen = set()

    def watched(measure):
        def called(params, batch):
            seen.add(jax.config.jax_default_matmul_precision)
            return measure(params, batch)

        return called

    task = TASK._replace(score=watched(score), classify=watched(TASK.classify))
    model = jax.tree.map(lambda leaf: leaf[:2], Variables(study.params, ()))
    with jax.default_matmul_precision("bfloat16"):
        if function == "predict_rows":
            predict_rows(task, model, {})
        else:
            errors_between(task, model, model, 3)
    assert seen == {"highest"}


def test_diverged_replicas_have_no_part_in_the_measures(study):
    diverged = study.diverged.copy()
    init_rows, order_rows = (rows_of(study.variants)[name] for name in ("init", "order"))
    diverged[init_rows[1]] = 8
    diverged[order_rows[:2]] = 4
    by_name = {v["name"]: v for v in measures(study._replace(diverged=diverged))["variants"]}
    init, order = by_name["init"], by_name["order"]
    assert (init["used"], init["num_diverged"], init["diverged"]) == (2, 1, {"1": 8})
    kept = study.predictions.correct[init_rows[[0, 2]]].mean(axis=1)
    np.testing.assert_allclose(init["accuracy"]["values"], kept)
    assert order["used"] == 1
    assert order["accuracy"] is order["churn"] is order["share_of_variance"] is None


def test_a_task_without_classes_has_losses_and_weights_only():
    found = measures(
        run_study(
            TASK._replace(classify=None, train_score=None),
            optax.sgd(0.1),
            batch_size=17,
            steps=4,
            record_every=2,
            noise=NoiseConfig("init", roots=1, replicas=2),
            metrics=(),
            seeds_at_once=4,
        )
    )
    init = found["variants"][1]
    assert init["churn"] is init["classes"] is init["logit_correlation"] is None
    assert init["l2_distance"]["value"] > 0
    assert any("names no classes" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (NoiseConfig("init,kernels"), "--sources: 'kernels' is unknown; choose from init,order"),
        (NoiseConfig("init,init"), "init stands twice"),
        (NoiseConfig("init", replicas=1), "--replicas is 1; a spread needs at least 2"),
        (NoiseConfig("ulp", ulp_step=3), "--ulp-step 3: it must be a multiple of 4"),
        (NoiseConfig("order", fork_steps=(12,)), "--fork-steps 12: .* below 12"),
        (NoiseConfig("order", fork_steps=(4, 4)), "--fork-steps: 4 stands twice"),
        (NoiseConfig("order", fork_steps=4), "--fork-steps is 4; give a sequence"),
        (NoiseConfig("order", fork_steps=(4.0,)), r"--fork-steps is 4\.0; it must be a whole"),
        (NoiseConfig("ulp", ulp_step=4.0), r"--ulp-step is 4\.0; it must be a whole"),
        (NoiseConfig("init", fork_steps=(4,)), "--fork-steps: nothing would differ"),
    ],
)
def test_settings_that_make_no_study_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        run_study(TASK, optax.sgd(0.1), batch_size=10, steps=12, record_every=4, noise=settings)


def test_none_is_no_source():
    assert parse_sources("none") == ()
    assert parse_sources("ulp, init") == ("init", "ulp")


def study_of(task=TASK, groups=None, **changes):
    settings = {"batch_size": 10, "steps": STEPS, "record_every": EVERY} | changes
    return run_study(task, optax.sgd(0.1), groups=groups, **settings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"record_every": 0}, "record_every is 0"),
        ({"steps": 0}, "steps is 0; it must be a positive multiple"),
        ({"root": -1}, "root is -1; it must be a whole number in 0"),
        ({"root": 2**32}, "root is 4294967296"),
        ({"noise": NoiseConfig(["init"])}, r"--sources is \['init'\]; give text"),
        ({"noise": NoiseConfig(replicas=2.5)}, "--replicas is 2.5; it must be a whole number"),
        ({"groups": {"a": np.ones(7, bool)}}, r"groups: 'a' is bool of shape \(7,\)"),
        ({"groups": {"a": np.arange(26)}}, "groups: 'a' is int64 .* must be bool"),
        ({"groups": {"a": np.full(26, np.nan)}}, "groups: 'a' is float64"),
        ({"groups": {"a": [[True], [True, False]]}}, "groups: 'a' is no array"),
        ({"groups": [np.ones(26, bool)]}, "groups must be a mapping"),
    ],
)
def test_settings_and_groups_of_ones_own_are_refused_in_one_line(changes, says):
    with pytest.raises(ValueError, match=says):
        study_of(**changes)


@pytest.mark.parametrize(
    ("classify", "says"),
    [
        (lambda out, y: out, r"must give two arrays, \(logits, label\)"),
        (lambda out, y: (out[:, 0], y), r"float32 logits of shape \(26,\) for 26 examples"),
        (lambda out, y: (out[:, :1], y), r"logits of shape \(26, 1\)"),
        (lambda out, y: (out.astype(int), y), "int32 logits"),
        (lambda out, y: (out, y[:, None]), r"int32 labels of shape \(26, 1\) for 26 examples"),
        (lambda out, y: (out, y.astype(float)), "float32 labels"),
        (lambda out, y: (out, 2 * y), "gives the label 2; with 2 logits labels must lie in 0"),
        (lambda out, y: (out, 2 * y - 1), "gives the label -1"),
    ],
)
def test_what_classify_gives_is_checked_before_training(classify, says):
    task = TASK._replace(classify=lambda p, b: classify(logits(p, b[0]), b[1]))
    with pytest.raises(ValueError, match=says):
        study_of(task)


def test_logits_that_are_not_numbers_are_refused_but_of_replicas_that_diverged():
    made = np.zeros((2, 5, 2))
    made[1, 3, 0] = np.nan
    check_logits(made, np.array([-1, 4]))
    check_logits(None, np.array([-1, -1]))
    with pytest.raises(ValueError, match=r"not finite \(replica 1\)"):
        check_logits(made, np.array([-1, -1]))


def test_groups_without_two_classes_are_left_out_in_so_many_words(study):
    assert not any("subgroups" in note for note in measures(study)["notes"])
    plain = study.predictions._replace(logits=None, label=None)
    found = measures(study._replace(predictions=plain))
    assert "subgroups are left out" in found["notes"][-1]
    assert all(variant["groups"] is None for variant in found["variants"])


def test_one_test_example_is_too_few():
    def of_one(key):
        data = make_data(key)
        return data._replace(test=jax.tree.map(lambda leaf: leaf[:1], data.test))

    with pytest.raises(ValueError, match="at least 2 test examples; there are 1"):
        study_of(TASK._replace(make_data=of_one))
