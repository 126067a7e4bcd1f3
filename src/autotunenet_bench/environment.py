"""What a run was computed with: equal specs give equal numbers only under equal versions, on equal processors."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

MACHINE = ("machine", "platform", "cpu", "cpu_capability")
"""Names in an environment that stand for no package: kind of processor, system with its C library, model of the
processor, and the widest instructions that torch uses on it, which decide about the last bits of a sum."""


def environment(packages: Sequence[str] = ()) -> dict[str, str]:
    """Return what decides about numbers, by name: versions of packages, and the machine (`MACHINE`).

    Threads are not here: a spec pins them (`RunSpec.num_threads`).

    Args:
        packages: Those that the run's task and method have beside ours; see `RunSpec.packages`.

    >>> sorted(environment())
    ['autotunenet', 'cpu', 'cpu_capability', 'machine', 'numpy', 'platform', 'python', 'torch']
    >>> sorted(environment(["scipy"]).keys() - environment().keys())
    ['scipy']
    """
    base = {name: metadata.version(name) for name in ("autotunenet", "numpy", "torch")}
    return {"python": platform.python_version(), **_machine(), **base, **_versions(packages)}


def is_other(stored: Any, packages: Sequence[str] = ()) -> bool:
    """Return whether a run was made with other versions than are installed now, or on another kind of machine.

    Args:
        stored: What `environment` returned when the run began, as read back. A run of before the versions of methods'
            packages or the model of the processor were stored says nothing of them, and that alone makes it no other.
        packages: Those that the run's task and method have beside ours.

    >>> is_other(environment()), is_other({**environment(), "torch": "1.0"}), is_other(None)
    (False, True, True)
    >>> is_other({**environment(), "cpu": "Z80"})
    True
    """
    if not isinstance(stored, Mapping):
        return True
    now, later = environment(packages), {*packages, *MACHINE} - {"machine"}
    return any(version != stored.get(name, version if name in later else None) for name, version in now.items())


@cache
def _machine() -> dict[str, str]:
    import torch

    library = " ".join(filter(None, platform.libc_ver()))
    return {
        "machine": platform.machine(),
        "platform": " ".join(
            filter(None, (platform.system(), library))
        ),  # not the kernel's version: it moves no number
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cpu_model() -> str:
    """Return the name of the processor as the system tells it; its kind where it tells none."""
    if platform.system() == "Linux" and os.access(CPU_INFO, os.R_OK):
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine()


CPU_INFO = Path("/proc/cpuinfo")


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # it may lie on the path without its metadata; the run itself will tell
            found[name] = "unknown"
    return found
