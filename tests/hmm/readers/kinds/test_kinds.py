"""Each kind of log, made by the library that writes it where that is installed, else by hand."""

import csv
import gzip
import json
import struct
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from seedmap import logs as seedmap_logs
from seedmap.errors import UserError
from seedmap.hmm.readers.kinds import KINDS
from seedmap.hmm.readers.kinds.kind import run_names
from seedmap.hmm.readers.kinds.wandb import wandb_logs
from seedmap.hmm.readers.read import read_long

STEPS = [0, 10, 20]
RUNS = ("s2", "s10")
VALUES = {  # run -> column -> values at the steps
    run: {"loss": [3.0, 2.0 + i, 1.0], "val/acc": [0.1, 0.5, 0.95 - i]}
    for i, run in enumerate(RUNS)
}


def check(table, columns=("loss", "val/acc"), runs=RUNS, steps=STEPS, values=VALUES):
    """The long table holds these values and no more."""
    assert table.runs == list(runs)
    for run, theirs in zip(runs, values.values(), strict=True):
        own = table.frame.loc[run]
        assert own.index.tolist() == list(steps)
        for column in columns:
            np.testing.assert_allclose(own[column], theirs[column], rtol=1e-7)


def frames():
    return {run: pd.DataFrame({"step": STEPS} | VALUES[run]) for run in RUNS}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet", "jsonl", "jsonl.gz", "json"])
