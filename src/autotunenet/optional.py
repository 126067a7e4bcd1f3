"""Packages that only some users need are imported when they are used, and a missing one says how to install it."""

from __future__ import annotations

import importlib
from typing import Any


def import_optional(module: str, user: str, extra: str) -> Any:
    """Return a module that may not be installed.

    Args:
        module: Its dotted name.
        user: What needs it, for the message.
        extra: The extra of this package that brings it.

    Raises:
        ImportError: If it cannot be imported; it says how to install it.

    >>> import_optional("json", "this example", "plot").dumps(1)
    '1'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{user} needs {module}, which cannot be imported ({error}); "
            f"install it with: pip install 'autotunenet[{extra}]'"
        ) from error
