"""One order for all data sets: the user's folder, else the Hub where a download was asked for, else a package."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.data.hub import HubRepo, download
from autotunenet_bench.data.parquet import find_shards
from autotunenet_bench.data.source import DATA_DIR_VARIABLE, DataError, DataSource
from autotunenet_bench.data.splits import stratified_share, three_way_split


class Examples(Sized, Protocol):
    """A part of a data set."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Shape ``(n,)``."""
        ...


class DataSet(Protocol):
    """A decoded data set: an `ImageSet` or a `TextSet`."""

    @property
    def name(self) -> str:
        """What it may call itself."""
        ...

    @property
    def source(self) -> str:
        """Where it came from, in words."""
        ...

    @property
    def train(self) -> Examples:
        """What runs train and validate on."""
        ...

    @property
    def test(self) -> Examples | None:
        """The test examples, where the source has them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The parquet files of a data set.

    Attributes:
        train: Of the training part, in order; at least one.
        test: Of the test part; may be empty.
        source: Where they came from, in words.
    """

    train: list[Path]
    test: list[Path]
    source: str


AnySet = TypeVar("AnySet", bound=DataSet)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a data set may lie.

    Attributes:
        title: Its name in messages, for example ``"MNIST"``.
        folders: Where the parquet files may lie in a `data_dir`, best first; ``"."`` is the `data_dir` itself.
        repo: Where they lie on the Hub.
        num_train: Examples of the whole training part. Whoever asks for the whole gets no fewer.
        unit: What an example is, in the plural.
        also: Other files that a `data_dir` may hold in their place, for the message that there are none.
        installed: What there is without a `data_dir`, after "to use"; empty: nothing.
    """

    title: str
    folders: tuple[str, ...]
    repo: HubRepo
    num_train: int
    unit: str
    also: str = ""
    installed: str = ""


def resolve(
    places: Places,
    source: DataSource,
    from_shards: Callable[[Shards], AnySet],
    from_package: Callable[[], AnySet] | None = None,
    from_other_files: Callable[[Path], AnySet | None] = lambda root: None,
) -> AnySet:
    """Find a data set and decode it: `data_dir` where it is set, else the Hub where asked for, else a package.

    Args:
        places: Where it may lie.
        source: What the user allows.
        from_shards: Decodes parquet files.
        from_package: Decodes what is installed; None if no package has it.
        from_other_files: Decodes other files in a `data_dir` that has no parquet files; returns None if none are there.

    Raises:
        DataError: If the data asked for is missing or damaged, or is a part where `full` asks for the whole. There is
            no falling back from one to the next.
    """
    if source.data_dir is not None:
        found = _from_folder(places, source.data_dir, from_shards, from_other_files)
    elif source.download:
        found = from_shards(_download(places))
    elif from_package is not None:
        found = from_package()
    else:
        raise DataError(
            f"{places.title} comes with no package: name a folder that holds {_wanted(places)} with --data-dir or "
            f"{DATA_DIR_VARIABLE}, or fetch it from the Hugging Face Hub ({places.repo.name}) with --download"
        )
    if source.full and len(found.train) < places.num_train:
        raise DataError(
            f"the whole of {places.title} was asked for (--full), {places.num_train:,} training {places.unit}, and "
            f"{found.source} has {len(found.train):,}; name a folder that holds all of it with --data-dir or "
            f"{DATA_DIR_VARIABLE}, or fetch it with --download, or leave out --full"
        )
    return found


def split(data: DataSet, val_share: float, num_test: int = 0) -> tuple[NDArray[np.intp], ...]:
    """Share the training examples out to training, validation and test; stratified, and the same in every run.

    Args:
        data: Where it has test examples of its own, no training example is given up for the test.
        val_share: Of the training examples, the share that is kept for validation; at least one example.
        num_test: How many are kept for the test.

    Returns:
        Indices into `data.train`, as `three_way_split`.

    Raises:
        DataError: If `num_test` leaves nothing to train on.
    """
    num_val = max(1, round(val_share * len(data.train)))
    try:
        return three_way_split(data.train.labels, num_val, 0 if data.test else num_test)
    except ValueError as error:
        raise DataError(f"{data.name} from {data.source}: {error}; lower num_test of the task") from error


def parts_of(data: DataSet, val_share: float, num_test: int, fraction: float) -> tuple[NDArray[np.intp], ...]:
    """Share a data set out to training, validation and test, and take a fraction of each part, of every class alike.

    Args:
        data: As for `split`.
        val_share: As for `split`.
        num_test: As for `split`.
        fraction: Share of each part that is used, in (0, 1].

    Returns:
        Indices of the training and the validation examples, into `data.train`, and of the test examples, into
        `data.test`, or into `data.train` too where there is none.

    Raises:
        DataError: As `split`.
    """
    train, val, test = split(data, val_share, num_test)
    labels = data.train.labels
    kept = [part[stratified_share(labels[part], fraction)] for part in (train, val, test)]
    return (*kept[:2], stratified_share(data.test.labels, fraction)) if data.test else tuple(kept)


def _from_folder(
    places: Places,
    root: Path,
    from_shards: Callable[[Shards], AnySet],
    from_other_files: Callable[[Path], AnySet | None],
) -> AnySet:
    leave = f"unset data_dir and {DATA_DIR_VARIABLE}" + (f" to use {places.installed}" if places.installed else "")
    if not root.is_dir():
        raise DataError(f"the data directory {root} does not exist or is no folder; correct it, or {leave}")
    folders = [root / folder for folder in places.folders]
    if shards := _shards(folders, places.repo.splits, "parquet files in the Hub's layout"):
        return from_shards(shards)
    if (found := from_other_files(root)) is not None:
        return found
    raise DataError(
        f"the data directory {root} holds no {places.title}: looked for {_wanted(places)}; put the files there, or "
        f"{leave}"
    )


def _download(places: Places) -> Shards:
    shards = _shards([download(places.repo)], places.repo.splits, places.repo.words)
    if shards is None:
        raise DataError(
            f"the download of {places.repo.name} holds no {places.repo.folder}/train-*.parquet; clear it from the "
            f"Hub's cache"
        )
    return shards


def _shards(folders: list[Path], splits: tuple[str, str], source: str) -> Shards | None:
    name, test_name = splits
    train = find_shards(folders, name)
    return Shards(train=train, test=find_shards([train[0].parent], test_name), source=source) if train else None


def _wanted(places: Places) -> str:
    where = ["it" if folder == "." else f"{folder}/" for folder in sorted(places.folders, key=len)]
    return f"train-*.parquet in {', in '.join(where[:-1])} and in {where[-1]}{places.also}"
