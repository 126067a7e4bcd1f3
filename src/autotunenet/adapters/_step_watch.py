"""Whether an optimizer has stepped: seen by a hook, and not concluded from who was called."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from autotunenet.adapters._optimizers import Optimizers

logger = logging.getLogger(__name__)


class _Note:
    """What the hooks write and nobody reads there, so that a compiled step is compiled once and in one piece."""

    def __init__(self) -> None:
        self.has_stepped = False
        self.found_infs: list[Tensor] = []  # of fused steps, which skip themselves where this is not 0
        self.is_compiled = False


class StepWatch:
    """Sees the steps of optimizers, from when it is made on.

    A gradient scaler that skips a step does not call the optimizer, except one that is fused: that is told, by its
    attribute ``found_inf``, and skips the step itself.

    Args:
        optimizers: Whose steps are watched.
    """

    def __init__(self, optimizers: Optimizers) -> None:
        self._optimizers = optimizers
        self.has_ever_stepped = self._has_warned = False
        self._version = self._live_version()
        self._note = _Note()
        self._register()

    @property
    def has_stepped(self) -> bool:
        """Whether there was a step since `took_step` was last called."""
        note = self._note
        if note.found_infs:
            note.has_stepped |= any(float(found_inf) == 0 for found_inf in note.found_infs)
            note.found_infs.clear()
        return note.has_stepped

    def go_on(self, has_stepped: bool, has_ever_stepped: bool) -> None:
        """Go on where another watch was, with the weights as they are now."""
        self._note.has_stepped, self.has_ever_stepped = has_stepped, has_ever_stepped
        self._version = self._live_version()

    def took_step(self) -> bool | None:
        """Whether there was a step since this was last asked; None: steps cannot be seen here.

        They cannot where an optimizer has no hooks, where its steps may be replayed from a CUDA graph (``capturable``),
        and where the weights have changed while no step has ever been seen.
        """
        note = self._note
        has_stepped = self.has_stepped if note.found_infs else note.has_stepped
        note.has_stepped = False
        self.has_ever_stepped |= has_stepped
        if note.is_compiled:
            self._warn_of_float_lr()
        if self._finalizer is None:
            return None
        for group in self._optimizers.groups:  # no generator: this runs after every step of the training
            if group.get("capturable"):
                return None
        if not self.has_ever_stepped:
            before, self._version = self._version, self._live_version()
            return None if before != self._version else False
        return has_stepped

    def _live_version(self) -> int:
        """Return how often weights were changed in place, as far as torch counts that."""
        return sum(param._version for param in self._optimizers.params())

    def _warn_of_float_lr(self) -> None:
        lrs = [group["lr"] for group in self._optimizers.groups if "lr" in group]
        if not self._has_warned and any(not isinstance(lr, Tensor) for lr in lrs):
            self._has_warned = True
            logger.warning(
                "the optimizer's step is compiled and its lr is a float: torch.compile may compile again for a new lr, "
                "and after 8 times it gives up and runs the step uncompiled. Make the optimizer with "
                "lr=torch.tensor(%g): that is filled in place, and nothing is compiled again",
                lrs[0],
            )

    # -- hooks -------------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        note = self._note

        def after(optimizer: Optimizer, *_: Any) -> None:
            found_inf = getattr(optimizer, "found_inf", None)
            if found_inf is None:
                note.has_stepped = True
            else:
                note.found_infs.append(found_inf)
            if torch.compiler.is_compiling():
                note.is_compiled = True

        optimizers = self._optimizers.hooked()
        self._finalizer: weakref.finalize[..., StepWatch] | None = None
        if optimizers is not None:
            handles = [optimizer.register_step_post_hook(after) for optimizer in optimizers]
            self._finalizer = weakref.finalize(self, _remove, handles)
            self._finalizer.atexit = False

    def close(self) -> None:
        """Remove the hooks."""
        if self._finalizer is not None:
            self._finalizer()

    # Hooks and weak references can be neither copied nor pickled; a copied optimizer comes without hooks.

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_finalizer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._register()


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
