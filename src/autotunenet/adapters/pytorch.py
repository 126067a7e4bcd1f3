"""Plain PyTorch: a module and a `torch.optim.Optimizer` as a `TrainingRun`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from autotunenet.adapters._copying import TreeCopier, are_finite, check_same, live_tree, params_of, restore_state
from autotunenet.adapters._groups import (
    ParamGroup,
    base_value,
    check_entry,
    first_positive,
    is_beta,
    ratio,
    read,
    scaled,
    set_train_mode,
    train_mode,
    write,
)
from autotunenet.adapters._modulation import Modulation, is_scheduled
from autotunenet.state import check_keys
from autotunenet.types import Hyperparams, Stateful

# Entries of a param group that belong to the user or to the user's scheduler. A restore leaves alone those of them
# that are not tuned. All else in a group is the optimizer's own memory (Prodigy's d, schedule-free's k) and goes back.
_USER_ENTRIES = frozenset({"lr", "initial_lr", "momentum", "betas", "weight_decay", "dampening", "eps"})


class TorchRun:
    """A model and its optimizer, seen through a few named hyperparameters.

    Only the entries of the param groups that `names` asks for are ever written. ``"momentum"`` is the entry of that
    name or, where there is none, ``betas[0]``; any other name must be a numeric entry of every group. Where groups
    differ, the first group with a value above zero speaks for all and the others keep their ratio to it: of the values
    themselves, for momentum of ``1 - momentum``. A tensor value is filled in place and never rebound.

    **With an LR scheduler** lr is modulated: the scheduler goes on as if nobody were there, and every optimizer step
    runs at its lr times a factor. ``"lr"`` then is the *base* that the schedule is scaled to, what the step uses where
    the schedule's factor is 1; `schedule_factor` is that factor now, `effective_lr` what the next step will use. Before
    and after a step, and inside its closure, the groups hold the scheduler's values, bit for bit. The base of a
    schedule is ``initial_lr``, where OneCycleLR and CyclicLR have their lowest lr, not their peak. A scheduler that is
    made later takes what is in force then as its ``initial_lr``, and the factor begins at 1. Momentum that OneCycleLR
    or CyclicLR cycles is modulated in the same way: its base is ``max_momentum``, and ``1 - momentum`` is scaled.

    Schedule-free optimizers: a snapshot may be taken in either mode; a restore keeps the mode that the optimizer is in.

    Args:
        model: Its parameters and buffers are what a snapshot holds. Lazy modules must have been initialised.
        optimizer: Any optimizer with param groups.
        names: Names of the hyperparameters, for example a `SearchSpace`.
        extras: Further objects with ``state_dict`` and ``load_state_dict`` that a snapshot holds as well: an LR
            scheduler, a gradient scaler, an averaged model.
        modulate: Whether a scheduler owns lr. None: as soon as there is one, by the traces it leaves
            (``initial_lr`` in the groups, a wrapped ``optimizer.step``) or because it is in `extras`. ReduceLROnPlateau
            and schedulers of your own that only write ``group["lr"]`` leave none: say True, or else their writes are
            taken over. True without any scheduler: the groups keep your lr and only steps see the tuned one. False:
            values are always written into the groups.

    Raises:
        ValueError: If a group has no entry for one of the names, or if lr has to be modulated and cannot be: the
            optimizer has no step hooks, or another run modulates it. Where a scheduler is made later, the latter comes
            from the first method called after that.
        TypeError: If one of `extras` has no state.

    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> run = TorchRun(model, torch.optim.Adam(model.parameters(), lr=0.1), names=("lr", "momentum"))
    >>> run.set_hyperparams({"lr": 0.05})
    >>> run.get_hyperparams()
    {'lr': 0.05, 'momentum': 0.9}

    Under a scheduler:

    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    >>> run = TorchRun(model, optimizer)
    >>> run.set_hyperparams({"lr": 2.0})
    >>> run.get_hyperparams(), run.schedule_factor, run.effective_lr, scheduler.get_last_lr()
    ({'lr': 2.0}, 0.25, 0.5, [0.125])
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        names: Iterable[str] = ("lr",),
        extras: Sequence[Stateful] = (),
        modulate: bool | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self._names = tuple(names)
        self._extras = tuple(extras)
        for extra in self._extras:
            if not isinstance(extra, Stateful):
                raise TypeError(f"extras need state_dict() and load_state_dict(); {type(extra).__name__} lacks them")
        for i, group in enumerate(self._groups):
            for name in self._names:
                check_entry(group, name, i)
        self._has_scheduler = any(isinstance(extra, LRScheduler) for extra in self._extras)
        self._modulate = True if modulate is None and self._has_scheduler else modulate
        self._is_overriding = False
        self._modulation: Modulation | None = None
        self._ratios = {name: self._measure_ratios(name) for name in self._names}
        self._begin()

    # -- hyperparameters ---------------------------------------------------------------------------------------------

    def get_hyperparams(self) -> dict[str, float]:
        """Read the values now in force. A tensor on an accelerator is waited for."""
        if self._unclaimed:
            self._look_for_scheduler()
        groups = self.optimizer.param_groups
        values: dict[str, float] = {}
        for name, (index, beta, modulation) in self._places.items():  # at every step: nothing is looked up twice
            if modulation is not None:
                values[name] = modulation.get(name)
            else:
                value = groups[index]["betas"][0] if beta else groups[index][name]
                values[name] = value if type(value) is float else float(value)
        return values

    def set_hyperparams(self, hyperparams: Hyperparams) -> None:
        """Put values in force in every group. A value that already is in force is not written again.

        Raises:
            KeyError: If a name is not one of this run's; nothing is written then.
            ValueError: If a schedule is to be scaled whose base is zero.
        """
        for name in hyperparams:
            if name not in self._places:
                raise KeyError(f"{name!r} is not tuned here; this run was made for {', '.join(self._names)}")
        if self._unclaimed:
            self._look_for_scheduler()
        groups = self.optimizer.param_groups
        for name, value in hyperparams.items():
            index, beta, modulation = self._places[name]
            if modulation is not None:
                modulation.set(name, value)
                continue
            old = groups[index]["betas"][0] if beta else groups[index][name]
            # Groups whose values are as they should be keep their exact bits.
            if (old if type(old) is float else float(old)) != value:
                self._write(name, value)

    # -- the user's scheduler ----------------------------------------------------------------------------------------

    @property
    def schedule_factor(self) -> float:
        """What the scheduler makes of its base: its lr now over ``initial_lr``; 1.0 without a scheduler."""
        modulation = self._settled()
        if modulation is not None and "lr" in modulation.names:
            base, group = modulation.base("lr"), self._groups[modulation.reference("lr")]
        else:
            bases = [base_value(group, "lr") for group in self._groups]
            base, group = bases[first_positive(bases)], self._groups[first_positive(bases)]
        return ratio("lr", read(group, "lr"), base) if base else 1.0

    @property
    def has_schedule(self) -> bool:
        """Whether there is an LR scheduler now that this run scales."""
        self._begin()
        return self._modulation is not None

    @property
    def schedule_top(self) -> float:
        """Largest factor on the lr in force that the schedule is known to reach: that of `OneCycleLR`; else 1."""
        tops = [g["max_lr"] / g["initial_lr"] for g in self._groups if "max_lr" in g and float(g.get("initial_lr", 0))]
        return max(1.0, *map(float, tops)) if tops and self.has_schedule else 1.0

    @property
    def effective_lr(self) -> float:
        """The lr that the next optimizer step will use, in the group that speaks for all."""
        modulation = self._settled()
        if modulation is not None and "lr" in modulation.names:
            return modulation.effective("lr")
        bases = [base_value(group, "lr") for group in self._groups]
        return read(self._groups[first_positive(bases)], "lr")

    def override_schedule(self, active: bool) -> None:
        """While active, steps use exactly the lr that is set, whatever the scheduler's factor is, even zero.

        The scheduler's values stay in the groups. Without modulation it changes nothing: steps use what is set anyway.
        """
        self._is_overriding = active
        if self._modulation is not None:
            self._modulation.is_overriding = active

    def close(self) -> None:
        """End the modulation and remove its hooks; from now on values are written into the groups.

        A run that is garbage collected does the same.
        """
        self._modulate = False
        self._begin()

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def copy_into(self, buffers: dict[str, Any] | None) -> dict[str, Any]:
        """Copy weights, module buffers, optimizer state, group entries and extras into `buffers`.

        Tensors of the same shape and dtype are copied in place, others are allocated anew. Returned are plain dicts,
        lists and tuples of tensors and values.

        A scheduler's values are not part of it, unless the scheduler is one of the extras; nor is the factor of a
        modulation, which is put back by `set_hyperparams`.

        Raises:
            ValueError: If the model still has lazy parameters.
        """
        copier = TreeCopier()
        copied = copier.copy(self._tree(), buffers)
        copier.run()
        mode = train_mode(self.optimizer)
        return {
            **copied,
            "train_mode": mode,
            "extras": TreeCopier.cloned([extra.state_dict() for extra in self._extras]),
        }

    def copy_from(self, buffers: dict[str, Any]) -> None:
        """Copy `buffers` over the live state, in place: no tensor of the model, the optimizer or a group is replaced.

        Optimizer state that did not exist yet when the copy was made is removed, which is what makes the next step
        start it afresh. A schedule-free optimizer stays in the mode it is in: where the copy is of the other one, it
        moves there and back by its own means.

        Raises:
            ValueError: If `buffers` are of another model or optimizer; nothing is changed then.
        """
        check_keys(type(self).__name__, buffers, ("model", "others", "optimizer", "groups", "train_mode", "extras"))
        tree = self._tree()
        check_same(buffers, tree)
        mode = train_mode(self.optimizer)
        set_train_mode(self.optimizer, buffers["train_mode"])
        copier = TreeCopier()
        copier.copy(buffers["model"], tree["model"])
        copier.copy(buffers["others"], tree["others"])
        # Parameters and groups that joined after the copy was made have nothing saved: theirs starts afresh too.
        saved_states: list[dict[str, Any]] = buffers["optimizer"]
        for i, param in enumerate(params_of(self.optimizer)):
            restore_state(self.optimizer, param, saved_states[i] if i < len(saved_states) else {}, copier)
        for group, saved in zip(self._groups, buffers["groups"], strict=False):
            # Not what a scheduler has come to own since.
            group.update(copier.copy({k: v for k, v in saved.items() if self._is_restored(k)}, group))
        copier.run()
        set_train_mode(self.optimizer, mode)
        for extra, saved in zip(self._extras, buffers["extras"], strict=True):
            extra.load_state_dict(TreeCopier.cloned(saved))

    # -- resume ------------------------------------------------------------------------------------------------------

    def has_finite_weights(self) -> bool:
        """Whether every parameter that is trained is a finite number."""
        return are_finite(params_of(self.optimizer))

    def state_dict(self) -> dict[str, Any]:
        """Return what cannot be read off the groups: their ratios, which a schedule may take to zero; the modulation.

        It goes with the states of the optimizer and of the scheduler, which are the user's to save.
        """
        modulation = self._settled()
        return {
            "ratios": {name: list(ratios) for name, ratios in self._ratios.items()},
            "is_overriding": self._is_overriding,
            "modulation": None if modulation is None else modulation.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with saved ratios and the saved modulation. Load the optimizer and the scheduler first.

        Raises:
            ValueError: If they are those of other hyperparameters, or if a modulation was saved and this run has
                ``modulate=False``; nothing is loaded then.
        """
        saved = self._check_state(state_dict)
        self._begin()
        if saved is not None:
            self._claim([name for name in saved["settings"] if name in self._unclaimed])
            assert self._modulation is not None
            self._modulation.load_state_dict(saved)
        self._ratios = {name: list(state_dict["ratios"][name]) for name in self._names}
        self._find_places()
        self.override_schedule(state_dict["is_overriding"])

    def _check_state(self, state_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Refuse what `load_state_dict` cannot go on from; return the saved modulation."""
        check_keys(type(self).__name__, state_dict, ("ratios", "is_overriding", "modulation"))
        check_keys("the tuned hyperparameters", state_dict["ratios"], self._names)
        saved: dict[str, Any] | None = state_dict["modulation"]
        lists = list(state_dict["ratios"].values())
        if saved is not None:
            check_keys("Modulation", saved, ("settings", "bases"))
            check_keys("the modulated hyperparameters", saved["bases"], saved["settings"])
            check_keys("the tuned hyperparameters", {**state_dict["ratios"], **saved["bases"]}, self._names)
            lists += saved["bases"].values()
            if self._modulate is False:
                raise ValueError(
                    "this state is of a run that modulated a scheduler, and this run has modulate=False (or was "
                    "closed): make it with modulate=None or True"
                )
        if (num_groups := max(map(len, lists), default=0)) > len(self._groups):
            raise ValueError(f"this state is of {num_groups} param groups, and this optimizer has {len(self._groups)}")
        return saved

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _groups(self) -> list[ParamGroup]:
        return self.optimizer.param_groups

    def _measure_ratios(self, name: str) -> list[float]:
        values = [base_value(group, name) for group in self._groups]
        base = values[first_positive(values)]
        return [ratio(name, value, base) if base > 0 else 1.0 for value in values]

    def _find_places(self) -> None:
        """Note where each value is: in the first group with the ratio 1, which speaks for all, or in the modulation."""
        owned = self._modulation.names if self._modulation is not None else ()
        self._places: dict[str, tuple[int, bool, Modulation | None]] = {}
        for name, ratios in self._ratios.items():
            index = ratios.index(1.0)
            modulation = self._modulation if name in owned else None
            self._places[name] = index, is_beta(self._groups[index], name), modulation

    def _admit_new_groups(self, name: str) -> None:
        ratios = self._ratios[name]
        for group in self._groups[len(ratios) :]:  # added by add_param_group, for example when layers are unfrozen
            base = base_value(self._groups[self._places[name][0]], name)
            ratios.append(ratio(name, base_value(group, name), base) if base > 0 else 1.0)

    def _write(self, name: str, value: float) -> None:
        """Write a value that no scheduler owns into the groups."""
        groups, ratios = self.optimizer.param_groups, self._ratios[name]
        if len(groups) > len(ratios):
            self._admit_new_groups(name)
        # The average of a schedule-free optimizer is where it is in eval mode, whatever its momentum is.
        mode = train_mode(self.optimizer) if name == "momentum" else None
        if mode:
            set_train_mode(self.optimizer, False)
        for group, share in zip(groups, ratios, strict=True):
            write(group, name, value if share == 1.0 else scaled(name, value, share))
        if mode:
            set_train_mode(self.optimizer, True)

    # -- modulation --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start from no modulation; begin one where a scheduler is known by now."""
        if self._modulation is not None:
            self._modulation.close()
            self._modulation = None
        # Names that a scheduler may come to own.
        self._unclaimed = [name for name in self._names if name in ("lr", "momentum") and self._modulate is not False]
        self._find_places()
        self._look_for_scheduler()

    def _look_for_scheduler(self) -> Modulation | None:
        """Return the modulation; start it, or widen it, where a scheduler has appeared."""
        group = self.optimizer.param_groups[0]
        if self._modulate or "initial_lr" in group or "step" in vars(self.optimizer):
            forced = ("lr",) if self._modulate else ()
            self._claim([name for name in self._unclaimed if name in forced or is_scheduled(self.optimizer, name)])
        return self._modulation

    def _claim(self, names: Sequence[str]) -> None:
        """Modulate these values from now on; what is in force now is what the scheduler says."""
        if names and self._modulation is None:
            self._modulation = Modulation(self.optimizer)
            self._modulation.is_overriding = self._is_overriding
        for name in names:
            assert self._modulation is not None
            self._modulation.admit(name)
            self._ratios[name] = self._measure_ratios(name)
            self._unclaimed.remove(name)
        if names:
            self._find_places()

    def _settled(self) -> Modulation | None:
        """Return the modulation, after it has taken back what a step that raised has kept."""
        modulation = self._look_for_scheduler() if self._unclaimed else self._modulation
        if modulation is not None:
            modulation.settle()
        return modulation

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def _tree(self) -> dict[str, Any]:
        self._settled()
        return live_tree(self.model, self.optimizer, self._is_restored)

    def _is_restored(self, entry: str) -> bool:
        if entry == "params":
            return False
        if entry not in _USER_ENTRIES or self._has_scheduler:
            return True
        written = [name for name, (_, _, modulation) in self._places.items() if modulation is None]
        return entry in written or (entry == "betas" and "momentum" in written)
