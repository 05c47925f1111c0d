"""A whole plan, of a small task, for this machine's CPU and for chips that are made up."""

import os
from dataclasses import replace
from types import MappingProxyType

import jax
import jax.numpy as jnp
import optax
import pytest

import seedmap as sm
from helpers.schemas import assert_of_schema
from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.plan import compiling, own_task, planning
from seedmap.experiments.plan.chips import CHIPS
from seedmap.experiments.plan.compiling import DoesNotFitError, _needed, compile_program
from seedmap.experiments.plan.planning import make_plan
from seedmap.experiments.plan.programs import (
    Job,
    count_metrics,
    fit_programs,
    training_programs,
)
from seedmap.experiments.plan.summary import gib, summary_text
from seedmap.experiments.plan.targets import Target
from seedmap.experiments.tasks.base import FitConfig
from seedmap.results import from_json, to_json
from seedmap.trainer import Data, Replicas, Task
from seedmap.trainer.group_size import USABLE
from seedmap.trainer.recipe import make_recipe

BATCH, EVERY, WIDTH, SEEDS = 8, 4, 16, 6
OF_MAP = ("EM start", "EM", "given states", "decoding")
SEARCHED = tuple(f"{name}, 10 states" for name in ("EM start", "EM", "decoding"))


def line_task():
    x = jnp.linspace(-1, 1, 16 * WIDTH).reshape(16, WIDTH)

    def score(params, batch):
        loss = jnp.square(batch @ params["Dense_0"]["kernel"]).sum(-1)
        return loss, jnp.zeros_like(loss)

    return Task(
        init=lambda key: {"Dense_0": {"kernel": jax.random.normal(key, (WIDTH, WIDTH))}},
        make_data=lambda key, pool: Data(pool, pool[:4]),
        score=score,
        num_train=16,
        pool=x,
    )


def norm(params):
    return {"norm": jnp.linalg.norm(params["Dense_0"]["kernel"])}


def job(seeds=SEEDS):
    recipe = make_recipe(line_task(), optax.sgd(0.1), BATCH, EVERY, norm)
    return Job(recipe, seeds, steps=3 * EVERY)


def made_up(memory):
    """A chip of one FLOP and a byte a second, compiled for as this machine's CPU."""
    peaks = MappingProxyType({"float32": 1.0})
    chip = replace(CHIPS["gpu:h100"], memory=memory, bandwidth=1.0, peaks=peaks, card=None)
    return Target("gpu:made-up", chip)


@pytest.fixture(scope="module")
def plan():
    return make_plan(job(), Target("cpu", CHIPS["cpu"]), experiment="line")


def test_a_plan_of_the_cpu_has_every_field(plan, tmp_path):
    files.write_json(tmp_path / "plan.json", to_json(plan))
    assert_of_schema(tmp_path / "plan.json")
    assert from_json(type(plan), to_json(plan)) == plan
    assert set(plan.units) <= set(to_json(plan))
    assert (plan.steps, plan.records) == (12, 3)
    assert plan.memory.data == 16 * WIDTH * 4
    assert plan.memory.state >= plan.memory.seeds * WIDTH * WIDTH * 4
    assert set(plan.compile_seconds) == {"start", "training"}
    assert not plan.collectives + plan.callbacks
    assert plan.bound_seconds.run is None
    assert "not run on it" in summary_text(plan)
    assert "at least" not in summary_text(plan)  # a rule decides, nothing is searched


def test_operations_are_those_of_the_step_and_of_the_run(plan):
    group = plan.memory.seeds
    product = 2 * BATCH * WIDTH * WIDTH * group
    assert 2 * product <= plan.operations.step <= 4 * product  # forward, the weights' gradient
    calls = plan.most_seeds.groups * plan.records
    a_call = EVERY * plan.operations.step + plan.operations.record
    assert plan.operations.run == pytest.approx(calls * a_call)
    a_call = EVERY * plan.bytes.step + plan.bytes.record
    assert plan.bytes.run == pytest.approx(calls * a_call)


@pytest.fixture
def on_this_cpu(monkeypatch):
    """Made-up chips are compiled for as this CPU; of determinism nothing is asked."""
    monkeypatch.setattr(planning, "devices_of", lambda target: tuple(jax.devices("cpu")[:1]))
    monkeypatch.setattr(planning, "_determinism", lambda compiled, compiler: [])


def chip_for(seeds, waiting):
    """A made-up chip that just has the memory for some seeds while others wait."""
    one = training_programs(job(1), jax.devices("cpu")[:1], seeds).training
    compiled = compile_program(one, "cpu")
    memory = compiled.memory(seeds)
    needed = memory.total + waiting * memory.state / seeds
    return made_up(int(needed / (USABLE * CHIPS["gpu:h100"].share)) + 2)


