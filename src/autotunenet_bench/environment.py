"""What a run was computed with: equal specs give equal numbers only under equal versions."""

from __future__ import annotations

import platform
from importlib import metadata


def environment() -> dict[str, str]:
    """Return the versions that decide about numbers, by name.

    >>> sorted(environment())
    ['autotunenet', 'machine', 'numpy', 'python', 'torch']
    """
    packages = {name: metadata.version(name) for name in ("autotunenet", "numpy", "torch")}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}
