"""Where data may come from. What a run was trained on in the end stands in `DataInfo`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATA_DIR_VARIABLE = "AUTOTUNENET_DATA_DIR"
"""Environment variable with the folder of the user's own copies of the data sets."""


class DataError(ValueError):
    """Data that was asked for is missing or damaged. The message says which file, what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where a task may take its data from: `data_dir` before a download before the copy inside a package.

    Attributes:
        data_dir: Folder of the user's own copies. Where it is set it is used, or it is an error: a run never falls
            back to other data in silence.
        download: Whether the data may be fetched from the Hugging Face Hub.
        full: Whether a part of a data set will not do, such as the one inside a package: then it is an error.
    """

    data_dir: Path | None = None
    download: bool = False
    full: bool = False

    @classmethod
    def from_environment(
        cls, data_dir: str | Path | None = None, download: bool = False, full: bool = False
    ) -> DataSource:
        """Return a source whose `data_dir` is the given one or else that of ``AUTOTUNENET_DATA_DIR``.

        The folder is made absolute, so that worker processes started elsewhere find it too. An empty value is none.

        >>> DataSource.from_environment("/data").data_dir.is_absolute()
        True
        """
        folder = str(data_dir or os.environ.get(DATA_DIR_VARIABLE, "")).strip()
        return cls(Path(folder).expanduser().absolute() if folder else None, download, full)
