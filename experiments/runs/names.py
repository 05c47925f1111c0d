"""The names of a run folder's files: what `folder` reads and writes, free of imports."""

CONFIG = "config.json"
METRICS = "metrics.nc"
SWEEP = "sweep.json"
STABILITY = "stability.json"
MAPS = "maps.nc"  # the states at every number of states
PUBLISHED = "published"  # the HMM by the published method, where methods are compared
SUMMARY = "summary.json"
REPORT = "report.html"
FIGURES = "figures"
CHECKPOINT = "checkpoint"
TRAINING = "training"  # what a training writes until it is done
IMPORT, IMPORTED = "import.json", "import.jsonl"  # in there: an import of checkpoints
MEASURED = "measured.jsonl"  # of an import of checkpoints: what the next one knows
LOG = "log.jsonl"
FORECAST = "forecast.json"
BASELINES = "baselines.json"
PREDICTIONS = "predictions.npz"  # these three of a study of noise
BARRIERS = "barriers.nc"
NOISE = "noise.json"
NOISE_MAP = "map"  # the run whose training map a study's replicas are read with
HMM = ("hmm.npz", "hmm.json")
