"""The handwritten digits inside scikit-learn: 1,797 images of 8x8 pixels with values 0..16.

The test part of "Optical Recognition of Handwritten Digits" by Alpaydin and Kaynak (UCI, 1998).
"""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.data.images import LabelledImages
from autotunenet_bench.data.source import DataError
from autotunenet_bench.data.splits import stratified_share, three_way_split
from autotunenet_bench.types import DataInfo, TaskData

MEAN, STD = 0.3053, 0.3761
"""Of all pixels scaled to [0, 1]."""

NUM_VAL = 360


def load_digits(batch_size: int, num_test: int = 0, data_fraction: float = 1.0) -> tuple[TaskData, DataInfo]:
    """Return the digits split into 1,437 training and 360 validation examples, both in the order of the file.

    Args:
        batch_size: Training examples a step.
        num_test: Of the training examples, how many are kept for the test.
        data_fraction: Share of each part that is used, in (0, 1].

    Returns:
        Batches of inputs ``(n, 64)``, float32, normalised, and targets ``(n,)``, int64; and what they are.

    Raises:
        DataError: If `num_test` leaves nothing to train on.
    """
    digits = decode_digits()
    try:
        parts = three_way_split(digits.labels, NUM_VAL, num_test)
    except ValueError as error:
        raise DataError(f"scikit-learn's digits: {error}; lower num_test of the task") from error

    train, val, test = (part[stratified_share(digits.labels[part], data_fraction)] for part in parts)

    def batches(index: NDArray[np.intp], size: int) -> TensorBatches:
        inputs, targets = digits.tensors(index, 16, MEAN, STD)
        return TensorBatches(inputs.flatten(1), targets, size)

    data = TaskData(batches(train, batch_size), batches(val, NUM_VAL), batches(test, NUM_VAL) if num_test else None)
    return data, DataInfo(
        name="digits",
        source=f"scikit-learn {importlib.metadata.version('scikit-learn')}",
        num_train=len(train),
        num_val=len(val),
        num_test=len(test),
        sha256=digits.sha256(),
    )


@lru_cache(maxsize=1)
def decode_digits() -> LabelledImages:
    """Decode scikit-learn's file, once per process."""
    # The file that `sklearn.datasets.load_digits()` reads, but without its imports: 10 ms instead of 1.3 s a process.
    path = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(path), dtype=np.uint8, delimiter=",")  # 64 pixels and a label
    return LabelledImages(rows[:, :-1].reshape(-1, 8, 8), rows[:, -1])
