"""Hostile input, generated: a function for each kind, which writes it and returns the command line.

A case is `name: (make, words)`: `make(folder)` writes files into a folder and returns the arguments
of `seedmap`, `words` are in the one line that refuses them.
"""

import json
import os
import struct
import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np

DEEP = "[" * 100_000 + "]" * 100_000
BOMB = bytes(100 << 20)  # packed to a thousandth of it


def sparse(path):
    """Makes a file of a terabyte, or of 8 TB, that takes no room."""
    with path.open("wb") as file:
        file.truncate(8 << 40)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# Tables


def table(content, *flags, name="all.csv"):
    def make(folder):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        source = path if path.parent == folder else path.parent.parent
        return ["import", "metrics", source, "--out", folder / "out", *flags]

    return make


lines = partial(table, name="all.jsonl")
paper = partial(table, name="runs/epoch1.json")


def released(folder):
    """A folder of the released code with a matrix whose number is not to be read."""
    (folder / "runs" / "a").mkdir(parents=True)
    whole = {"w_all": dict.fromkeys(("mean", "median", "var"), 1.0)}
    content = {"w": [{"l1": 0}], **whole, "b_all": whole["w_all"]}
    text = json.dumps(content).replace('"l1": 0', '"l1": ' + "9" * 5000)
    (folder / "runs" / "a" / "epoch1.json").write_text(text)
    return ["import", "metrics", folder / "runs", "--out", folder / "out"]


GOOD = "run,step,l1,l2\na,1,1,1\na,2,2,2\nb,1,1,3\nb,2,2,4\n"
WIDE = "run,step," + ",".join(f"c{i}" for i in range(20_000)) + "\n"
FEW = "".join(f"{i % 15_000},{i},1\n" for i in range(30_000))
TABLES = {
    "csv: a header alone": (table("run,step,l1\n"), ["all.csv has no rows"]),
    "csv: nothing": (table(""), ["all.csv is empty"]),
    "csv: no text": (table(bytes(range(256))), ["not UTF-8"]),
    "csv: a cell without end": (table('run,step,l1\na,1,"' + "x" * 200_000), ["field larger"]),
    "csv: a file of terabytes": (table(sparse), ["GB of memory"]),
    "csv: 20 000 columns": (
        table(WIDE + "a,1" + ",1" * 20_000 + "\n"),
        ["--metrics", "20000 columns"],
    ),
    "csv: a run for each record": (
        table("run,step,l1\n" + "".join(f"{i},1,1\n" for i in range(1_000_000))),
        ["by its column 'run', holds 1000000, at most 20000"],
    ),
    "csv: a run that is longer than all others": (
        table(f"run,step,l1\n{FEW}" + "".join(f"z,{i},1\n" for i in range(100_000))),
        ["one run has 100000 records", "15001 runs at most 2", "GB"],
    ),
    "csv: an id as a metric": (
        table(GOOD.replace("l2", "seed"), "--metrics", "l1", "seed"),
        ["--metrics: 'seed' is a name of the run folder's own"],
    ),
    "csv: the run's column as a metric": (
        table(GOOD.replace("run", "seed"), "--metrics", "l1", "seed"),
        ["no run has a column 'seed'"],
    ),
    "csv: above all floats": (
        table("run,step,l1\na,1,1e999\na,2,-1e999\n"),
        ["--metrics: no run has 2 checkpoints"],
    ),
    "csv: an infinite step": (table(GOOD.replace("a,1", "a,1e999")), ["'step' is inf"]),
    "csv: a name of 100 000 characters": (
        table(f"run,step,{'x' * 100_000}\na,1,1\n", "--metrics", "y" * 100_000),
        ["no run has a column"],
    ),
    "csv: markup and escapes in a name": (
        table("run,step,<b>\x1b[31m\na,1,1\n", "--metrics", "l1"),
        ["'<b>\\\\x1b[31m'"],
    ),
    "json lines: deep": (lines('{"run": "a", "step": 1, "l1": ' + DEEP + "}"), ["nested more"]),
    "json lines: 60 deep": (
        lines('{"run": 1, "step": 1, "l1": ' + "[" * 60 + "]" * 60 + "}"),
        ["all.jsonl, line 1", "nested more than 50 deep"],
    ),
    "json lines: 400 digits": (
        lines('{"run": "a", "step": 1, "l1": ' + "9" * 400 + "}"),
        ["line 1", "a whole number of 400 digits"],
    ),
    "json lines: 5000 digits": (lines('{"step": ' + "9" * 5000 + "}"), ["of 5000 digits"]),
    "json lines: lists for numbers": (
        lines('{"run": 1, "step": 1, "l1": [1, 2]}\n{"run": 1, "step": 2, "l1": [3, 4]}'),
        ["column 'l1' holds '[1, 2]', expected a number"],
    ),
    "json lines: lists of several lengths": (
        lines('{"run": 1, "step": [1], "l1": 1}\n{"run": 1, "step": [2, 3], "l1": 2}'),
        ["'step' holds '[1]', expected a number"],
    ),
    "json lines: no object": (lines("[1, 2]"), ["line 1 holds a list"]),
    "json lines: cut": (lines('{"run": "a", "step": 1}\n{"run": "a"'), ["line 2 is not JSON"]),
    "json lines: terabytes": (lines(sparse), ["GB of memory"]),
    "released code: deep": (paper(DEEP), ["epoch1.json is not JSON", "nested more"]),
    "released code: 5000 digits": (released, ["epoch1.json is not JSON", "5000 digits"]),
    "released code: terabytes": (paper(sparse), ["GB of memory"]),
}


