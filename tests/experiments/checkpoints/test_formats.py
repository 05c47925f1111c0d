"""Every checkpoint format gives the same tensors, one at a time; what is damaged is named."""

import json
import os
import pickle
import shutil
import sys
import time

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from seedmap.experiments.checkpoints.formats import SUFFIXES, fingerprint, open_checkpoint

GENERATOR = np.random.default_rng(3)
TENSORS = {
    "layer.0.weight": GENERATOR.normal(size=(6, 5)).astype(np.float32),
    "layer.0.bias": GENERATOR.normal(size=6).astype(np.float32),
    "head.weight": GENERATOR.normal(size=(2, 6)).astype(np.float32),
}


def torch_tensors(dtype=torch.float32):
    return {name: torch.from_numpy(array).to(dtype) for name, array in TENSORS.items()}


def sharded(folder, save, suffix, index):
    folder.mkdir()
    files = {name: f"part-{i}{suffix}" for i, name in enumerate(TENSORS)}
    for name, file in files.items():
        save({name: torch.from_numpy(TENSORS[name])}, str(folder / file))
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def orbax(folder):
    tree = {
        "layer": {"0": {"weight": TENSORS["layer.0.weight"], "bias": TENSORS["layer.0.bias"]}},
        "head": {"weight": jnp.asarray(TENSORS["head.weight"])},
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), tree)
    return folder


def manager(folder):
    """What Orbax's CheckpointManager makes: the tree in a folder `default` of the step's."""
    orbax(folder / "default")
    return folder


def in_folder(name, save):
    def make(folder):
        folder.mkdir()
        save(folder / name)
        return folder

    return make


FORMATS = {
    "safetensors": in_folder("model.safetensors", lambda path: save_file(TENSORS, path)),
    "safetensors-sharded": lambda folder: sharded(
        folder, save_torch_file, ".safetensors", "model.safetensors.index.json"
    ),
    "bin": in_folder("pytorch_model.bin", lambda path: torch.save(torch_tensors(), path)),
    "bin-sharded": lambda folder: sharded(
        folder, torch.save, ".bin", "pytorch_model.bin.index.json"
    ),
    "pt-in-a-training-state": in_folder(
        "last.pt",
        lambda path: torch.save(
            {"epoch": 3, "optimizer": {"state": {}}, "model": torch_tensors()}, path
        ),
    ),
    "pth": in_folder("weights.pth", lambda path: torch.save(torch_tensors(), path)),
    "npz": in_folder("weights.npz", lambda path: np.savez(path, **TENSORS)),
    "npz-compressed": in_folder(
        "weights.npz",
        lambda path: np.savez_compressed(
            path, **{name.replace(".", "/"): array for name, array in TENSORS.items()}
        ),
    ),
    "orbax": orbax,
    "orbax-manager": manager,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_tensors(tmp_path, kind):
    path = FORMATS[kind](tmp_path / "checkpoint")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.shapes == {name: array.shape for name, array in TENSORS.items()}
        for name, array in TENSORS.items():
            read = checkpoint.read(name)
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("kind", ["safetensors", "bin", "npz", "orbax"])
def test_other_floats_are_read_as_float32(tmp_path, kind, dtype):
    if (kind, dtype) == ("npz", "bfloat16"):
        pytest.skip("npz does not keep the type bfloat16")
    numpy_dtype = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    array = TENSORS["head.weight"].astype(numpy_dtype)
    tensor = torch.from_numpy(TENSORS["head.weight"]).to(getattr(torch, dtype))
    path = tmp_path / {"safetensors": "a.safetensors", "bin": "a.bin", "npz": "a.npz"}.get(
        kind, "a"
    )
    if kind == "safetensors":
        save_torch_file({"w": tensor}, path)
    elif kind == "bin":
        torch.save({"w": tensor}, path)
    elif kind == "npz":
        np.savez(path, w=array)
    else:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path.resolve(), {"w": array})
    with open_checkpoint(path) as checkpoint:
        read = checkpoint.read("w")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float32))


def test_orbax_leaves_out_the_outermost_params(tmp_path):
    """As `trainer.metrics.weights.named_leaves`; the names of a whole training state stay."""
    kernel = jnp.ones((2, 3))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((tmp_path / "a").resolve(), {"params": {"Dense_0": {"kernel": kernel}}})
        state = {"params": {"Dense_0": {"kernel": kernel}}, "step": np.int32(3), "none": None}
        checkpointer.save((tmp_path / "b").resolve(), state)
    with open_checkpoint(tmp_path / "a") as checkpoint:
        assert checkpoint.shapes == {"Dense_0.kernel": (2, 3)}
    with open_checkpoint(tmp_path / "b") as checkpoint:
        assert checkpoint.shapes == {"params.Dense_0.kernel": (2, 3), "step": ()}
        np.testing.assert_array_equal(checkpoint.read("params.Dense_0.kernel"), kernel)


