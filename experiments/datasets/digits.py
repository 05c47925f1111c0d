"""The 1797 handwritten digits of 8x8 pixels that scikit-learn carries, in MNIST's shape."""

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.datasets.images import Images, check_images

NUM_TRAIN = 1500
REPEAT, MARGIN = 3, 2  # 2 + 3 * 8 + 2 = 28


def load_digits() -> Images:
    """Returns scikit-learn's digits: uint8 [example, 28, 28, 1], 1500 to train, 297 to test.

    Every pixel is repeated 3 by 3 and a margin of 2 added, which MNIST has too; values 0 .. 16
    become 0 .. 255. The examples stand in the order of their writers, so most of those who
    wrote the last 297 wrote none of the others.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise UserError("the digits need scikit-learn: pip install 'seedmap[vision]'") from None
    digits = datasets.load_digits()
    levels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    enlarged = levels.repeat(REPEAT, axis=1).repeat(REPEAT, axis=2)
    images = np.pad(enlarged, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))[..., None]
    images, labels = check_images("scikit-learn's digits", images, digits.target, (28, 28, 1), 10)
    return Images(
        (images[:NUM_TRAIN], labels[:NUM_TRAIN]), (images[NUM_TRAIN:], labels[NUM_TRAIN:])
    )
