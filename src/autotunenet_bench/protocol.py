"""The version of the measurement rules, and which versions may be compared. Imports nothing."""

from __future__ import annotations

import re

PROTOCOL_VERSION = "1.1"
"""Of the measurement rules. Results with the same Major.Minor may be compared."""

_VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+)?")


def comparable(one: str, other: str) -> bool:
    """Whether results of two versions may be compared: Major and Minor are the same.

    A third number, which may be left out, counts changes that move no number of an earlier run.

    Args:
        one: "Major.Minor" or "Major.Minor.Patch".
        other: Likewise.

    Raises:
        ValueError: If one is no such version.

    >>> comparable("1.1", "1.1.3"), comparable("1.0", "1.1"), comparable("1.1", "2.1")
    (True, False, False)
    """
    return _major_minor(one) == _major_minor(other)


def _major_minor(version: str) -> tuple[int, int]:
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise ValueError(
            f"a version must read Major.Minor or Major.Minor.Patch, such as {PROTOCOL_VERSION}: {version!r}"
        )
    return int(match[1]), int(match[2])
