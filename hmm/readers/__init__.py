"""Readers of recorded metrics: xarray, pandas, CSV, JSON lines, the paper's released JSON."""

from seedmap.hmm.readers.read import from_pandas, from_xarray, read_csv_folder, read_metrics
from seedmap.hmm.readers.run_table import RunTable

__all__ = ["RunTable", "from_pandas", "from_xarray", "read_csv_folder", "read_metrics"]
