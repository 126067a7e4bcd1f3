"""Data sets: where they may come from, how they are decoded, and the resumable batches made of them.

Nothing here needs the network unless it is asked for: every data set but CIFAR-10 has a copy, or a part of it, inside
an installed package.
"""

from autotunenet_bench.data.batches import TensorBatches, as_tensor_batches
from autotunenet_bench.data.seeds import stream_seed
from autotunenet_bench.data.source import DATA_DIR_VARIABLE, MODEL_DIR_VARIABLE, DataError, DataSource

__all__ = [
    "DATA_DIR_VARIABLE",
    "MODEL_DIR_VARIABLE",
    "DataError",
    "DataSource",
    "TensorBatches",
    "as_tensor_batches",
    "stream_seed",
]
