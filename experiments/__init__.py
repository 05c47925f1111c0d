"""The experiments by name; each is a file in `tasks/`, imported when it is asked for."""

from collections.abc import Iterable
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from seedmap.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from seedmap.experiments.tasks.base import Experiment


class Entry(NamedTuple):
    """Name, file and one-line description of an experiment.

    Attributes:
        module: in `experiments.tasks`.
        attribute: of the module, an `Experiment`.
        description: one line for `--help`.
    """

    module: str
    attribute: str
    description: str


EXPERIMENTS = MappingProxyType(
    {
        "parities": Entry(
            "sparse_parities",
            "EXPERIMENT",
            "Sparse parities: the product of 3 of 40 bits, by an MLP (Hu et al. 2023).",
        ),
        "modular": Entry(
            "modular",
            "MODULAR",
            "Modular arithmetic, a one-layer transformer (Hu et al. 2023).",
        ),
        "modular-stabilised": Entry(
            "modular",
            "MODULAR_STABILISED",
            "Modular arithmetic with layer norm in small batches (Hu et al. 2023).",
        ),
        "mnist": Entry(
            "mnist", "EXPERIMENT", "MNIST: ten digits, by an MLP or LeNet-5 (Hu et al. 2023)."
        ),
        "cifar10": Entry("cifar", "CIFAR10", "CIFAR-10, ResNet18 (Hu et al. 2023)."),
        "cifar10-destabilised": Entry(
            "cifar",
            "CIFAR10_DESTABILISED",
            "CIFAR-10, ResNet18 without batch norm and residual connections (Hu et al. 2023).",
        ),
        "cifar100": Entry("cifar", "CIFAR100", "CIFAR-100, ResNet18 (Hu et al. 2023)."),
        "cifar100-destabilised": Entry(
            "cifar",
            "CIFAR100_DESTABILISED",
            "CIFAR-100, ResNet18 without batch norm and residual connections (Hu et al. 2023).",
        ),
        "smallcnn": Entry(
            "small_cnn",
            "EXPERIMENT",
            "CIFAR, a small convolutional network with or without batch norm (Zhuang et al. 2022).",
        ),
        "adult": Entry(
            "adult",
            "EXPERIMENT",
            "Adult census: income above 50 000 dollars, by an MLP, with subgroups.",
        ),
        "celeba": Entry(
            "celeba",
            "EXPERIMENT",
            "CelebA: one attribute of faces, by ResNet18, with subgroups (Zhuang et al. 2022).",
        ),
        "mlm": Entry(
            "masked_lm",
            "EXPERIMENT",
            "Masked language model of BERT's shape on any text (Hu et al. 2023, MultiBERTs).",
        ),
    }
)


def load_experiment(name: str, others: Iterable[str] = ()) -> "Experiment":
    """Returns the experiment of a name; imports its file.

    Args:
        name: of the experiment.
        others: words that could have been meant as well.

    Raises:
        UserError: no experiment has the name.
    """
    if name not in EXPERIMENTS:
        hint = did_you_mean(name, [*EXPERIMENTS, *others])
        raise UserError(f"unknown experiment {name!r}{hint}; known are: {', '.join(EXPERIMENTS)}")
    entry = EXPERIMENTS[name]
    return getattr(import_module(f"seedmap.experiments.tasks.{entry.module}"), entry.attribute)
