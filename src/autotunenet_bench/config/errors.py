"""What is wrong with a config, told so that its author can mend it without reading code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Loc = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the top, ``("regimes", 0, "severity")``."""

MAX_TOLD = 50
"""Problems that a message tells; the rest is counted."""

MAX_KEY = 200
"""Letters of a key that a message shows."""

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a config.

    Attributes:
        where: ``"file:line"``, or the ``"--set key=value"`` that brought the value in.
        rule: What would be right, or what is wrong.
        mend: What to write instead; may be empty.
        loc: The faulty key; ``()`` for the whole file.
        value: What stands there; leave it out where there is no value to show.

    >>> print(Problem("a.yaml:3", "must be a number <= 10", "lower it", ("controller", "max_delta"), 50))
    a.yaml:3: controller.max_delta = 50: must be a number <= 10; lower it
    """

    where: str
    rule: str
    mend: str = ""
    loc: Loc = ()
    value: Any = _NOTHING

    def __str__(self) -> str:
        shown = "" if self.value is _NOTHING else f" = {show(self.value)}"
        key = f"{_shortened(dotted(self.loc), MAX_KEY)}{shown}: " if self.loc else ""
        return _printable(f"{self.where}: {key}{self.rule}{'; ' if self.mend else ''}{self.mend}")


class ConfigError(ValueError):
    """A config that cannot be used. Holds every problem found, not the first one only."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        told = [str(problem) for problem in self.problems[:MAX_TOLD]]
        if num_more := len(self.problems[MAX_TOLD:]):
            told.append(f"and {num_more} more problems")
        super().__init__("\n".join(told))


def dotted(loc: Loc) -> str:
    """Write a location as ``--set`` takes it: ``regimes.0.severity``."""
    return ".".join(str(part) for part in loc)


def show(value: Any, width: int = 60) -> str:
    """Write a value as YAML writers know it, on one line, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return _shortened(repr(value), width)


def _printable(text: str) -> str:
    r"""Return a message on one line that does nothing to a terminal: there are anybody's words in it.

    >>> _printable("a\x1b[31mb\nc")
    'a�[31mb c'
    """
    signs = (" " if sign.isspace() else sign for sign in text)
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in signs)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? "`` for the nearest known word, or nothing when none is near.

    >>> did_you_mean("cosin", ["cosine", "fixed"])
    "did you mean 'cosine'? "
    """
    near = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}? " if near else ""
