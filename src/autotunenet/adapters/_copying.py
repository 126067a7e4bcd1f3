"""Copies of nested tensors, in place, in as few kernel launches as torch allows."""

from __future__ import annotations

import copy
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor


class TreeCopier:
    """Collects the tensor copies of whole trees, then runs them at once.

    A tree is nested dicts, lists and tuples of tensors and plain values.
    """

    def __init__(self) -> None:
        self._sources: list[Tensor] = []
        self._targets: list[Tensor] = []

    def copy(self, source: Any, target: Any) -> Any:
        """Return a tree that will hold `source`'s values, and shares no memory with it.

        Tensors of `target` that stand at the same place with the same shape and type are used again, and filled when
        `run` is called. Everything else is new.
        """
        if isinstance(source, Tensor):
            if not _fits(source, target):
                return source.detach().clone()
            self._sources.append(source.detach())
            self._targets.append(target.detach())
            return target
        if isinstance(source, dict):
            others = target if isinstance(target, dict) else {}
            return {key: self.copy(value, others.get(key)) for key, value in source.items()}
        if isinstance(source, list | tuple):
            places = target if isinstance(target, list | tuple) else ()
            pairs = zip_longest(source, places[: len(source)])
            return type(source)([self.copy(value, place) for value, place in pairs])
        return copy.deepcopy(source)

    @torch.no_grad()
    def run(self) -> None:
        """Carry out the collected copies."""
        if not self._targets:
            return
        try:
            torch._foreach_copy_(self._targets, self._sources)
        except RuntimeError:  # no foreach kernel for this kind of tensor; a real fault shows again in the loop
            for target, source in zip(self._targets, self._sources, strict=True):
                target.copy_(source)

    @staticmethod
    def cloned(tree: Any) -> Any:
        """Return an independent copy of a tree."""
        return TreeCopier().copy(tree, None)


def _fits(source: Tensor, target: Any) -> bool:
    return (
        isinstance(target, Tensor)
        and target.shape == source.shape
        and target.dtype == source.dtype
        and target.layout == source.layout
    )
