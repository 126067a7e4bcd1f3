"""What a callback is given is checked when it is made, and not when the training begins."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from autotunenet.autotune import AutoTuneNet, make_tuner
from autotunenet.tuner import Tuner

_OF_THE_ADAPTER = {"self", "run", "model", "optimizer", "controller", "snapshots", "options"}


def check_options(owner: str, options: Mapping[str, Any], *, without: Collection[str] = ()) -> None:
    """Refuse names that `AutoTuneNet` does not take.

    Args:
        owner: Who was given them, for the message.
        options: By name.
        without: Names that make no sense here.

    Raises:
        TypeError: If there is one.

    >>> check_options("AutoTuneNetCallback", {"intervall": 5})
    Traceback (most recent call last):
        ...
    TypeError: AutoTuneNetCallback takes no 'intervall'; did you mean 'interval'?
    """
    known = {name for make in (AutoTuneNet, make_tuner, Tuner) for name in inspect.signature(make).parameters}
    known -= {*_OF_THE_ADAPTER, *without}
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            mend = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(sorted(known))}"
            raise TypeError(f"{owner} takes no {name!r}; {mend}")