# Checkpoints


def checkpoint(write, name="step_1.npz", flags=()):
    def make(folder):
        path = folder / "ck" / "seed_0" / name
        path.parent.mkdir(parents=True)
        write(path)
        pattern = folder / "ck" / "seed_{run}" / name.replace("1", "{step}")
        return ["import", "checkpoints", pattern, "--out", folder / "out", *flags]

    return make


def npy(shape, dtype="<f4", data=b""):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(content, name="w.kernel.npy", compression=zipfile.ZIP_DEFLATED):
    def write(path):
        with zipfile.ZipFile(path, "w", compression) as file:
            file.writestr(name, content)

    return write


def flagged(path):
    """Writes an archive whose entry says that it is encrypted."""
    np.savez(path, **{"w.kernel": np.ones((2, 3))})
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    path.write_bytes(content)


class Runs:
    """Pickled, it would make a folder where it is read."""

    def __reduce__(self):
        return (os.mkdir, ("made-by-a-pickle",))


def pickled(path):
    np.savez(path, **{"w.kernel": np.full((2, 3), Runs(), dtype=object)})


def half_npz(path):
    np.savez(path, **{"w.kernel": np.ones((20, 30))})
    half(path)


NPZ = {
    "npz: terabytes declared": (archive(npy("(2000000, 1000000)")), ["is declared to be"]),
    "npz: a negative length": (archive(npy("(-1, 3)")), ["is declared to be"]),
    "npz: a bomb": (archive(npy(f"({len(BOMB) // 4},)", data=BOMB)), ["the file can hold"]),
    "npz: no array": (archive(b"hello"), ["expected an npz file"]),
    "npz: a deep header": (archive(npy("(" * 3000 + ")" * 3000)), ["expected an npz file"]),
    "npz: another compression": (
        archive(npy("(1,)"), compression=zipfile.ZIP_LZMA),
        ["not compressed"],
    ),
    "npz: encrypted": (flagged, ["is encrypted"]),
    "npz: objects": (pickled, ["'w.kernel' holds Python objects"]),
    "npz: half of it": (half_npz, ["step_1.npz is damaged"]),
    "npz: a path out of the folder": (archive(npy("(1,)"), name="../../x.npy"), ["damaged"]),
}


def tensors(header, data=b"", length=None):
    def write(path):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)

    return write


def entry(dtype="F32", shape=(2, 3), begin=0, end=24):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def many(path):
    """200 000 tensors; they are made when they are asked for, not when this is imported."""
    tensors({f"layer{i}.kernel": entry(shape=[0], end=0) for i in range(200_000)})(path)


SAFETENSORS = {
    "safetensors: an unknown dtype": (tensors({"a": entry("F7")}, bytes(24)), ["dtype 'F7'"]),
    "safetensors: a dtype that is none": (tensors({"a": entry(["F32"])}, bytes(24)), ["dtype"]),
    "safetensors: offsets as text": (tensors({"a": entry(end="24")}, bytes(24)), ["whole numbers"]),
    "safetensors: negative": (tensors({"a": entry(shape=[-2, -3])}, bytes(24)), ["whole numbers"]),
    "safetensors: terabytes": (tensors({"a": entry(shape=[10**9, 10**4])}, bytes(24)), ["'a' of"]),
    "safetensors: 400 digits": (tensors({"a": entry(shape=[10**400])}, bytes(24)), ["401 digits"]),
    "safetensors: overlap": (
        tensors({"a": entry(), "b": entry(begin=12, end=36)}, bytes(36)),
        ["'b' at 24"],
    ),
    "safetensors: a hole": (tensors({"a": entry(begin=8, end=32)}, bytes(32)), ["'a' at 0"]),
    "safetensors: deep": (tensors(DEEP.encode()), ["nested more"]),
    "safetensors: no object": (tensors([1]), ["JSON header of tensors"]),
    "safetensors: a header beyond the file": (tensors({}, length=1 << 60), ["a header of"]),
    "safetensors: 200 000 tensors": (many, ["holds 200000, at most"]),
    "safetensors: a name without end": (tensors({"k" * 10_000: entry()}, bytes(24)), ["long"]),
    "safetensors: whole numbers": (
        tensors({"a.kernel": entry("I32")}, bytes(24)),
        ["'a.kernel' has dtype int32"],
    ),
    "safetensors: half of it": (tensors({"a": entry()}, bytes(12)), ["expected"]),
}


