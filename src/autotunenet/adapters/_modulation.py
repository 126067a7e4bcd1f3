"""Modulation: the user's scheduler plays on in the param groups, and every optimizer step runs at a scaled value.

A step pre-hook lends the groups the scaled values, the post-hook takes them back. Between two steps, and inside a
closure, the groups hold the scheduler's own objects, as if no tuner were there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from autotunenet.adapters._groups import ParamGroup, base_value, first_positive, is_beta, number, ratio, read, scaled
from autotunenet.adapters._optimizers import BASES, Optimizers, hooked
from autotunenet.state import check_keys


class _Setting(NamedTuple):
    """A tuned value, and the base that it was set against: their relation is the multiplier."""

    value: float
    base: float

    def effective(self, name: str, scheduled: float) -> float:
        """Return what a step uses where the scheduler says `scheduled`."""
        if self.value == self.base:
            return scheduled
        # In this order, because it gives exactly `value` where the scheduler gives its base.
        return scaled(name, self.value, ratio(name, scheduled, self.base))

    def effective_tensor(self, name: str, scheduled: Tensor) -> Tensor:
        """Do the same without waiting for an accelerator."""
        if name == "momentum":
            return (1 - (1 - scheduled) * ((1 - self.value) / (1 - self.base))).clamp_(min=0)
        return scheduled / self.base * self.value


class _Loan(NamedTuple):
    """One value lent to a group: what was there before, and what to know it by."""

    group: ParamGroup
    entry: str
    old: Any
    lent: Any
    version: int  # of a tensor's content, right after it was filled

    def settle(self) -> None:
        """Put the old value back, unless somebody else has written since."""
        if isinstance(self.lent, Tensor):
            if self.lent._version == self.version:
                self.lent.copy_(self.old)
        elif self.group.get(self.entry) is self.lent:
            self.group[self.entry] = self.old


class Modulation:
    """Scales what a scheduler writes, for the length of each optimizer step.

    A value is on the scale of its base: the group's ``initial_lr`` for lr, ``max_momentum`` for momentum, and where a
    group has no such entry, what it held when the modulation began. The first group whose base is above zero speaks for
    all; every group is scaled by the same factor.

    Args:
        optimizers: Whose steps are modulated; each with torch's step hooks, or a wrapper with such a one in
            ``.optimizer``.

    Raises:
        ValueError: If somebody else modulates one of them already, or if one has no step hooks.
    """

    def __init__(self, optimizers: Optimizers) -> None:
        self.optimizers = optimizers
        self.is_overriding = False
        self._settings: dict[str, _Setting] = {}
        self._bases: dict[str, list[float]] = {}
        self._references: dict[str, int] = {}
        self._loans: list[_Loan] = []
        self._has_set = self._has_stepped = False
        self._register()

    # -- values ------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values that are modulated."""
        return tuple(self._settings)

    @property
    def is_bypassed(self) -> bool:
        """Whether a value was set and no step has come since by which it could be used."""
        return self._has_set and not self._has_stepped

    def admit(self, name: str, *, keep_value: bool = False) -> None:
        """Modulate one more value, beginning with the scheduler's own.

        With `keep_value` it is one that is modulated already: a scheduler has now given the groups their bases.
        """
        self._bases[name] = [self._live_base(name, group, None) for group in self.optimizers.groups]
        self._references[name] = first_positive(self._bases[name])
        base = self.base(name)
        self._settings[name] = _Setting(self._settings[name].value if keep_value else base, base)

    def get(self, name: str) -> float:
        """Return the value that the schedule is scaled to."""
        setting = self._settings[name]
        if self._is_overridden(name):
            return setting.value  # also where a scheduler has just given the groups other bases
        base = self.optimizers.group(self._references[name]).get(BASES[name])
        if base is None or type(base) is not float:
            base = self.base(name)
        return setting.value if base == setting.base else setting.effective(name, base)

    def set(self, name: str, value: float) -> None:
        """Scale the schedule so that its base becomes `value`.

        Raises:
            ValueError: If the schedule has no base to scale.
        """
        self._has_set = True
        if value == self.get(name):
            return
        base = self.base(name)
        if base == (1.0 if name == "momentum" else 0.0):
            raise ValueError(
                f"{name} cannot be set to {value}: a scheduler owns it, and its base ({BASES[name]}) is {base} in "
                "every group, which no factor changes. Make the optimizer with another value before the scheduler."
            )
        self._settings[name] = _Setting(value, base)

    def reference(self, name: str) -> int:
        """Return the index of the group that speaks for all."""
        return self._references[name]

    def base(self, name: str, index: int | None = None) -> float:
        """Return the base of a group, by default of the one that speaks for all."""
        index = self._references[name] if index is None else index
        known = self._bases[name]
        for i in range(len(known), len(self.optimizers)):  # added by add_param_group
            known.append(self._live_base(name, self.optimizers.group(i), None))
        return self._live_base(name, self.optimizers.group(index), known[index])

    def effective(self, name: str) -> float:
        """Return what the next step will use in the group that speaks for all."""
        self.settle()
        index = self._references[name]
        group, setting = self.optimizers.group(index), self._settings[name]
        if self._is_overridden(name):
            return self._override(name, index)
        if isinstance(entry := _entry(group, name)[1], Tensor) and setting.value != setting.base:
            return float(setting.effective_tensor(name, entry))
        return setting.effective(name, read(group, name))

    def _live_base(self, name: str, group: ParamGroup, known: float | None) -> float:
        if BASES[name] in group:
            return number(group[BASES[name]])
        return base_value(group, name) if known is None else known

    def _is_overridden(self, name: str) -> bool:
        return self.is_overriding and name == "lr"

    def _override(self, name: str, index: int) -> float:
        base = self.base(name)
        return scaled(name, self.get(name), ratio(name, self.base(name, index), base) if base else 1.0)

    # -- the step ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Take back what is lent. Between steps there is something only if a step has raised."""
        if self._loans:
            _settle(self._loans)

    def _lend(self, member: int) -> None:
        """Lend the scaled values to the groups of one optimizer."""
        # Never on top of a loan: not after a step that raised, nor where a step calls the step of its base class.
        self.settle()
        for name, setting in self._settings.items():
            if self._is_overridden(name) or setting.value != setting.base:
                for i in self.optimizers.indices_of(member):
                    self._lend_to(name, setting, i)

    def _lend_to(self, name: str, setting: _Setting, index: int) -> None:
        group = self.optimizers.group(index)
        entry, old = _entry(group, name)
        if isinstance(old, Tensor):
            # torch gives the groups one and the same tensor, where lr is given once for all of them.
            if all(loan.lent is not old for loan in self._loans):
                new: Any = setting.effective_tensor(name, old) if not self._is_overridden(name) else None
                kept = _exchange(old, self._override(name, index) if new is None else new)
                self._loans.append(_Loan(group, entry, kept, old, old._version))
            return
        value = self._override(name, index) if self._is_overridden(name) else setting.effective(name, float(old))
        before = group[entry]
        group[entry] = type(before)((value, *before[1:])) if entry == "betas" else value
        self._loans.append(_Loan(group, entry, before, group[entry], 0))

    def _before_step(self, member: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        self._has_stepped = True
        self._lend(member)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not self._loans or not callable(closure):
            return None
        # The user's code sees the scheduler's values, and where it raises they are back already.
        lending = self._around(closure, member)
        if len(args) > 1:
            return (args[0], lending, *args[2:]), kwargs
        return args, {**kwargs, "closure": lending}

    def _around(self, closure: Callable[..., Any], member: int) -> Callable[..., Any]:
        def lending(*args: Any, **kwargs: Any) -> Any:
            self.settle()
            loss = closure(*args, **kwargs)
            self._lend(member)
            return loss

        return lending

    # -- hooks -------------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        optimizers = self.optimizers.hooked()
        if optimizers is None:
            names = ", ".join(type(member).__name__ for member in self.optimizers.members if hooked(member) is None)
            raise ValueError(
                f"{names} has no step hooks, so a scheduler's lr cannot be modulated; give "
                "the torch.optim.Optimizer inside it, or modulate=False"
            )
        for optimizer in optimizers:
            other = _MODULATIONS.get(optimizer)
            if other is not None and (live := other()) is not None and not live._is_closed:
                raise ValueError(
                    "another TorchRun modulates the lr of this optimizer already, for a scheduler or in a launch, and "
                    "two would multiply; close() that one first, or the tuner that it belongs to"
                )
        handles: list[RemovableHandle] = []
        for member, optimizer in enumerate(optimizers):
            handles += self._register_on(member, optimizer)
        self._finalizer = weakref.finalize(self, _release, handles, self._loans)
        self._finalizer.atexit = False

    def _register_on(self, member: int, optimizer: Optimizer) -> list[RemovableHandle]:
        # The optimizer must not keep a tuner alive that its user has dropped.
        me = _MODULATIONS[optimizer] = weakref.ref(self)

        def before(_: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
            live = me()
            return None if live is None else live._before_step(member, args, kwargs)

        def after(*_: Any) -> None:
            live = me()
            if live is not None:
                live.settle()

        # A compiled step would bake the values in and be compiled again for every new one.
        disable: Any = torch.compiler.disable
        return [
            optimizer.register_step_pre_hook(disable(before)),
            optimizer.register_step_post_hook(disable(after)),
            optimizer.register_state_dict_pre_hook(after),
        ]

    @property
    def _is_closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Take back what is lent, and remove the hooks: from now on steps use the scheduler's own values."""
        self._finalizer()

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the values, what they were set against, and the bases of groups that name none."""
        return {
            "settings": {name: [setting.value, setting.base] for name, setting in self._settings.items()},
            "bases": {name: list(bases) for name, bases in self._bases.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with saved values, which must be of names that are admitted.

        Raises:
            ValueError: If this is no state of a modulation.
        """
        check_keys(type(self).__name__, state_dict, ("settings", "bases"))
        for name, (value, base) in state_dict["settings"].items():
            self._settings[name] = _Setting(value, base)
            self._bases[name] = list(state_dict["bases"][name])
            self._references[name] = first_positive([self.base(name, i) for i in range(len(self._bases[name]))])

    # Hooks and weak references can be neither copied nor pickled; a copied optimizer comes without hooks.

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        kept = {k: v for k, v in vars(self).items() if k not in ("_finalizer", "_loans")}
        return {**kept, "open": not self._is_closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        is_open = state.pop("open")
        vars(self).update(state, _loans=[])
        self._register()
        if not is_open:
            self.close()


_MODULATIONS: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Modulation]] = weakref.WeakKeyDictionary()


def _entry(group: ParamGroup, name: str) -> tuple[str, Any]:
    return ("betas", group["betas"][0]) if is_beta(group, name) else (name, group[name])


@torch.no_grad()
def _exchange(tensor: Tensor, new: Tensor | float) -> Tensor:
    """Fill a tensor in place; return what it held."""
    kept = tensor.clone()
    tensor.copy_(new) if isinstance(new, Tensor) else tensor.fill_(new)
    return kept


@torch.no_grad()
def _settle(loans: list[_Loan]) -> None:
    for loan in reversed(loans):
        loan.settle()
    loans.clear()


def _release(handles: Sequence[RemovableHandle], loans: list[_Loan]) -> None:
    for handle in handles:
        handle.remove()
    _settle(loans)
