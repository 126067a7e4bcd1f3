"""What a run was computed with: equal specs give equal numbers only under equal versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any


def environment(packages: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions that decide about numbers, by name.

    Args:
        packages: Those that the run's task and method have beside ours; see `RunSpec.packages`.

    >>> sorted(environment())
    ['autotunenet', 'machine', 'numpy', 'python', 'torch']
    >>> sorted(environment(["scipy"]).keys() - environment().keys())
    ['scipy']
    """
    base = {name: metadata.version(name) for name in ("autotunenet", "numpy", "torch")}
    return {"python": platform.python_version(), "machine": platform.machine(), **base, **_versions(packages)}


def is_other(stored: Any, packages: Sequence[str] = ()) -> bool:
    """Return whether a run was made with other versions than are installed now.

    Args:
        stored: What `environment` returned when the run began, as read back. A run of before the versions of methods'
            packages were stored says nothing of them, and that alone makes it no other.
        packages: Those that the run's task and method have beside ours.

    >>> is_other(environment()), is_other({**environment(), "torch": "1.0"}), is_other(None)
    (False, True, True)
    """
    if not isinstance(stored, Mapping):
        return True
    now = environment(packages)
    return any(version != stored.get(name, version if name in packages else None) for name, version in now.items())


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # it may lie on the path without its metadata; the run itself will tell
            found[name] = "unknown"
    return found
