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
            ValueError: If the keys are not those of this class's states, or a value is of another kind than the one
                here; nothing is loaded then.
        """
        self.check_plain(state_dict)
        for name in self.state_names:
            setattr(self, name, copy_plain(state_dict[name]))

    def check_plain(self, state_dict: Mapping[str, Any]) -> None:
        """Refuse what `load_state_dict` could not go on from: a subclass asks first, where it loads other parts too.

        Raises:
            ValueError: If a name of `state_names` is missing or another is there, or a value is of another kind.
        """
        owner = type(self).__name__
        check_keys(owner, state_dict, self.state_names)
        for name in self.state_names:
            check_kind(f"{owner}: {name}", state_dict[name], getattr(self, name))


def check_keys(owner: str, state_dict: Mapping[str, Any], expected: Collection[str]) -> None:
    """Refuse a state that is not one of `owner`'s.

    Raises:
        ValueError: If a key is missing or unknown, or it is no dict.
    """
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"this is no state of {owner}, which is a dict, but {type(state_dict).__name__}")
    state_dict = {str(key): value for key, value in state_dict.items()}
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


def check_kind(what: str, saved: Any, live: Any) -> None:
    """Refuse a saved value that is of another kind than the live one: number, boolean, text, list or dict.

    None stands for a value that is not known yet, in either of the two, but for none that is counted: where a whole
    number stands, another one has to.

    Args:
        what: Whose value it is, in an error.
        saved: The value.
        live: What stands there now.

    Raises:
        ValueError: If the kinds differ.

    >>> check_kind("Plateau: _best", 0.5, None)
    >>> check_kind("Plateau: _best", "0.5", 1.0)
    Traceback (most recent call last):
    ValueError: this is no saved state: Plateau: _best is a text there, and a number here
    """
    there, here = _kind(saved), _kind(live)
    if there == "another" or not _fits(there, here):
        raise ValueError(f"this is no saved state: {what} is {_WORDS[there]} there, and {_WORDS[here]} here")
    if there in ("list", "dict") and not _is_plain(saved):
        raise ValueError(f"this is no saved state: {what} holds something else than plain values")


def _fits(there: str, here: str) -> bool:
    if here == "whole":
        return there == "whole"
    return there == here or "nothing" in (there, here) or (there, here) == ("whole", "number")


_WORDS = {
    "nothing": "None",
    "bool": "a boolean",
    "whole": "a whole number",
    "number": "a number",
    "text": "a text",
    "list": "a list",
    "dict": "a dict",
    "another": "of a kind that states do not have",
}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    kinds = (("bool", bool), ("whole", int), ("number", float), ("text", str), ("list", (list, tuple)), ("dict", dict))
    return next((word for word, types in kinds if isinstance(value, types)), "another")


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else _kind(value) != "another"


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
