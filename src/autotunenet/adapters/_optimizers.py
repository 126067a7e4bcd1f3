"""One optimizer, or several that train one model together, as one row of param groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from autotunenet.adapters._groups import ParamGroup, set_train_mode, train_mode

BASES = {"lr": "initial_lr", "momentum": "max_momentum"}
"""The entry in which a scheduler of torch keeps what it scales. OneCycleLR and CyclicLR start from max_momentum, at the
same time as they start from initial_lr."""


class Optimizers:
    """One optimizer or several, seen as one.

    Groups stand in the order in which they came: those of one optimizer after those of the other, and a group that
    joins later after all of them, whichever it joins. So whoever has counted groups finds them where they were.

    Args:
        members: At least one.
    """

    def __init__(self, members: Iterable[Optimizer]) -> None:
        self.members = tuple(members)
        self._order: list[tuple[int, int]] = []  # of each group: its member, and its index there
        self._indices: list[list[int]] = []  # of each member: where its groups are in that order

    @property
    def groups(self) -> list[ParamGroup]:
        """The live param groups; the list itself is not to be changed."""
        if len(self.members) == 1:
            return self.members[0].param_groups
        return [self.members[i].param_groups[j] for i, j in self.order()]

    def group(self, index: int) -> ParamGroup:
        """Return the group at an index, without a look at all others."""
        if len(self.members) == 1:
            return self.members[0].param_groups[index]
        member, own_index = (self._order if index < len(self._order) else self.order())[index]
        return self.members[member].param_groups[own_index]

    def indices_of(self, member: int) -> Iterable[int]:
        """Return where the groups of one optimizer are, for its index among all."""
        if len(self.members) == 1:
            return range(len(self.members[0].param_groups))
        self.order()
        return self._indices[member]

    def __len__(self) -> int:
        """Return the number of groups."""
        return sum(len(member.param_groups) for member in self.members)

    def order(self) -> list[tuple[int, int]]:
        """Return of each group the index of its optimizer, and its own index there."""
        if len(self._order) != len(self):
            self.put_in_order(self._order)
        return self._order

    def put_in_order(self, first: Iterable[Sequence[int]]) -> None:
        """Let the groups stand in this order; those that it lacks come last."""
        live = [(i, j) for i, member in enumerate(self.members) for j in range(len(member.param_groups))]
        known = [(i, j) for i, j in first if (i, j) in live]
        self._order = known + [place for place in live if place not in known]
        self._indices = [[k for k, (i, _) in enumerate(self._order) if i == m] for m in range(len(self.members))]

    def check_order(self, order: Iterable[Sequence[int]]) -> None:
        """Refuse the order of other optimizers.

        Raises:
            ValueError: If it names a group that is not here.
        """
        for i, j in order:
            if (i, j) not in self.order():
                raise ValueError(f"this state is of other optimizers: optimizer {i} has no param group {j} here")

    def owned_params(self) -> Iterator[tuple[Optimizer, ParamGroup, Tensor]]:
        """Yield the parameters of all groups, each with the optimizer that keeps its state, and its group."""
        owners = [self.members[i] for i, _ in self.order()]
        for owner, group in zip(owners, self.groups, strict=True):
            for param in group["params"]:
                yield owner, group, param

    def params(self) -> list[Tensor]:
        """Return the parameters of all groups."""
        return [param for group in self.groups for param in group["params"]]

    # -- the user's scheduler ----------------------------------------------------------------------------------------

    def may_be_scheduled(self) -> bool:
        """Whether it is worth while to ask `is_scheduled`: quick, for every step."""
        return any("initial_lr" in member.param_groups[0] or "step" in vars(member) for member in self.members)

    def is_scheduled(self, name: str) -> bool:
        """Whether a scheduler writes `name`, as far as it has left a trace in the groups or on ``optimizer.step``.

        All of torch's schedulers leave one, except ReduceLROnPlateau.
        """
        if name in BASES and any(BASES[name] in group for group in self.groups):
            return True
        # A scheduler puts its wrapper on the instance.
        steps = [vars(member).get("step") for member in self.members]
        return name == "lr" and any(hasattr(s, "_wrapped_by_lr_sched") or hasattr(s, "_with_counter") for s in steps)

    # -- hooks, modes ------------------------------------------------------------------------------------------------

    def hooked(self) -> list[Optimizer] | None:
        """Return the optimizers that have step hooks, each member or the one inside of it; None: not all have one."""
        found = [hooked(member) for member in self.members]
        return None if None in found else found

    def train_modes(self) -> list[bool | None]:
        """Return the mode of each member, as `train_mode` does."""
        return [train_mode(member) for member in self.members]

    def set_train_modes(self, modes: Iterable[bool | None]) -> None:
        """Move each member to its mode, as `set_train_mode` does."""
        for member, mode in zip(self.members, modes, strict=True):
            set_train_mode(member, mode)


def members_of(model: Any, optimizer: Any) -> tuple[Optimizer, ...]:
    """Return the optimizers of a training: the one given, or those of a list.

    Raises:
        TypeError: If model or optimizer are classes, change places, or are something else.
        ValueError: If the list is empty, or if two train the same parameter.
    """
    members = tuple(optimizer) if isinstance(optimizer, list | tuple) else (optimizer,)
    _check_kind("model", model, "named_parameters", "a torch.nn.Module", others=members)
    if not members:
        raise ValueError("the list of optimizers is empty; give the one that trains the model, or several")
    for member in members:
        kind = "a torch.optim.Optimizer or another one with param_groups, or a list of such"
        _check_kind("optimizer", member, "param_groups", kind)
    _check_disjoint(model, members)
    return members


def _check_kind(role: str, value: Any, attribute: str, kind: str, others: Sequence[Any] = ()) -> None:
    if isinstance(value, type):
        raise TypeError(f"{role} must be an instance, not the class {value.__name__}: make one first")
    if hasattr(value, attribute):
        return
    if hasattr(value, "param_groups") and any(hasattr(other, "named_parameters") for other in others):
        raise TypeError("model and optimizer have changed places: the model comes first, then its optimizer")
    raise TypeError(f"{role} must be {kind}, got {type(value).__name__}")


def _check_disjoint(model: nn.Module, members: Sequence[Optimizer]) -> None:
    owners: dict[int, int] = {}
    for i, member in enumerate(members):
        for param in (param for group in member.param_groups for param in group["params"]):
            if (first := owners.setdefault(id(param), i)) != i:
                names = [name for name, other in model.named_parameters() if other is param]
                raise ValueError(
                    f"optimizers {first} and {i} both train {names[0] if names else 'a parameter'}; "
                    "give each parameter to one of them"
                )


def hooked(optimizer: Any) -> Any:
    """Return the optimizer with step hooks: this one, or the one inside a wrapper like accelerate's; None: neither."""
    while not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        if not hasattr(optimizer, "optimizer"):
            return None
        optimizer = optimizer.optimizer
    return optimizer
