"""Studies compared replica by replica: made-up folders, with answers known beforehand."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from helpers.command import seedmap
from helpers.schemas import assert_of_schema
from helpers.studies import EXAMPLES, REPLICAS, content, numbers, write
from seedmap import files
from seedmap.experiments.noise.compare import compare_studies
from seedmap.experiments.noise.difference import difference, take_replica
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.report.compare import HEADER, cells, terminal
from seedmap.experiments.noise.variants import make_variants
from seedmap.experiments.runs import folder as run_folder
from seedmap.results import to_json


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("studies") / "plain", numbers(), content())


def compared(folders):
    """The content of the `noise_compare.json` of the folders."""
    return to_json(compare_studies(folders))


def row(found, variant):
    return next(pair for pair in found["pairs"] if pair["variant"] == variant)


def test_runs_that_are_equal_are_exactly_zero_apart(plain, tmp_path):
    found = compared([plain, write(tmp_path / "again", numbers(), content())])
    for pair in found["pairs"]:
        assert pair["equal"] == pair["replicas"] == pair["used"] == REPLICAS
        assert pair["first_apart"] == [None] * REPLICAS
        end = None if pair["variant"] == "CONTROL" else 0.0  # copies of one replica are no sample
        for name in ("churn", "l2_distance", "angle", "accuracy_difference", "loss_difference"):
            assert pair[name] == {"value": 0.0, "low": end, "high": end}
        assert pair["logit_correlation"]["value"] == 1.0
    assert found["environment"] == {}
    assert found["notes"] == []


def test_the_table_has_a_heading_for_every_cell(plain, tmp_path):
    comparison = compare_studies([plain, write(tmp_path / "again", numbers(), content())])
    table = dict(zip(HEADER, cells(comparison.pairs[0]), strict=True))
    assert table["angle (rad)"] == "0"
    assert table["logit correlation"] == "1.000"
    lines = terminal(comparison).splitlines()
    assert [word.strip() for word in re.split("  +", lines[0].strip())] == list(HEADER)
    assert len(lines) >= 1 + len(comparison.pairs)


def test_one_bit_of_one_weight_is_found_and_measured(plain, tmp_path):
    made = numbers()
    kernel = made["params"]["dense"]["kernel"]
    before = kernel[4].copy()
    kernel[4, 2, 1] = np.nextafter(kernel[4, 2, 1], np.float32(np.inf))
    found = compared([plain, write(tmp_path / "moved", made, content())])
    assert row(found, "CONTROL")["equal"] == 3
    moved = row(found, "order")  # its replica 1
    assert moved["equal"] == 2
    assert moved["first_apart"] == [None] * 3  # in no record
    flat = np.append(before.ravel(), made["params"]["bias"][4]).astype(np.float64)
    after = np.append(kernel[4].ravel(), made["params"]["bias"][4]).astype(np.float64)
    apart = np.linalg.norm(flat / np.linalg.norm(flat) - after / np.linalg.norm(after))
    np.testing.assert_allclose(moved["l2_distance"]["value"], apart / 3, rtol=1e-6)
    np.testing.assert_allclose(moved["angle"]["value"], apart / 3, rtol=1e-6)
    assert moved["l2_distance"]["low"] == 0  # cut to what a distance can be


def test_zeros_of_two_signs_are_not_equal_to_the_bit(plain, tmp_path):
    folders = []
    for name, zero in (("plus", 0.0), ("minus", -0.0)):
        made = numbers()
        made["params"]["bias"][0, 0] = zero
        folders.append(write(tmp_path / name, made, content()))
    found = compared(folders)
    assert row(found, "CONTROL")["equal"] == 2
    assert row(found, "CONTROL")["l2_distance"]["value"] == 0


def test_the_first_record_that_differs_is_named(plain, tmp_path):
    made = numbers()
    made["train_loss"][0, 2:] += 1
    made["l2"][0, 1] += 1
    made["l2"][2, 3] = np.nan
    found = compared([plain, write(tmp_path / "other", made, content())])
    pair = row(found, "CONTROL")
    assert pair["first_apart"] == [20, None, 40]
    assert pair["record"] == ["l2", None, "l2"]
    assert (pair["equal"], pair["equal_but_for_records"]) == (3, 2)
    assert "weights may be equal" in found["notes"][0]


def test_replicas_that_part_beside_others_that_are_equal_are_not_taken_for_them(plain, tmp_path):
    made = numbers()
    made["l2"][0, 1] += 1
    made["params"]["bias"][0] += 1
    found = compared([plain, write(tmp_path / "other", made, content())])
    pair = row(found, "CONTROL")
    assert (pair["equal"], pair["equal_but_for_records"]) == (2, 0)
    assert pair["first_apart"] == [20, None, None]
    assert not any("weights may be equal" in note for note in found["notes"])


def test_churn_and_accuracy_are_taken_replica_by_replica(plain, tmp_path):
    made = numbers()
    made["logits"][1, :10] = made["logits"][1, :10, ::-1]  # 10 of 40 examples of replica 1
    found = compared([plain, write(tmp_path / "other", made, content())])
    pair, label = row(found, "CONTROL"), np.arange(EXAMPLES) % 2
    np.testing.assert_allclose(pair["churn"]["value"], 10 / 40 / 3)
    right = [np.mean(n["logits"][1].argmax(-1) == label) for n in (numbers(), made)]
    np.testing.assert_allclose(pair["accuracy_difference"]["value"], (right[0] - right[1]) / 3)
    assert pair["better"] is None  # copies of one replica
    better = row(found, "order")["better"]
    assert 0 <= better["low"] < better["value"] < better["high"] <= 1


def test_replicas_that_diverged_are_left_out_of_the_measures(plain, tmp_path):
    made = numbers()
    made["diverged"][1] = 30
    made["params"]["bias"][1] = np.nan
    found = compared([plain, write(tmp_path / "other", made, content())])
    pair = row(found, "CONTROL")
    assert (pair["replicas"], pair["used"], pair["equal"]) == (3, 2, 2)
    assert pair["l2_distance"]["value"] == 0
    assert "diverged" in found["notes"][0]


def test_what_differs_between_environments_is_said(plain, tmp_path):
    device = content()["device"] | {"platform": "gpu"}
    flags = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}
    other = content(device=device, variables=flags)
    found = compared([plain, write(tmp_path / "gpu", numbers(), other)])
    assert found["environment"] == {
        "device.platform": {"plain": "cpu", "gpu": "gpu"},
        "variables.XLA_FLAGS": {"plain": None, "gpu": flags["XLA_FLAGS"]},
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"experiment": "mnist"}, "experiment is parities in plain and mnist in other"),
        (
            {"hyperparameters": {"learning_rate": 0.2, "vary": ["init"]}},
            "--learning-rate is 0.1",
        ),
        ({"noise": content()["noise"] | {"data": "2" * 64}}, "data (SHA-256) is 111111111111… in"),
        ({"noise": content()["noise"] | {"ulp_step": 5}}, "ulp_step is 0 in plain and 5 in other"),
    ],
)
def test_runs_of_another_task_or_data_are_refused_in_one_line(
    plain, tmp_path, capsys, change, says
):
    other = write(tmp_path / "other", numbers(), content(**change))
    assert seedmap("noise", "compare", plain, other) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_how_replicas_were_spread_and_where_data_stood_may_differ(plain, tmp_path):
    own = content()["hyperparameters"] | {"seeds": 3, "seeds_at_once": 1, "data_dir": "elsewhere"}
    other = write(tmp_path / "other", numbers(), content(hyperparameters=own))
    assert compared([plain, other])["pairs"]


def test_folders_that_cannot_be_compared_are_refused_in_one_line(plain, tmp_path, capsys):
    variants = [v._asdict() for v in make_variants(("init",), 6)][1:]
    noise = content()["noise"] | {"variants": variants}
    other = write(tmp_path / "other", numbers(), content(noise=noise))
    run = tmp_path / "run"
    run.mkdir()
    files.write_json(run / run_folder.CONFIG, {"experiment": "parities"})
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("mine")
    for arguments, says in [
        ((plain,), "at least two runs"),
        ((plain, plain), "comes twice"),
        ((plain, run), "holds no study of noise"),
        ((plain, tmp_path / "nowhere"), "has no config.json"),
        ((plain, other), "no variant in common: CONTROL, order against init"),
        ((plain, other, "--out", taken), "holds thesis.tex"),
    ]:
        assert seedmap("noise", "compare", *arguments) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1


def test_the_command_prints_and_writes_the_comparison(plain, tmp_path, capsys):
    made = numbers()
    made["logits"][1, :10] = made["logits"][1, :10, ::-1]
    made["l2"][1, 1] += 1
    made["params"] = jax.tree.map(lambda leaf: leaf * np.float32(1.1), made["params"])
    other = write(tmp_path / "other", made, content(variables={"NPROC": "1"}))
    out = tmp_path / "out"
    for _ in range(2):  # the second replaces the first
        assert seedmap("noise", "compare", plain, other, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "step 20 (l2)" in printed
    assert "variables.NPROC: plain None, other 1" in printed
    assert_of_schema(out / "noise_compare.json")
    found = json.loads((out / "noise_compare.json").read_text())
    assert [pair["variant"] for pair in found["pairs"]] == ["CONTROL", "order"]
    page = (out / "noise_compare.html").read_text()
    assert "variables.NPROC" in page
    assert "<svg" in page
    lines = (out / "noise_compare.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("plain,other,CONTROL,3,3,0,20,")
    assert (out / "figures" / "differences.png").is_file()


def damaged_predictions(folder, **changes):
    with np.load(folder / "predictions.npz") as found:
        arrays = {**found, **changes}
    del arrays["checksum"]  # which would tell of it first
    np.savez(folder / "predictions.npz", **arrays)


def damaged_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


NOISE = content()["noise"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: damaged_predictions(p, logits=np.ones((2, 3, 2))), "predictions.npz is not of"),
        (lambda p: damaged_predictions(p, logits=np.ones(6)), "predictions.npz is not of"),
        (lambda p: damaged_predictions(p, loss=np.array(["a"])), "predictions.npz is not of"),
        (lambda p: (p / "predictions.npz").write_bytes(b"\x80\x04N."), "it is no zip archive"),
        (lambda p: (p / "barriers.nc").unlink(), "has no barriers.nc; make it with"),
        (lambda p: shutil.copy(p / "metrics.nc", p / "barriers.nc"), "barriers.nc cannot be read"),
        (lambda p: shutil.copy(p / "barriers.nc", p / "metrics.nc"), "metrics.nc is not of the 6"),
        (lambda p: shutil.rmtree(p / "checkpoint" / "d"), "checkpoint is damaged"),
        (lambda p: (p / "checkpoint" / "_METADATA").unlink(), "checkpoint is damaged"),
        (lambda p: damaged_config(p, noise=None), "config.json: its list of the study"),
        (lambda p: damaged_config(p, noise=NOISE | {"notes": 1}), "config.json: its list of the"),
        (lambda p: damaged_config(p, noise=NOISE | {"variants": [{"name": "x"}]}), "config.json:"),
        (lambda p: damaged_config(p, hyperparameters=[]), "'hyperparameters' is no mapping"),
    ],
)
def test_a_damaged_study_is_told_in_one_line(plain, tmp_path, capsys, damage, says):
    copy = tmp_path / "copy"
    shutil.copytree(plain, copy)
    damage(copy)
    assert seedmap("noise", "compare", plain, copy) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_replicas_tested_on_other_examples_are_refused(plain):
    study = load_study(plain)
    one = take_replica(study, 0)
    with pytest.raises(ValueError, match="tested on different examples"):
        difference(one, one._replace(loss=one.loss[:-1]))
