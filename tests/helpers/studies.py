"""Made-up folders of studies of noise, as `seedmap noise` leaves them, without any training."""

import numpy as np
import xarray as xr

from seedmap import files
from seedmap.experiments.noise.predictions import Predictions, save_predictions
from seedmap.experiments.noise.variants import make_variants
from seedmap.experiments.runs import folder as run_folder, ids
from seedmap.experiments.runs.netcdf import write_netcdf

REPLICAS, RECORDS, EXAMPLES = 3, 4, 40


def content(variants=None, **changes):
    """The `config.json` of a made-up study, of two variants unless others are given."""
    variants = variants or make_variants(("order",), REPLICAS)
    noise = {"asked": ["order"], "ulp_step": 0, "notes": [], "data": "1" * 64}
    config = {
        "experiment": "parities",
        "hyperparameters": {"learning_rate": 0.1, "seeds": 6, "seeds_at_once": 6, "vary": ["init"]},
        "noise": {**noise, "variants": [variant._asdict() for variant in variants]},
        "versions": {"seedmap": "1", "jax": "0.10.2"},
        "device": {
            "platform": "cpu",
            "kind": "cpu",
            "count": 1,
            "cpu_cores": 2,
            "usable_cores": 2,
            "processes": 1,
            "devices_used": 1,
        },
        "variables": {},
        "wall_seconds": {"compile": 1.0, "train": 2.0},
    }
    return config | changes


def numbers(rows=2 * REPLICAS):
    """Weights, records and predictions of a made-up study, to be changed at will."""
    rng = np.random.default_rng(0)
    return {
        "params": {
            "dense": {"kernel": rng.normal(size=(rows, 5, 3)).astype("float32")},
            "bias": rng.normal(size=(rows, 3)).astype("float32"),
        },
        "train_loss": rng.random((rows, RECORDS), "float32"),
        "l2": rng.random((rows, RECORDS), "float32"),
        "logits": rng.normal(size=(rows, EXAMPLES, 2)).astype("float32"),
        "diverged": np.full(rows, -1, np.int32),
    }


def records(made):
    """The `metrics.nc` of a made-up study."""
    rows = len(made["diverged"])
    step = 10 * np.arange(1, RECORDS + 1)
    return xr.Dataset(
        {
            "train_loss": (("seed", "step"), made["train_loss"]),
            "l2": (("seed", "step"), made["l2"]),
            "distance": (("seed", "step"), np.random.default_rng().random((rows, RECORDS))),
            "diverged": ("seed", made["diverged"]),
            "first_apart": (("seed", "step"), np.full((rows, RECORDS), np.nan)),
        },
        {"seed": np.arange(rows), "step": step, "epoch": ("step", step / 5)},
    )


def write(folder, made, config, dataset=None):
    """A study's folder as `seedmap noise` leaves it, with `records` unless others are given."""
    folder.mkdir(parents=True)
    label = np.arange(EXAMPLES) % 2
    correct = (made["logits"].argmax(axis=-1) == label).astype("float32")
    dataset = records(made) if dataset is None else dataset
    config, dataset = ids.stamped(config, dataset)
    training_id = config[ids.TRAINING]
    files.write_json(folder / run_folder.CONFIG, config)
    run_folder.write_dataset(folder, dataset)
    run_folder.save_params(folder, made["params"], training_id)
    loss = np.logaddexp.reduce(made["logits"], axis=-1) - made["logits"][..., 0]
    save_predictions(folder, Predictions(loss, correct, made["logits"], label, {}, training_id))
    error = np.full((len(config["noise"]["variants"]), 3, 11), np.nan)
    variables = {"error": (("variant", "pair", "point"), error)}
    barriers = xr.Dataset(variables, attrs={ids.TRAINING: training_id})
    write_netcdf(folder / run_folder.BARRIERS, barriers)
    return folder
