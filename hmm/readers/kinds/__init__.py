"""Kinds of logs: each finds its files in a folder and reads them; told apart by looking.

A kind is a value in `KINDS`, in the order in which they are tried; a new one is one file here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from seedmap.hmm.readers.kinds.kind import Kind
from seedmap.hmm.readers.kinds.mlflow import MLFLOW
from seedmap.hmm.readers.kinds.paper import PAPER
from seedmap.hmm.readers.kinds.recorded import RECORDED
from seedmap.hmm.readers.kinds.tables import CSV, JSON, JSONL, PARQUET
from seedmap.hmm.readers.kinds.tensorboard import TENSORBOARD, TENSORBOARD_CSV
from seedmap.hmm.readers.kinds.text import TEXT
from seedmap.hmm.readers.kinds.trainer_state import TRAINER_STATE
from seedmap.hmm.readers.kinds.wandb import WANDB_CHART

_IN_ORDER = (
    *(RECORDED, TRAINER_STATE, WANDB_CHART, TENSORBOARD_CSV, MLFLOW),
    *(CSV, JSONL, PARQUET, PAPER, JSON, TENSORBOARD, TEXT),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _IN_ORDER})
