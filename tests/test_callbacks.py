"""The recorder in the loops of other libraries: its records are of the weights at their steps."""

import numpy as np
import pytest
import torch

from helpers import checkpoint_models as models
from seedmap.callbacks.steps import Steps
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.layouts import find_layout
from seedmap.experiments.checkpoints.rules import assign
from seedmap.experiments.checkpoints.streaming import measure_checkpoint
from seedmap.experiments.recording.parameters import as_checkpoint
from seedmap.experiments.recording.recorder import Recorder
from seedmap.hmm.readers.read import read_long
from seedmap.trainer import PAPER_METRICS


def measured(parameters, heads=None):
    """The metrics of parameters, computed beside the recorder."""
    checkpoint = as_checkpoint(parameters, "here")
    leaves = assign(checkpoint, find_layout(None, None, checkpoint), heads)
    return measure_checkpoint(checkpoint, leaves).values


def recorded(folder):
    """The frame of the one run, by step."""
    return read_long(folder).table.frame.droplevel("run")


def check_last(frame, parameters, heads=None):
    expected = measured(parameters, heads)
    for name in PAPER_METRICS:
        np.testing.assert_allclose(frame[name].iloc[-1], expected[name], rtol=1e-12, err_msg=name)


# One record a step


def weights(step):
    return {"fc.weight": np.full((2, 2), 1.0 + step), "fc.bias": np.zeros(2)}


def test_what_is_told_of_a_step_is_one_record(tmp_path):
    with Recorder(tmp_path, "a") as recorder:
        steps = Steps(recorder, every=4, step=0)
        steps.finish(0, lambda: weights(0))
        for step in range(1, 10):
            if step == 3:
                steps.tell({"loss": 0.5, "text": "x"})
                steps.tell({"eval_loss": torch.tensor(0.25), "bad": float("nan")})
            steps.tell({"lr": 0.1 * step}, due=False)
            steps.finish(step, lambda step=step: weights(step))
            steps.finish(step, lambda step=step: weights(step))
    frame = recorded(tmp_path)
    assert frame.index.tolist() == [0, 3, 4, 8]
    assert frame.loc[3, ["loss", "eval_loss"]].tolist() == [0.5, 0.25]
    assert frame.loc[4, "loss":].isna().tolist() == [True, True, False]
    assert frame.lr[8] == 0.8
    assert not {"text", "bad"} & set(frame.columns)


def test_a_training_that_goes_on_drops_what_came_after(tmp_path):
    with Recorder(tmp_path, "a") as recorder:
        for step in range(5):
            recorder.record(step, weights(step))
        steps = Steps(recorder, every=1, step=2)
        for step in (2, 3):
            steps.finish(step, lambda step=step: weights(step + 10))
    frame = recorded(tmp_path)
    assert frame.index.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(frame.mean_w, [1, 2, 3, 14])


# Hugging Face


@pytest.fixture(scope="module")
def huggingface():
    pytest.importorskip("accelerate")
    return pytest.importorskip("seedmap.callbacks.huggingface")


def fit_huggingface(huggingface, folder, out, model, steps, resume=None, **more):
    from transformers import Trainer, TrainingArguments

    batch = models.batch(model)
    examples = [{name: of[i] for name, of in batch.items()} for i in range(4)]
    arguments = TrainingArguments(
        str(out),
        max_steps=steps,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=4,
        per_device_train_batch_size=2,
        learning_rate=0.01,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **more,
    )
    callback = huggingface.RecorderCallback(folder, run="seed0")
    trainer = Trainer(
        model, arguments, train_dataset=examples, eval_dataset=examples, callbacks=[callback]
    )
    trainer.train(resume_from_checkpoint=resume)
    return model


