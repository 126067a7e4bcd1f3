"""Small data sets in the Hub's layout, of real pictures and real texts that come with scikit-learn."""

import functools
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NUM_TRAIN, NUM_TEST = 300, 40


@functools.cache
def pictures():
    """Pieces of two photographs, ``(n, 32, 32, 3)``, and labels, all ten classes alike."""
    from sklearn.datasets import load_sample_images

    step, num = 32, NUM_TRAIN + NUM_TEST
    pieces = [
        photo[y : y + 32, x : x + 32]
        for photo in load_sample_images().images
        for y in range(0, 396, step)
        for x in range(0, 609, step)
    ]
    return np.stack(pieces[:num]), np.arange(num) % 10


@functools.cache
def texts():
    """Passages of 30 words from the descriptions of five data sets, and whether they are of the last three."""
    from sklearn import datasets

    names = ("iris", "wine", "digits", "breast_cancer", "diabetes")
    passages, labels = [], []
    for number, name in enumerate(names):
        words = getattr(datasets, f"load_{name}")().DESCR.split()
        found = [" ".join(words[start : start + 30 + start % 11]) for start in range(0, len(words) - 40, 3)]
        passages += found
        labels += [int(number >= 2)] * len(found)
    order = np.random.default_rng(0).permutation(len(passages))[: NUM_TRAIN + NUM_TEST]
    assert len(order) == NUM_TRAIN + NUM_TEST
    return [passages[i] for i in order], [labels[i] for i in order]


def write_cifar10(root):
    """Write training and test images into a data directory."""
    images, labels = pictures()
    column = [{"bytes": _png(image), "path": None} for image in images]
    _write(root / "cifar10" / "plain_text", {"img": column, "label": labels.tolist()})


def write_imdb(root):
    """Write training and test texts into a data directory."""
    passages, labels = texts()
    _write(root / "imdb" / "plain_text", {"text": passages, "label": labels})


def write_glue(root):
    """Write training and validation parts into a data directory: texts as SST-2, halves of texts as MRPC."""
    passages, labels = texts()
    splits = ("train", "validation")
    idx = list(range(len(labels)))
    _write(root / "glue" / "sst2", {"sentence": passages, "label": labels, "idx": idx}, splits)
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in passages]
    pairs = {f"sentence{number + 1}": [half[number] for half in halves] for number in (0, 1)}
    _write(root / "glue" / "mrpc", {**pairs, "label": labels, "idx": idx}, splits)


def _png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _write(folder, columns, splits=("train", "test")):
    folder.mkdir(parents=True)
    for split, part in zip(splits, (slice(None, NUM_TRAIN), slice(NUM_TRAIN, None)), strict=True):
        table = pa.table({name: values[part] for name, values in columns.items()})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
