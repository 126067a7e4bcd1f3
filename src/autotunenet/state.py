"""Saved state made of plain values: the common half of controllers and monitors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


class PlainState:
    """State kept in plain attributes that the class names in `state_names`.

    Each holds a number, a string, a boolean, None, or a list or dict of such. Everything else that matters on resume
    (random generators, nested parts) is a subclass's to add, in overrides of the two methods.
    """

    state_names: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on bit for bit; shares nothing with the live object."""
        return {name: copy_plain(getattr(self, name)) for name in self.state_names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: If the keys are not those of this class's states; nothing is loaded then.
        """
        check_keys(type(self).__name__, state_dict, self.state_names)
        for name in self.state_names:
            setattr(self, name, copy_plain(state_dict[name]))


def check_keys(owner: str, state_dict: Mapping[str, Any], expected: Collection[str]) -> None:
    """Refuse a state that is not one of `owner`'s.

    Raises:
        ValueError: If a key is missing or unknown.
    """
    missing, unknown = sorted(set(expected) - set(state_dict)), sorted(set(state_dict) - set(expected))
    if missing or unknown:
        raise ValueError(
            f"this is no state of {owner}: "
            + "; ".join(
                f"{word} {', '.join(keys)}"
                for word, keys in (("it lacks", missing), ("it has unknown", unknown))
                if keys
            )
            + f". Load a state_dict() that the same version of {owner} gave."
        )


def copy_plain(value: Any) -> Any:
    """Copy nested dicts and lists of plain values.

    >>> inner = [1, 2]
    >>> copy_plain({"a": inner})["a"] is inner
    False
    """
    if isinstance(value, dict):
        return {key: copy_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy_plain(item) for item in value]
    return value
