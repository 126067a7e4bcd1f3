"""What the surrogate search needs beyond numpy is imported when a search is made, and not before."""

from __future__ import annotations

from importlib import import_module


def check_extras(user: str) -> None:
    """Check that scipy and scikit-learn are there.

    Args:
        user: Who needs them, for the message.

    Raises:
        ImportError: If they are not; it says how to install them.
    """
    try:
        import_module("scipy")
        import_module("sklearn")
    except ImportError as error:
        raise ImportError(
            f"{user} needs scipy and scikit-learn ({error}); install them with: pip install 'autotunenet[hpo]'"
        ) from error
