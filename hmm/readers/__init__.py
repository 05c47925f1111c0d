"""Readers: metrics of runs from whatever recorded them, by one route (`readers.read`)."""

from seedmap.hmm.readers.memory import from_pandas, from_xarray
from seedmap.hmm.readers.read import read_metrics
from seedmap.hmm.readers.run_table import RunTable

__all__ = ["RunTable", "from_pandas", "from_xarray", "read_metrics"]
