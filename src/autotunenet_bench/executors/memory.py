"""How much memory a process holds, as the system has it, where it says so: on Linux."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def can_measure() -> bool:
    """Return whether `resident_bytes` can tell anything on this system."""
    return (PROC / "self/statm").exists()


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and of all that it has started; 0 of one that is gone.

    Pages that several processes share, such as those of libraries, count for each.

    >>> resident_bytes(os.getpid()) > 1_000_000 or not can_measure()
    True
    """
    try:
        num_pages = int((PROC / str(pid) / "statm").read_text(encoding="ascii").split()[1])
        children = "".join(path.read_text(encoding="ascii") for path in (PROC / str(pid) / "task").glob("*/children"))
    except OSError:  # it has ended meanwhile
        return 0
    return num_pages * os.sysconf("SC_PAGE_SIZE") + sum(resident_bytes(int(child)) for child in children.split())


def format_bytes(num_bytes: float) -> str:
    """Return a size as people write it.

    >>> format_bytes(1_500_000_000), format_bytes(80_000_000)
    ('1.5 GB', '80 MB')
    """
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def parse_bytes(text: str) -> int:
    """Return the bytes that a text such as "4GB", "500 MB" or "1.5GiB" names; a bare number is one of bytes.

    Raises:
        ValueError: If it names none.

    >>> parse_bytes("1.5GB"), parse_bytes("512 MiB"), parse_bytes("1000000")
    (1500000000, 536870912, 1000000)
    """
    plain = text.replace(" ", "").upper()
    number = plain.rstrip("KMGTIB")
    unit = plain[len(number) :]
    try:
        value = float(number) * _UNITS[unit]
    except (KeyError, ValueError):
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r} is no size; write a number and a unit (KB, MB, GB, TB, KiB, ...), as in 4GB")
    return int(value)


_UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base ** (power + 1)
    for power, prefix in enumerate("KMGT")
    for suffix, base in (("", 1000), ("B", 1000), ("I", 1024), ("IB", 1024))
}
