"""MNIST from the Hugging Face hub, where the library `datasets` is installed."""

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.datasets.images import Images, check_images

NAME = "ylecun/mnist"
ANSWER_SECONDS = 10.0


def load_mnist() -> Images:
    """Loads MNIST by the library `datasets`.

    The hub must answer even where the library keeps the files already: it is asked first, with a
    time limit, since the library itself retries for minutes where there is no network.

    Returns:
        uint8 [example, 28, 28, 1], labels 0 .. 9.

    Raises:
        UserError: the library is not installed, the hub gives nothing, or not MNIST.
    """
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError("the library `datasets` is not installed") from None
    # Broad on purpose: the two libraries raise errors of their HTTP clients, which changed between
    # their versions, and any of them means the same here.
    try:
        HfApi().dataset_info(NAME, timeout=ANSWER_SECONDS)
        dataset = datasets.load_dataset(NAME)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the hub gives no {NAME}: {type(error).__name__}, {reason}") from None
    splits = {}
    for split in ("train", "test"):
        images = np.stack([np.asarray(image) for image in dataset[split]["image"]])[..., None]
        labels = np.asarray(dataset[split]["label"])
        splits[split] = check_images(f"{NAME} ({split})", images, labels, (28, 28, 1), 10)
    return Images(**splits)
