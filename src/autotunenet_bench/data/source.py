"""Where data may come from. What a run was trained on in the end stands in `DataInfo`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATA_DIR_VARIABLE = "AUTOTUNENET_DATA_DIR"
"""Environment variable with the folder of the user's own copies of the data sets."""


MODEL_DIR_VARIABLE = "AUTOTUNENET_MODEL_DIR"
"""Environment variable with the folder of the user's own copies of pretrained models, a folder each."""


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
        model_dir: Folder of the user's own copies of pretrained models; see `autotunenet_bench.data.pretrained`.
    """

    data_dir: Path | None = None
    download: bool = False
    full: bool = False
    model_dir: Path | None = None

    @classmethod
    def from_environment(
        cls, data_dir: str | Path | None = None, download: bool = False, full: bool = False
    ) -> DataSource:
        """Return a source whose `data_dir` is the given one or else that of ``AUTOTUNENET_DATA_DIR``.

        Its `model_dir` is that of ``AUTOTUNENET_MODEL_DIR``. Folders are made absolute, so that worker processes
        started elsewhere find them too. An empty value is none.

        >>> DataSource.from_environment("/data").data_dir.is_absolute()
        True
        """
        given = str(data_dir or os.environ.get(DATA_DIR_VARIABLE, "")), os.environ.get(MODEL_DIR_VARIABLE, "")
        folder, models = (Path(name.strip()).expanduser().absolute() if name.strip() else None for name in given)
        return cls(folder, download, full, models)
