"""Downloads from the Hugging Face Hub, data sets and models, at a fixed commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autotunenet_bench.data.source import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRepo:
    """Where a data set lies on the Hub.

    Attributes:
        name: For example ``"ylecun/mnist"``.
        revision: The commit, 40 hexadecimal digits: whatever is pushed later, the files stay the same.
        folder: Of the parquet files in it.
        splits: What the files of the training and of the test part are called there.
    """

    name: str
    revision: str
    folder: str
    splits: tuple[str, str] = ("train", "test")

    @property
    def words(self) -> str:
        """What stands in the source of a run."""
        return f"Hugging Face Hub, {self.name} at {self.revision[:12]}"


def download(repo: HubRepo) -> Path:
    """Fetch the training and test files of a data set into the Hub's own cache; offline, take them from there.

    The client shows its progress and heeds ``HF_HUB_OFFLINE``, ``HF_HOME`` and the like. The package `datasets` would
    fetch the same files through the same client, keep a second copy of them in a cache of its own, and bring a dozen
    more packages; all that is left for it to do is reading parquet, which pyarrow does.

    Returns:
        The folder with the parquet files.

    Raises:
        DataError: If `huggingface_hub` is not installed, or the files can neither be fetched nor found in the cache.
    """
    patterns = [f"{repo.folder}/{split}-*.parquet" for split in repo.splits]
    return snapshot(repo.name, repo.revision, patterns, "dataset", "a data_dir") / repo.folder


def snapshot(name: str, revision: str, patterns: list[str], kind: Literal["dataset", "model"], instead: str) -> Path:
    """Fetch files of a repository on the Hub into the Hub's own cache; offline, take them from there.

    Args:
        name: Of the repository.
        revision: Its commit.
        patterns: Which files.
        kind: What kind of repository it is.
        instead: What can hold a copy, for the message where it cannot be fetched.

    Returns:
        The folder with the files, each at its place in the repository.

    Raises:
        DataError: As `download`.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DataError(
            f"downloading {name} needs the package huggingface_hub: pip install 'autotunenet[hub]'; or leave out "
            f"the download and give {instead}, or neither for what comes with an installed package, if any"
        ) from error
    try:
        return Path(snapshot_download(name, repo_type=kind, revision=revision, allow_patterns=patterns))
    # The Hub's client raises its own errors, its HTTP library's (another one since 1.0) and OSErrors.
    except Exception as error:
        raise DataError(
            f"{name} could not be downloaded from the Hugging Face Hub ({type(error).__name__}: {error}); check "
            f"the connection and HF_HUB_OFFLINE, or give {instead} that holds a copy"
        ) from error
