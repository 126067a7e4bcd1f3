"""A tree taken apart into its tensors and the rest, for what moves tensors one by one, and put together again."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Path = tuple[Any, ...]
"""Keys and indices from the root of a tree to a leaf."""


def split_tree(tree: Any) -> tuple[bytes, dict[str, Tensor]]:
    """Return a tree without its tensors, as bytes, and the tensors by their paths.

    Args:
        tree: Nested dicts, lists and tuples of tensors and plain values, as a ``state_dict()`` is.

    >>> rest, tensors = split_tree({"step": 3, "slots": [torch.ones(2), None]})
    >>> list(tensors)
    ['slots/0']
    >>> join_tree(rest, tensors)
    {'step': 3, 'slots': [tensor([1., 1.]), None]}
    """
    leaves = {path: leaf for path, leaf in _leaves(tree, ()) if isinstance(leaf, Tensor)}
    file = io.BytesIO()
    torch.save({"tree": _without_tensors(tree), "paths": list(leaves)}, file)
    return file.getvalue(), {name_of(path): tensor for path, tensor in leaves.items()}


def paths_of(rest: bytes) -> list[Path]:
    """Return the paths of the tensors that belong into a tree."""
    paths: list[Path] = _load(rest)["paths"]
    return paths


def name_of(path: Path) -> str:
    """Return the name of the tensor at a path."""
    return "/".join(map(str, path))


def join_tree(rest: bytes, tensors: Mapping[str, Tensor]) -> Any:
    """Inverse of `split_tree`; the tree holds these very tensors. Nothing but plain values is unpickled."""
    loaded = _load(rest)
    return _with_tensors(loaded["tree"], (), {path: tensors[name_of(path)] for path in loaded["paths"]})


def _load(rest: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(io.BytesIO(rest), weights_only=True)
    return loaded


def _leaves(tree: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from _leaves(value, (*path, i))
    else:
        yield path, tree


def _without_tensors(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([_without_tensors(value) for value in tree])
    return None if isinstance(tree, Tensor) else tree


def _with_tensors(tree: Any, path: Path, tensors: Mapping[Path, Tensor]) -> Any:
    if path in tensors:
        return tensors[path]
    if isinstance(tree, dict):
        return {key: _with_tensors(value, (*path, key), tensors) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([_with_tensors(value, (*path, i), tensors) for i, value in enumerate(tree)])
    return tree