def test_others_wait_on_the_device_and_take_turns(on_this_cpu):
    """Of 20 seeds 10 may fit alone, but not beside the states of the 10 that wait, as 5 do."""
    plan = make_plan(job(20), chip_for(5, waiting=15))
    most = plan.most_seeds
    assert 5 < most.per_device < 20
    assert not most.at_once
    assert (most.groups, plan.memory.seeds) == (4, 5)
    assert plan.memory.other_groups == 3 * plan.memory.state
    assert max(t.bytes for t in most.tried if t.fits) <= plan.hardware.usable
    assert plan.memory.total <= plan.hardware.usable
    assert "20 seeds do not fit at once" in " ".join(plan.notes)
    assert "several runs" not in " ".join(plan.notes)


def test_states_that_do_not_fit_however_few_train_at_once_take_several_runs(on_this_cpu):
    plan = make_plan(job(64), chip_for(4, waiting=0))
    most = plan.most_seeds
    assert 4 <= most.per_device < 8
    assert (most.runs, most.groups) == (-(-64 // most.per_device), 1)
    assert plan.memory.seeds == -(-64 // most.runs) <= most.per_device
    assert plan.memory.other_groups == 0
    assert plan.memory.total <= plan.hardware.usable
    assert f"train them in {most.runs} runs" in " ".join(plan.notes)
    assert f"in {most.runs} runs one after the other" in summary_text(plan)
    a_call = EVERY * plan.bytes.step + plan.bytes.record
    assert plan.bytes.run == pytest.approx(most.runs * plan.records * a_call)


def test_seeds_at_once_that_training_would_refuse_are_a_note(on_this_cpu):
    plan = make_plan(replace(job(64), seeds_at_once=32), chip_for(4, waiting=0))
    (note,) = [note for note in plan.notes if "seeds_at_once" in note]
    assert f"of which {plan.most_seeds.per_device} fit a device" in note


def test_a_search_that_ends_at_its_limit_is_a_note(on_this_cpu, monkeypatch):
    monkeypatch.setattr("seedmap.experiments.plan.search.MOST_TRIES", 2)
    plan = make_plan(job(20), chip_for(12, waiting=0))
    assert [t.seeds for t in plan.most_seeds.tried] == [20, 5]
    (note,) = [note for note in plan.notes if "the search ended" in note]
    assert note.startswith("at least 5, fewer than 20 seeds fit a device: ")
    assert "after 2 compilations the search ended (at most 12, or 5 minutes)" in note
    assert "at least 5, fewer than 20 a device, at least 5 in all" in summary_text(plan)


def test_bytes_are_shown_in_binary_units():
    sizes = (0, 512, 488 * 2**10, 1003 * 2**20, 1.5 * 2**30, 1e13)
    texts = ["0 KiB", "0.5 KiB", "488 KiB", "1003 MiB", "1.5 GiB", "9313 GiB"]
    assert [gib(size) for size in sizes] == texts


def test_without_a_search_only_what_is_asked_for_is_compiled(on_this_cpu):
    plan = make_plan(job(20), chip_for(64, waiting=0), search=False)
    assert [t.seeds for t in plan.most_seeds.tried] == [20]
    assert any(note == "at least 20 seeds fit a device: more were not tried" for note in plan.notes)
    assert make_plan(job(20), chip_for(12, waiting=0), search=False).most_seeds.per_device >= 5


def test_the_bound_is_by_the_peak_that_binds(on_this_cpu):
    plan = make_plan(job(), made_up(2**30))
    bound = plan.bound_seconds
    assert bound.memory == plan.bytes.run
    assert bound.products <= plan.operations.run
    assert bound.run == max(bound.memory, bound.products) == bound.memory
    assert bound.binds == "memory"


def test_what_is_too_large_for_one_seed_says_by_how_much(on_this_cpu):
    with pytest.raises(UserError, match=r"1 seed on a device does not fit: it needs .* too much"):
        make_plan(job(), made_up(1000))


def test_a_compilers_own_refusal_says_what_is_needed(on_this_cpu, monkeypatch):
    words = "RESOURCE_EXHAUSTED: Ran out of memory. Used 20.50G of 15.75G hbm. Exceeded by 4.75G."
    assert _needed(words) == int(20.5 * 2**30)
    other = "the total memory required for HLO temporaries (18.49G) exceeds available HBM (15.75G)."
    assert _needed(other) == int(18.49 * 2**30)
    assert _needed("RESOURCE_EXHAUSTED: no") is None

    def refuse(program, platform):
        raise DoesNotFitError(_needed(words))

    monkeypatch.setattr(planning, "compile_program", refuse)
    with pytest.raises(UserError, match=r"needs 20.5 GiB"):
        make_plan(job(), made_up(2**30))


def test_ones_own_task_is_planned_as_it_is_trained():
    before = dict(os.environ)
    sizes = {"batch_size": BATCH, "steps": 3 * EVERY, "record_every": EVERY}
    replicas = Replicas(hyperparameters={"rate": [0.1] * SEEDS})
    told = []
    made = sm.plan(
        line_task(),
        lambda own: optax.sgd(own["rate"]),
        range(SEEDS),
        on="cpu",
        replicas=replicas,
        metrics=norm,
        fit=FitConfig(states="1-2"),
        on_program=told.append,
        **sizes,
    )
    assert (made.experiment, made.steps, made.most_seeds.asked) == (None, 12, SEEDS)
    of_map = [*(f"{name}, 4 states" for name in OF_MAP), *SEARCHED, "filter, 2 states"]
    assert [program.name for program in made.programs] == ["training", "start", *of_map]
    assert told == [f"training, {made.memory.seeds} seeds a device", *of_map, "start"]
    assert dict(os.environ) == before
    told.clear()
    wrong = {"fit": FitConfig("x"), "on_program": told.append}
    with pytest.raises(UserError, match="--states 'x'"):
        sm.plan(line_task(), optax.sgd(0.1), range(3), on="cpu", **wrong, **sizes)
    assert not told  # nothing is compiled in vain
    with pytest.raises(UserError, match="steps is 5"):
        sm.plan(line_task(), optax.sgd(0.1), range(3), on="cpu", **(sizes | {"steps": 5}))
    with pytest.raises(UserError, match="nothing reads rate"):  # as `train` says
        sm.plan(line_task(), optax.sgd(0.1), range(SEEDS), on="cpu", replicas=replicas, **sizes)
    with pytest.raises(UserError, match="no chip 'h100'"):
        sm.plan(line_task(), optax.sgd(0.1), range(3), on="h100", **sizes)


@pytest.mark.parametrize("is_refused", [False, True])
def test_operations_without_and_with_determinism_are_those_of_the_traced_program(
    is_refused, monkeypatch
):
    """Flags of GPUs alone, which this CPU's compiler takes and which change nothing."""
    program = training_programs(job(), jax.devices("cpu")[:1], 1).training
    plain, asked = compile_program(program, "cpu"), []

    def compile_or_refuse(program, platform, options):
        asked.append(options)
        if is_refused:
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: scatter")
        return compile_program(program, platform, options)

    monkeypatch.setattr(compiling, "compile_program", compile_or_refuse)
    found = compiling.determinism_of(plain, "cpu")
    assert asked == [compiling.DETERMINISTIC]
    assert found.refused == ("UNIMPLEMENTED: scatter" if is_refused else None)
    assert found.operations == plain.operations.total > 0
    assert found.bytes == [plain.text.cost.bytes] * (1 if is_refused else 2)
    assert not found.changed


def test_the_map_sees_the_metrics_that_are_recorded():
    """Those of the paper where there are any: `norm` beside `l2` is not seen."""
    cpu = jax.devices("cpu")[:1]

    def counted(metrics, *named):
        recipe = make_recipe(line_task(), optax.sgd(0.1), BATCH, EVERY, metrics)
        return count_metrics(
            training_programs(Job(recipe, 2, EVERY), cpu, 1).training, FitConfig(metrics=named)
        )

    def l2(params):
        return {"l2": norm(params)["norm"], "l1": 0.0}

    assert counted([norm]) == 1
    assert counted([norm, l2]) == 2
    assert counted([norm, l2], "norm", "l2", "eval_loss") == 3
    few, many = (fit_programs(12, 9, count, FitConfig(states="1-2"), *cpu) for count in (1, 5))
    sizes = [programs[0].arguments[0].first.shape[1] for programs in (few, many)]
    assert sizes == [21, 119]  # pairs of 2 and of 6 components
    assert [each.name for each in few if each.name.startswith("EM,")] == [
        "EM, 4 states",
        "EM, 10 states",
    ]
    assert fit_programs(12, 9, 0, FitConfig(), *cpu) == []
    held_out = FitConfig(states="1", validation_runs=tuple(map(str, range(100, 107))))
    assert len(fit_programs(12, 9, 1, held_out, *cpu)) == 5  # 5 fitted: no search for branches


def test_without_a_word_of_the_fit_its_defaults_are_planned(monkeypatch):
    """As the command does: 1 to 8 states."""
    asked = []
    monkeypatch.setattr(own_task, "make_plan", lambda job, target, fit, told: asked.append(fit))
    sm.plan(
        line_task(), optax.sgd(0.1), range(3), on="cpu", batch_size=BATCH, steps=4, record_every=4
    )
    assert asked == [FitConfig()]


def test_a_fit_that_does_not_fit_is_a_note_of_a_plan_that_stands(on_this_cpu, monkeypatch):
    """As the EM of 4096 runs on one chip."""
    large = replace(training_programs(job(), jax.devices("cpu")[:1], 1).start, name="EM, 8 states")

    def refuse(program, platform):
        if program.name == large.name:
            raise DoesNotFitError(2**34)
        return compile_program(program, platform)

    monkeypatch.setattr(planning, "fit_programs", lambda *_: [large])
    monkeypatch.setattr(planning, "compile_program", refuse)
    plan = make_plan(job(), made_up(2**30), fit=FitConfig())
    assert [program.name for program in plan.programs] == ["training", "start"]
    (note,) = [note for note in plan.notes if "EM, 8 states" in note]
    assert f"of {SEEDS} runs does not fit a device (it needs 16 GiB)" in note