def orbax(metadata, shape=(2, 3), chunks=(2, 3), dtype="<f4"):
    """A checkpoint of Orbax's in its older layout, made by hand; no part of the array is there."""

    def write(path):
        (path / "w.kernel").mkdir(parents=True)
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        (path / "_METADATA").write_text(text)
        about = {"shape": shape, "chunks": chunks, "dtype": dtype, "zarr_format": 2, "order": "C"}
        about |= dict.fromkeys(("compressor", "filters", "fill_value"))
        (path / "w.kernel" / ".zarray").write_text(json.dumps(about))

    return write


TREE = {
    "tree_metadata": {
        "w": {
            "key_metadata": [{"key": "w"}, {"key": "kernel"}],
            "value_metadata": {"value_type": "jax.Array"},
        }
    }
}
ORBAX = {
    "orbax: deep": (orbax(DEEP), ["_METADATA is not JSON", "nested more"]),
    "orbax: 5000 digits": (orbax('{"a": ' + "9" * 5000 + "}"), ["5000 digits"]),
    "orbax: no tree": (orbax([1]), ["describes no tree"]),
    "orbax: terabytes": (orbax(TREE, (10**7, 10**6), (10, 10)), ["'w.kernel' needs", "of memory"]),
    "orbax: gigabytes of nothing": (orbax(TREE, (10**4, 10**4), (10, 10)), ["can hold"]),
    "orbax: a negative length": (orbax(TREE, (-1, 3)), ["is damaged"]),
    "orbax: no number": (orbax(TREE, dtype="|O"), ["is damaged"]),
    "orbax: an array that is not there": (
        orbax(json.dumps(TREE).replace('{"key": "w"}', '{"key": "x"}')),
        ["no array 'x.kernel'"],
    ),
}


# Rules


def rules(text, words, name="layer.kernel"):
    """A rule file, for a checkpoint with one matrix."""

    def make(folder):
        path = folder / "rules.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        write = tensors({name: entry()}, bytes(24))
        return checkpoint(write, "step_1.safetensors", ["--rules", path])(folder)

    return make, words


def rule(pattern):
    return f"[[rule]]\nname = '{pattern}'\nrole = 'matrix'\n"


RULES = {
    "rules: repeats in repeats": rules(rule("(a+)+$"), ["--rules", "over"], "a" * 60 + "!"),
    "rules: alternatives in repeats": rules(rule("(a|a)*$"), ["--rules", "over"], "a" * 60 + "!"),
    "rules: many repeats": rules(rule("a*" * 40 + "$"), ["--rules", "over"], "a" * 300 + "!"),
    "rules: no expression": rules(rule("(("), ["is no regular expression"]),
    "rules: too many repeats": rules(rule("a{9999999999999}"), ["is no regular expression"]),
    "rules: deep": rules("rule = " + DEEP, ["cannot be read as TOML"]),
    "rules: megabytes": rules("#" * (2 << 20), ["over 1048576 bytes"]),
    "rules: 5000 digits": rules("rule = " + "9" * 5000, ["cannot be read as TOML"]),
    "rules: no text": rules(bytes(range(128, 256)), ["cannot be read as TOML"]),
}


# Run folders


def deep(name):
    """A folder with a JSON file that is nested deep."""

    def make(folder):
        (folder / name).write_text('{"a": ' + DEEP + "}")
        return folder

    return make


JSON = {
    "hmm.json: deep": (deep("hmm.json"), ["hmm.json is damaged (it is nested more than 50 deep)"]),
    "config.json: deep": (
        deep("config.json"),
        ["config.json is not JSON (it is nested more than 50 deep)"],
    ),
}


def hdf5(write):
    """A run folder whose `metrics.nc` a function writes."""

    def make(folder):
        run = folder / "run"
        run.mkdir()
        (run / "config.json").write_text('{"versions": {"seedmap": "1"}, "threshold": 0.9}')
        with h5py.File(run / "metrics.nc", "w") as file:
            write(file)
        return ["fit", run]

    return make


def elsewhere(file):
    """Writes another file beside it; returns its path."""
    path = os.path.join(os.path.dirname(os.path.dirname(file.filename)), "secret.h5")
    with h5py.File(path, "w") as other:
        other["l1"] = np.ones((3, 4))
    return path