@pytest.mark.parametrize("layout", ["a file a run", "a folder a run", "one file"])
def test_tables_in_every_layout(tmp_path, suffix, layout):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra trackers")

    def write(frame, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == "parquet":
            frame.to_parquet(path)
        elif suffix == "json":
            frame.to_json(path, orient="records")
        elif suffix.startswith("jsonl"):
            text = "".join(json.dumps(row) + "\n" for row in frame.to_dict("records"))
            data = text.encode()
            path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
        else:
            frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")

    path = tmp_path / "logs"
    for run, frame in frames().items():
        if layout == "a file a run":
            write(frame, path / f"{run}.{suffix}")
        elif layout == "a folder a run":
            write(frame, path / run / "version_0" / f"metrics.{suffix}")
    if layout == "one file":
        joined = pd.concat([frame.assign(seed=run) for run, frame in frames().items()])
        path = tmp_path / f"all.{suffix}"
        write(joined, path)
    read = read_long(path)
    assert read.kind == suffix.removesuffix(".gz").replace("tsv", "csv")
    check(read.table)
    assert read.table.run_column == ("seed" if layout == "one file" else None)


def test_parquet_tells_a_nan_from_what_is_missing(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra trackers")
    import pyarrow.parquet as pq

    table = pa.table({"step": [1, 2, 3], "a": [1.0, float("nan"), float("nan")]})
    pq.write_table(table.append_column("b", pa.array([1.0, None, None])), tmp_path / "r.parquet")
    own = read_long(tmp_path).table.frame.loc["r"]
    np.testing.assert_array_equal(own["a"], [1, np.inf, np.inf])
    np.testing.assert_array_equal(own["b"], [1, np.nan, np.nan])


def test_lightning(tmp_path):
    pytest.importorskip("lightning", reason="lightning is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightning.pytorch.loggers import CSVLogger

        for run in RUNS:
            logger = CSVLogger(tmp_path / run)
            for i, step in enumerate(STEPS):
                for name in ("loss", "val/acc"):  # a row each
                    logger.log_metrics({name: VALUES[run][name][i], "epoch": i}, step)
                    logger.save()
            logger.finalize("success")
    read = read_long(tmp_path)
    assert read.kind == "csv"
    check(read.table)


def test_lightning_by_hand(tmp_path):
    for run in RUNS:
        folder = tmp_path / run / "lightning_logs" / "version_3"
        folder.mkdir(parents=True)
        (folder / "hparams.yaml").write_text("lr: 0.1\n")
        with (folder / "metrics.csv").open("w", newline="") as file:
            rows = csv.DictWriter(file, ["epoch", "loss", "step", "val/acc"])
            rows.writeheader()
            for i, step in enumerate(STEPS):
                rows.writerow({"epoch": i, "loss": VALUES[run]["loss"][i], "step": step})
                rows.writerow({"epoch": i, "step": step, "val/acc": VALUES[run]["val/acc"][i]})
    check(read_long(tmp_path).table)


def test_stable_baselines_beside_its_monitor(tmp_path):
    for run in RUNS:
        (tmp_path / run).mkdir()
        frame = pd.DataFrame(VALUES[run]).assign(**{"time/total_timesteps": STEPS})
        frame.to_csv(tmp_path / run / "progress.csv", index=False)
        (tmp_path / run / "0.monitor.csv").write_text('#{"t_start": 1.5}\nr,l,t\n1.0,200,3.5\n')
    table = read_long(tmp_path).table
    check(table)
    assert table.step_name == "time/total_timesteps"


def test_yolo_and_keras(tmp_path):
    """YOLO pads its header; Keras's CSVLogger counts epochs."""
    for run in RUNS:
        (tmp_path / run).mkdir()
        lines = ["                  epoch,         train/box_loss,    metrics/mAP50(B)"]
        lines += [f"{step:23d},{3.0:23f},{0.1 * step:20f}" for step in STEPS]
        (tmp_path / run / "results.csv").write_text("\n".join(lines))
    table = read_long(tmp_path).table
    assert (table.step_name, table.steps.tolist()) == ("epoch", STEPS * 2)
    np.testing.assert_allclose(table.frame["metrics/mAP50(B)"], [0, 1, 2] * 2)


def test_keras_history_as_json(tmp_path):
    for run in RUNS:
        (tmp_path / f"{run}.json").write_text(json.dumps(VALUES[run]))
    table = read_long(tmp_path).table
    check(table, steps=[0, 1, 2])
    assert table.step_name == "epoch"


def trainer_state(run, upto):
    history = []
    for i, step in enumerate(STEPS[:upto]):
        history.append({"loss": VALUES[run]["loss"][i], "step": step, "epoch": step / 10})
        history.append({"eval_acc": VALUES[run]["val/acc"][i], "step": step, "epoch": step / 10})
    history.append({"train_runtime": 9.0, "train_loss": 1.5, "step": STEPS[upto - 1]})
    return history


@pytest.mark.parametrize("real", [False, True])
def test_hugging_face(tmp_path, real):
    callback = None
    if real:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("transformers", reason="transformers is not installed")
            from transformers import trainer_callback as callback
    for run in RUNS:
        for upto in (2, 3):
            folder = tmp_path / run / f"checkpoint-{STEPS[upto - 1]}"
            folder.mkdir(parents=True)
            history, step = trainer_state(run, upto), STEPS[upto - 1]
            path = folder / "trainer_state.json"
            if callback is None:
                path.write_text(json.dumps({"global_step": step, "log_history": history}))
            else:
                state = callback.TrainerState(global_step=step, log_history=history)
                state.save_to_json(str(path))
    read = read_long(tmp_path)
    assert read.kind == "trainer-state"
    values = {run: {"loss": of["loss"], "eval_acc": of["val/acc"]} for run, of in VALUES.items()}
    check(read.table, ("loss", "eval_acc"), values=values)
    one = tmp_path / "s2" / "checkpoint-20" / "trainer_state.json"
    with pytest.raises(UserError, match=r"is of one run; several are wanted: .*in one folder"):
        read_long(one)
    one.write_text('{"log_history": 3}')
    with pytest.raises(UserError, match="has no list 'log_history'"):
        read_long(tmp_path)


def test_charts_of_wandb(tmp_path):
    """A file a metric; runs that have no value at a step have an empty cell."""
    for metric in ("loss", "val/acc"):
        columns = {"Step": [*STEPS, 30]}
        for run in RUNS:
            cells = [*VALUES[run][metric], None]
            columns |= {f"my - {run} - {metric}{end}": cells for end in ("", "__MIN", "__MAX")}
            columns[f"my - {run} - _step"] = [*STEPS, None]
        name = metric.replace("/", "_")
        pd.DataFrame(columns).to_csv(tmp_path / f"{name}.csv", index=False, quoting=csv.QUOTE_ALL)
    read = read_long(tmp_path)
    assert (read.kind, read.others) == ("wandb-chart", ())
    check(read.table, runs=("my - s2", "my - s10"))
    assert read.table.frame.shape[1] == 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_history_of_wandb_as_one_long_table(tmp_path, suffix):
    rows = pd.concat([
        pd.DataFrame(VALUES[run]).assign(run_id=run, _step=STEPS, _runtime=[1.5, 3.0, 4.5])
        for run in RUNS
    ])  # fmt: skip
    path = tmp_path / f"history.{suffix}"
    if suffix == "csv":
        rows.to_csv(path)  # with the index of its rows, which is no step
    else:
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra trackers")
        rows.to_parquet(path)
    table = read_long(path).table
    check(table)
    assert (table.run_column, table.step_name) == ("run_id", "_step")


class WandbRun:
    """As `wandb.apis.public.Run`: `history` samples, `scan_history` does not."""

    def __init__(self, name, id, values):
        self.name, self.id, self._values = name, id, values

    def history(self):
        raise AssertionError("samples")

    def scan_history(self):
        for i, step in enumerate(STEPS):
            yield {"_step": step, "_timestamp": 1.5e9 + i, "loss": self._values["loss"][i]} | {
                "image": {"_type": "image-file", "path": "x.png"}
            }
            yield {"_step": step, "_timestamp": 1.6e9, "val/acc": self._values["val/acc"][i]}


def test_runs_of_wandb():
    runs = seedmap_logs.from_wandb(
        [WandbRun(run, f"id{run}", VALUES[run]) for run in RUNS], metrics=["loss"]
    )
    assert (runs.names, runs.unit, runs.criterion) == (RUNS, "_step", "val/acc > 0.9")
    np.testing.assert_array_equal(runs.convergence, [20, np.nan])
    np.testing.assert_array_equal(runs.sequences.values[:, :, 0], [VALUES[r]["loss"] for r in RUNS])
    same = [WandbRun("x", run, VALUES[run]) for run in RUNS]
    assert [log.run for log in wandb_logs(same)] == ["x", "x (s10)"]
    with pytest.raises(UserError, match=r"takes runs of wandb.Api\(\).runs\(...\); got str"):
        seedmap_logs.from_wandb(["me/project"])


def event_files(folder, write):
    """Event files of the runs, in a folder each."""
    for run in RUNS:
        with write(str(folder / run)) as writer:
            for name in VALUES[run]:
                for step, value in zip(STEPS, VALUES[run][name], strict=True):
                    writer.add_scalar(name, value, step)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_event_files_of_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed, of the extra trackers")
    tensorboardX = pytest.importorskip("tensorboardX", reason="tensorboardX writes the files")
    event_files(tmp_path, tensorboardX.SummaryWriter)
    with tensorboardX.SummaryWriter(
        str(tmp_path / "s2"), filename_suffix=".2"
    ) as writer:  # restarted: logged again
        writer.add_scalar("loss", VALUES["s2"]["loss"][2], 20)
    read = read_long(tmp_path)
    assert read.kind == "tensorboard"
    check(read.table)
    runs = seedmap_logs.from_tensorboard(tmp_path, metrics=["loss"])
    assert (runs.names, runs.criterion) == (RUNS, "val/acc > 0.9")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_point_of_long_event_files_is_read(tmp_path):
    """TensorBoard keeps 10 000 points of a tag by default."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed, of the extra trackers")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    for part in ("train", "validation"):  # as Keras's callback makes them: one run
        folder = tmp_path / "r" / part
        folder.mkdir(parents=True)
        with (folder / "events.out.tfevents.1.x").open("wb") as file:
            writer = RecordWriter(file)
            for step in range(10_050 if part == "train" else 3):
                event = Event(step=step, wall_time=step)
                event.summary.value.add(tag="loss", simple_value=step)
                writer.write(event.SerializeToString())
    table = read_long(tmp_path).table
    assert table.runs == ["r"]
    np.testing.assert_array_equal(table.frame["train/loss"], np.arange(10_050))
    assert table.frame["validation/loss"].notna().sum() == 3


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    module = "tensorboard.backend.event_processing.event_accumulator"
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "events.out.tfevents.1.x").write_bytes(struct.pack("<Q", 0))
    with pytest.raises(UserError, match=r"pip install 'seedmap\[trackers\]'"):
        read_long(tmp_path)


def test_csv_files_that_tensorboard_exports(tmp_path):
    for run in RUNS:
        for tag in VALUES[run]:
            frame = pd.DataFrame(
                {"Wall time": [1.0, 2, 3], "Step": STEPS, "Value": VALUES[run][tag]}
            )
            frame.to_csv(tmp_path / f"run-{run}-tag-{tag.replace('/', '_')}.csv", index=False)
    read = read_long(tmp_path)
    assert (read.kind, read.others) == ("tensorboard-csv", ())
    values = {run: {"loss": of["loss"], "val_acc": of["val/acc"]} for run, of in VALUES.items()}
    check(read.table, ("loss", "val_acc"), values=values)


def mlflow_by_hand(root):
    for number, run in enumerate(RUNS):
        folder = root / "0" / f"{number:032x}"
        (folder / "metrics" / "val").mkdir(parents=True)
        (folder / "params").mkdir()
        (folder / "params" / "lr").write_text("0.1")
        (folder / "meta.yaml").write_text(f"lifecycle_stage: active\nrun_name: '{run}'\n")
        for name, values in VALUES[run].items():
            lines = [f"17{i} {v} {s}" for i, (s, v) in enumerate(zip(STEPS, values, strict=True))]
            (folder / "metrics" / name).write_text("\n".join(lines) + "\n")
    gone = root / "0" / ("f" * 32)
    (gone / "metrics").mkdir(parents=True)
    (gone / "meta.yaml").write_text("lifecycle_stage: deleted\nrun_name: gone\n")
    (gone / "metrics" / "loss").write_text("1 2 3\n")


def test_the_file_store_of_mlflow(tmp_path):
    mlflow_by_hand(tmp_path / "mlruns")
    read = read_long(tmp_path / "mlruns")
    assert read.kind == "mlflow"
    check(read.table)
    (tmp_path / "mlruns" / "0" / f"{0:032x}" / "metrics" / "loss").write_text("1 x 3\n")
    with pytest.raises(UserError, match="loss, line 1 is not 'timestamp value step'"):
        read_long(tmp_path / "mlruns")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_itself(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.create_experiment("e")
    for run in RUNS:
        made = client.create_run(experiment, run_name=run).info.run_id
        for name, values in VALUES[run].items():
            for step, value in zip(STEPS, values, strict=True):
                client.log_metric(made, name, value, step=step)
    check(read_long(tmp_path / "mlruns").table)
    found = sorted(client.search_runs([experiment]), key=lambda run: len(run.info.run_name))
    runs = seedmap_logs.from_mlflow(found, client, metrics=["loss"])
    np.testing.assert_array_equal(runs.convergence, [20, np.nan])


def test_runs_of_mlflow_by_hand():
    class Client:
        def get_metric_history(self, run_id, key):
            points = zip(STEPS, VALUES[run_id][key], strict=True)
            return [SimpleNamespace(step=step, value=value) for step, value in points]

    runs = [
        SimpleNamespace(
            info=SimpleNamespace(run_id=run, run_name=None),
            data=SimpleNamespace(metrics=VALUES[run]),
        )
        for run in RUNS
    ]
    read = seedmap_logs.from_mlflow(runs, Client(), metrics=["loss"])
    assert read.names == RUNS
    np.testing.assert_array_equal(read.convergence, [20, np.nan])
    with pytest.raises(UserError, match=r"search_runs\(output_format='list'\); got str"):
        seedmap_logs.from_mlflow(["run"], Client())


def test_lines_that_nanogpt_prints(tmp_path):
    for run in RUNS:
        lines = ["tokens per iteration will be: 16,384", "compiling the model... (takes a ~minute)"]
        for step, loss, acc in zip(STEPS, *VALUES[run].values(), strict=True):
            lines.append(f"step {step}: train loss {loss:.4f}, val loss {acc:.4f}")
            lines.append(f"iter {step}: loss {loss:.4f}, time 12.50ms, mfu -100.00%")
        (tmp_path / f"{run}.log").write_text("\n".join(lines))
    read = read_long(tmp_path)
    assert read.kind == "text"
    values = {
        run: {"train loss": of["loss"], "val loss": of["val/acc"], "loss": of["loss"]}
        for run, of in VALUES.items()
    }
    check(read.table, ("train loss", "val loss", "loss"), values=values)
    assert set(read.table.frame.columns) == {"train loss", "val loss", "loss", "time", "mfu"}


def test_json_and_csv_of_the_released_code_in_one_folder(tmp_path):
    """And networks without biases."""
    matrix = {"l1": 1.0, "l2": 2.0}
    moments = {"mean": 0.0, "median": 0.0, "var": 1.0}
    for run in RUNS:
        (tmp_path / run).mkdir()
        for step in STEPS:
            content = {"w": [matrix], "w_all": moments, "b_all": {}}
            (tmp_path / run / f"step{step}.json").write_text(json.dumps(content))
        frames()[run].to_csv(tmp_path / f"{run}.csv", index=False)
    with pytest.warns(UserWarning, match="is read as csv; it also holds paper"):
        check(read_long(tmp_path).table)
    table = read_long(tmp_path, kind="paper").table
    assert set(table.frame.columns) == {"l1", "l2", "mean_w", "median_w", "var_w"}
    assert table.steps.tolist() == STEPS * 2


def test_runs_are_named_by_what_tells_their_paths_apart(tmp_path):
    for paths, names in (
        (["a/x/metrics.csv", "b/x/metrics.csv"], ["a", "b"]),
        (["l/a/0/metrics.csv", "l/b/1/metrics.csv"], ["a/0", "b/1"]),
        (["l/a/v0/m.csv", "l/b/v0/m.csv", "l/b/v1/m.csv"], ["a/v0", "b/v0", "b/v1"]),
        (["lr1/s0.csv", "lr1/s1.csv", "lr2/s0.csv"], ["lr1/s0", "lr1/s1", "lr2/s0"]),
        (["one.csv"], ["one"]),
    ):
        assert run_names(tmp_path, [tmp_path / path for path in paths]) == names


def test_every_kind_has_its_line_of_help():
    assert all(kind.name == name and kind.summary for name, kind in KINDS.items())