def test_config_beside_the_weights_is_read(tmp_path):
    FORMATS["bin"](tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text('{"num_attention_heads": 2}')
    for path in (tmp_path / "a", tmp_path / "a" / "pytorch_model.bin"):
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.settings == {"num_attention_heads": 2}
    (tmp_path / "a" / "config.json").write_text("[1")
    refused(tmp_path / "a", "config.json is not a JSON object")


def read_all(path):
    with open_checkpoint(path) as checkpoint:
        for name in checkpoint.shapes:
            checkpoint.read(name)


def refused(path, *words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are checked below
        read_all(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def cut(path, by):
    path.write_bytes(path.read_bytes()[:-by])
    return path


def test_truncated_files_are_named_with_expected_and_found(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    size = path.stat().st_size
    refused(cut(path, 7), str(path), f"expected {size} bytes, found {size - 7}")
    path.write_bytes(b"not a checkpoint at all, but long enough to look like one")
    refused(path, str(path), "expected a header of", "57 bytes in all")
    path.write_bytes((20).to_bytes(8, "little") + b"x" * 30)
    refused(path, str(path), "JSON header")
    path.write_bytes(b"")
    refused(path, str(path))
    torch.save(torch_tensors(), tmp_path / "a.bin")
    refused(cut(tmp_path / "a.bin", 200), "a.bin", "zip file cut short")
    (tmp_path / "b.bin").write_bytes(b"<!DOCTYPE html>")
    refused(tmp_path / "b.bin", "b.bin", "15 bytes", "<!DO")
    np.savez(tmp_path / "a.npz", **TENSORS)
    refused(cut(tmp_path / "a.npz", 50), "a.npz", "expected an npz file")
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    refused(tmp_path / "b.npz", "b.npz", "expected an npz file", "a single array")


def test_damaged_bytes_inside_an_npz_file_are_found(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **TENSORS)
    content = bytearray(path.read_bytes())
    at = content.find(TENSORS["layer.0.weight"].tobytes()[:16])
    content[at] ^= 255
    path.write_bytes(content)
    refused(path, "a.npz", "layer.0.weight")


def damage(folder, many=30):
    """Cuts the files with the arrays of an Orbax folder; many, so that some still wait."""
    rows = np.ones((60, 50), np.float32)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), {f"layer{i}": rows * i for i in range(many)})
    for file in folder.rglob("*"):
        if file.parent.name == "d" and file.is_file():
            os.truncate(file, file.stat().st_size // 2)
    return folder


def test_a_damaged_orbax_folder_is_named(tmp_path, capfd):
    refused(damage(tmp_path / "a"), str(tmp_path / "a"), "is damaged")
    time.sleep(0.2)  # what is left of a broken reading would print its traceback now
    assert capfd.readouterr().err == ""


def test_a_damaged_array_of_an_orbax_folder_is_named(tmp_path):
    """In the older layout, where every array has a folder."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save((tmp_path / "a").resolve(), {"whole": np.ones(9), "cut": np.ones(9)})
    path = tmp_path / "a" / "cut" / "0"
    path.write_bytes(path.read_bytes()[:9])
    refused(tmp_path / "a", "expected 'cut' whole")
    with open_checkpoint(tmp_path / "a") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("whole"), np.ones(9))
    path.unlink()  # TensorStore's own default would be zeros
    refused(tmp_path / "a", "expected 'cut' whole", "NOT_FOUND")
    metadata = tmp_path / "a" / "_METADATA"
    whole = metadata.read_text()
    older = json.loads(whole) | {"store_array_data_equal_to_fill_value": False}
    metadata.write_text(json.dumps(older))  # parts of nothing but zeros were not stored then
    with open_checkpoint(tmp_path / "a") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("cut"), np.zeros(9))
    metadata.write_text(whole)
    shape = tmp_path / "a" / "cut" / ".zarray"
    huge = {"shape": [6_000_000, 8_000_000], "chunks": [1000, 1000]}
    shape.write_text(json.dumps(json.loads(shape.read_text()) | huge))
    refused(tmp_path / "a", "a: 'cut' needs 5.76e+05 GB", "GB of memory")
    shutil.rmtree(tmp_path / "a" / "cut")
    refused(tmp_path / "a", "it has no array 'cut', which its _METADATA lists")
    metadata.write_text("")
    refused(tmp_path / "a", "its _METADATA is not JSON")
    metadata.write_text('{"tree_metadata": {"a": 1}}')
    refused(tmp_path / "a", "its _METADATA describes no tree")


def test_an_orbax_folder_without_its_manifest_is_damaged(tmp_path):
    (orbax(tmp_path / "a") / "manifest.ocdbt").unlink()
    refused(tmp_path / "a", "is damaged", "it has no array")


@pytest.mark.parametrize("kind", ["safetensors-sharded", "bin-sharded"])
def test_a_missing_shard_and_a_missing_tensor_are_named(tmp_path, kind):
    path = FORMATS[kind](tmp_path / "a")
    index = next(path.glob("*.index.json"))
    shard = sorted(path.glob("part-1*"))[0]
    names = json.loads(index.read_text())
    shard.rename(tmp_path / "aside")
    refused(path, shard.name, "names 3 shards, 2 are there")
    (tmp_path / "aside").rename(shard)
    names["weight_map"]["more"] = shard.name
    index.write_text(json.dumps(names))
    with open_checkpoint(path) as checkpoint:
        assert "more" not in checkpoint.shapes
        assert all(words in checkpoint.absent["more"] for words in (shard.name, "no such tensor"))
    names["weight_map"]["more"] = "../elsewhere.safetensors"
    index.write_text(json.dumps(names))
    refused(path, index.name, "shards beside it")
    index.write_text("{}")
    refused(path, index.name, "weight_map")


class Hostile:
    """Pickled, it would make a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_hostile_pickles_are_refused_and_not_run(tmp_path):
    made = tmp_path / "made"
    torch.save({"w": torch.ones(2), "x": Hostile(made)}, tmp_path / "a.bin")
    message = refused(tmp_path / "a.bin", "a.bin is refused", "could run code")
    assert "mkdir" in message
    (tmp_path / "b.bin").write_bytes(pickle.dumps(Hostile(made), protocol=2))
    with pytest.warns(UserWarning, match="old format"):
        refused(tmp_path / "b.bin", "b.bin is refused")
    np.savez(tmp_path / "c.npz", w=np.array([Hostile(made)], dtype=object))
    refused(tmp_path / "c.npz", "c.npz", "'w'")
    assert not made.exists()


def test_the_old_format_of_pytorch_is_read_whole_and_said_so(tmp_path):
    torch.save(torch_tensors(), tmp_path / "a.bin", _use_new_zipfile_serialization=False)
    with (
        pytest.warns(UserWarning, match="a.bin is of PyTorch's old format"),
        open_checkpoint(tmp_path / "a.bin") as checkpoint,
    ):
        np.testing.assert_array_equal(checkpoint.read("head.weight"), TENSORS["head.weight"])


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path):
    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "is no checkpoint", *SUFFIXES)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds nothing", "model.safetensors")
    (tmp_path / "two").mkdir()
    for name in ("a.pt", "b.pt"):
        torch.save(torch_tensors(), tmp_path / "two" / name)
    refused(tmp_path / "two", "a.pt, b.pt", "make the pattern name the file")
    torch.save({"epoch": 3, "weights": torch_tensors()}, tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "'epoch', 'weights'", "state_dict")
    torch.save([torch.ones(2)], tmp_path / "d.pt")
    refused(tmp_path / "d.pt", "list")
    torch.save({"w": torch.arange(3)}, tmp_path / "e.pt")
    refused(tmp_path / "e.pt", "dtype int64", "floating")


def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch):
    save_file(TENSORS, tmp_path / "a.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(tmp_path / "a.bin", "a.bin", "needs torch", "pip install")


def test_safetensors_need_no_library(tmp_path, monkeypatch):
    save_file(TENSORS, tmp_path / "a.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    read_all(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_of_safetensors_is_read_as_torch_writes_it(tmp_path, dtype):
    tensor = torch.from_numpy(TENSORS["head.weight"]).to(getattr(torch, dtype))
    save_torch_file({"w": tensor, "other": torch.ones(3)}, tmp_path / "a.safetensors")
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("w"), tensor.float().numpy())


def test_safetensors_are_preferred_as_on_the_hub(tmp_path):
    path = FORMATS["bin"](tmp_path / "a")
    save_file({"only.here": TENSORS["head.weight"]}, path / "model.safetensors")
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.shapes) == ["only.here"]


def test_the_fingerprint_changes_with_the_files(tmp_path):
    path = FORMATS["safetensors"](tmp_path / "a")
    before = fingerprint(path)
    assert fingerprint(path) == before
    save_file({"w": TENSORS["head.weight"]}, path / "model.safetensors")
    assert fingerprint(path) != before