def external_link(file):
    file["l1"] = h5py.ExternalLink(elsewhere(file), "/l1")


def soft_link(file):
    file["x"] = np.ones(3)
    file["l1"] = h5py.SoftLink("/x")


def virtual(file):
    layout = h5py.VirtualLayout((3, 4), "f8")
    layout[:] = h5py.VirtualSource(elsewhere(file), "l1", (3, 4))
    file.create_virtual_dataset("l1", layout)


def external_storage(file):
    path = elsewhere(file)
    file.create_dataset("l1", (3, 4), "f8", external=[(path, 0, h5py.h5f.UNLIMITED)])


LONG = 1 << 20
TEXTS = ["x" * LONG, *["y"] * 3999]


def refer_to_the_first(file):
    """Has all of `TEXTS` refer to the first, which is stored once."""
    path = Path(file.filename)
    file.close()
    content = bytearray(path.read_bytes())
    entry = struct.pack("<I", LONG) + bytes(12)  # length, place of the heap, number in it
    starts = [i for i in range(len(content)) if content.startswith(entry[:4], i)]
    following = struct.pack("<I", 1)
    (start,) = [i for i in starts if content[i + 16 : i + 20] == following]
    content[start : start + 16 * len(TEXTS)] = len(TEXTS) * content[start : start + 16]
    path.write_bytes(content)


def repeated_text(file):
    file.create_dataset("seed", data=TEXTS, dtype=h5py.string_dtype())
    refer_to_the_first(file)


def repeated_attribute(file):
    file.attrs.create("note", TEXTS, dtype=h5py.string_dtype())
    refer_to_the_first(file)


def many_attributes(file):
    for i in range(1500):
        file.attrs[f"a{i}"] = 0


def bomb(file):
    file.create_dataset("l1", data=np.zeros(12 << 20), compression=1, chunks=(1 << 20,))


def many_variables(file):
    for i in range(2500):
        file.create_group(f"g{i}")


HDF5 = {
    "hdf5: a link to another file": (hdf5(external_link), ["'l1' is a link to another place"]),
    "hdf5: a soft link": (hdf5(soft_link), ["'l1' is a link to another place"]),
    "hdf5: a virtual variable": (hdf5(virtual), ["'l1' is stored in another file"]),
    "hdf5: storage elsewhere": (hdf5(external_storage), ["'l1' is stored in another file"]),
    "hdf5: terabytes declared": (
        hdf5(lambda file: file.create_dataset("l1", (10**7, 10**7), "f8", chunks=(100, 100))),
        ["'l1' needs", "of memory"],
    ),
    "hdf5: a bomb": (
        hdf5(bomb),
        ["'l1' is declared", "can hold"],
    ),
    "hdf5: gigabytes by repeated text": (hdf5(repeated_text), ["'seed' is declared", "can hold"]),
    "hdf5: gigabytes by an attribute": (
        hdf5(repeated_attribute),
        ["attribute 'note' of the file is declared", "can hold"],
    ),
    "hdf5: many attributes": (hdf5(many_attributes), ["its attributes, holds 1500, at most"]),
    "hdf5: many variables": (hdf5(many_variables), ["holds 2500, at most"]),
    "hdf5: other content": (hdf5(lambda file: file.create_dataset("x", data=[1])), ["metrics.nc"]),
    "hdf5: objects": (
        hdf5(lambda f: f.create_dataset("l1", (3,), h5py.vlen_dtype(np.int32))),
        ["'l1' holds neither"],
    ),
}


def no_hdf5(folder):
    arguments = hdf5(lambda file: None)(folder)
    (folder / "run" / "metrics.nc").write_text("hello")
    return arguments


def half_hdf5(folder):
    arguments = hdf5(lambda file: file.create_dataset("l1", data=np.ones((30, 40))))(folder)
    half(folder / "run" / "metrics.nc")
    return arguments


FOLDERS = {
    "hdf5: half of it": (half_hdf5, ["metrics.nc cannot be read as NetCDF"]),
    "hdf5: none": (no_hdf5, ["metrics.nc cannot be read as NetCDF"]),
    "a folder of an escape's name": (lambda folder: ["fit", folder / "\x1b[31mred"], ["\\x1b[31m"]),
    "a folder of no text": (lambda folder: ["fit", folder / "\udcff"], ["\\udcff"]),
    "a word of megabytes": (lambda folder: ["fit", "x" * (1 << 20)], ["name"]),
    "a line end in an argument": (lambda folder: ["map", "a\nb: done"], ["there is no folder"]),
    "no number": (lambda folder: ["map", "run", "--threshold", "abc"], ["'abc' is not a number"]),
    "a word misspelt": (lambda folder: ["noise", "cmopare"], ["did you mean compare?"]),
}
