"""The handwritten digits inside scikit-learn: 1,797 images of 8x8 pixels with values 0..16.

The test part of "Optical Recognition of Handwritten Digits" by Alpaydin and Kaynak (UCI, 1998).
"""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache

import numpy as np

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.data.images import LabelledImages
from autotunenet_bench.data.splits import stratified_split
from autotunenet_bench.types import DataInfo, TaskData

MEAN, STD = 0.3053, 0.3761
"""Of all pixels scaled to [0, 1]."""

NUM_VAL = 360


def load_digits(batch_size: int) -> tuple[TaskData, DataInfo]:
    """Return the digits split into 1,437 training and 360 validation examples, both in the order of the file.

    Returns:
        Batches of inputs ``(n, 64)``, float32, normalised, and targets ``(n,)``, int64; and what they are.
    """
    digits = decode_digits()
    parts = stratified_split(digits.labels, NUM_VAL)
    (train_x, train_y), (val_x, val_y) = (digits.tensors(index, 16, MEAN, STD) for index in parts)
    data = TaskData(
        TensorBatches(train_x.flatten(1), train_y, batch_size), TensorBatches(val_x.flatten(1), val_y, NUM_VAL)
    )
    return data, DataInfo(
        name="digits",
        source=f"scikit-learn {importlib.metadata.version('scikit-learn')}",
        num_train=len(train_y),
        num_val=len(val_y),
        sha256=digits.sha256(),
    )


@lru_cache(maxsize=1)
def decode_digits() -> LabelledImages:
    """Decode scikit-learn's file, once per process."""
    from sklearn.datasets import load_digits as load  # imports scipy: a second that other tasks need not pay

    bunch = load()
    return LabelledImages(bunch.images.astype(np.uint8), bunch.target.astype(np.uint8))