def test_a_trainer_of_hugging_face(huggingface, tmp_path):
    folder, out = tmp_path / "mine", tmp_path / "out"
    model = fit_huggingface(huggingface, folder, out, models.gpt_neox(0), 6)
    frame = recorded(folder)
    assert frame.index.tolist() == [0, 2, 4, 6]
    assert frame.loss.notna().tolist() == [False, True, True, True]
    assert frame.eval_loss.notna().tolist() == [False, False, True, True]  # and at the end
    assert "eval_runtime" not in frame
    check_last(frame, model.state_dict(), models.HEADS)
    check_last(frame.loc[:0], models.gpt_neox(0).state_dict(), models.HEADS)
    resumed = fit_huggingface(
        huggingface, folder, out, models.gpt_neox(1), 8, resume=str(out / "checkpoint-4")
    )
    frame = recorded(folder)
    assert frame.index.tolist() == [0, 2, 4, 6, 8]
    check_last(frame, resumed.state_dict(), models.HEADS)


# Lightning


@pytest.mark.filterwarnings("ignore")  # of its own, on workers and the number of batches
def test_a_trainer_of_lightning(tmp_path, monkeypatch):
    lightning = pytest.importorskip("lightning.pytorch")
    from seedmap.callbacks.lightning import RecorderCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def training_step(self, batch, index):
            loss = self.fc(batch[0]).square().mean()
            self.log("train/loss", loss)
            return loss

        def validation_step(self, batch, index):
            self.log("val_acc", float(self.global_step))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.TensorDataset(torch.randn(8, 3))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    module = Module()
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[RecorderCallback(tmp_path / "mine", run="seed0", every=3)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, loader, loader)
    frame = recorded(tmp_path / "mine")
    assert frame.index.tolist() == [0, 3, 4, 6, 8]
    assert frame["val_acc"].dropna().to_dict() == {4: 4, 8: 8}
    assert frame["train/loss"].notna().tolist() == [False, True, True, True, True]
    check_last(frame.loc[:0], start)
    check_last(frame, module.state_dict())


def test_an_exception_in_lightning_lets_the_run_go(tmp_path):
    pytest.importorskip("lightning.pytorch")
    from seedmap.callbacks.lightning import RecorderCallback

    class Trainer:
        is_global_zero, global_step = True, 0

    callback = RecorderCallback(tmp_path, run="a")
    callback.on_train_start(Trainer, None)
    callback.on_exception(Trainer, None, KeyboardInterrupt())
    Recorder(tmp_path, "a").close()


# Keras


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on JAX, with nobody's settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield pytest.importorskip("keras")


def test_a_fit_of_keras(keras, tmp_path):
    from seedmap.callbacks.keras import RecorderCallback

    layers = keras.layers
    model = keras.Sequential(
        [layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dropout(0.1), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("f4")
    model.build((None, 3))
    start = {variable.path: np.asarray(variable.value) for variable in model.weights}
    callback = RecorderCallback(tmp_path, run="seed0", every=3)
    options = {"batch_size": 2, "verbose": 0, "validation_data": (x, x[:, :1])}
    model.fit(x, x[:, :1], epochs=2, callbacks=[callback], **options)
    frame = recorded(tmp_path)
    assert frame.index.tolist() == [0, 3, 4, 6, 8]
    assert frame.val_loss.notna().tolist() == [False, False, True, False, True]
    check_last(frame.loc[:0], start)
    check_last(frame, {variable.path: np.asarray(variable.value) for variable in model.weights})
    # The variables themselves are taken, too.
    check_last(frame, {variable.path: variable for variable in model.weights})
    model.fit(x, x[:, :1], epochs=1, callbacks=[callback], **options)  # goes on from step 8
    assert recorded(tmp_path).index.tolist() == [0, 3, 4, 6, 8, 9, 12]


# Checks


@pytest.mark.parametrize("every", [0, 2.5, "3"])
def test_every_is_a_number_of_steps(huggingface, every, tmp_path):
    with pytest.raises(UserError, match=r"every is .*; it must be a number of steps"):
        huggingface.RecorderCallback(tmp_path, run="a", every=every)
