"""The names of what training records: metrics that training maps are fitted to, and outcomes."""

PAPER_METRICS = (  # Hu et al. 2023 (arXiv 2308.09543), section 2.1
    "l1",
    "l2",
    "code_sparsity",
    "mean_w",
    "median_w",
    "var_w",
    "mean_b",
    "median_b",
    "var_b",
    "trace",
    "spectral",
    "computational_sparsity",
    "mean_lambda",
    "var_lambda",
)
OUTCOMES = ("train_loss", "eval_loss", "train_accuracy", "eval_accuracy")
