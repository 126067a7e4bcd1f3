"""Downloads from the Hugging Face Hub, at a fixed commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotunenet_bench.data.source import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRepo:
    """Where a data set lies on the Hub.

    Attributes:
        name: For example ``"ylecun/mnist"``.
        revision: The commit, 40 hexadecimal digits: whatever is pushed later, the files stay the same.
        folder: Of the parquet files in it.
    """

    name: str
    revision: str
    folder: str

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
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DataError(
            f"downloading {repo.name} needs the package huggingface_hub: pip install 'autotunenet[hub]'; or leave out "
            f"the download and give a data_dir, or neither for the data that come with an installed package, if any"
        ) from error
    patterns = [f"{repo.folder}/{split}-*.parquet" for split in ("train", "test")]
    try:
        root = snapshot_download(repo.name, repo_type="dataset", revision=repo.revision, allow_patterns=patterns)
    # The Hub's client raises its own errors, its HTTP library's (another one since 1.0) and OSErrors.
    except Exception as error:
        raise DataError(
            f"{repo.name} could not be downloaded from the Hugging Face Hub ({type(error).__name__}: {error}); check "
            f"the connection and HF_HUB_OFFLINE, or give a data_dir that holds a copy"
        ) from error
    return Path(root) / repo.folder
