"""Named numbers in the groups of an optimizer, beside a scheduler of the user's or alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from autotunenet.adapters._groups import (
    ParamGroup,
    base_value,
    check_entry,
    first_positive,
    is_beta,
    number,
    ratio,
    read,
    scaled,
    write,
)
from autotunenet.adapters._modulation import Modulation
from autotunenet.adapters._optimizers import Optimizers
from autotunenet.adapters._step_watch import StepWatch
from autotunenet.state import check_keys
from autotunenet.types import Hyperparams


class GroupValues:
    """The half of a `TorchRun` that knows the optimizer alone: reads and writes values, and scales a scheduler's.

    Args:
        optimizers: One or several, with param groups.
        names: As `TorchRun` takes them.
        schedulers: Those that are known to write lr.
        modulate: As `TorchRun` takes it.

    Raises:
        ValueError: As `TorchRun` does.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        names: Iterable[str],
        schedulers: Sequence[Any],
        modulate: bool | None,
    ) -> None:
        self._optimizers = Optimizers(optimizers)
        self.is_closed = False
        self._names = tuple(names)
        for i, group in enumerate(self._groups):
            for name in self._names:
                check_entry(group, name, i)
        self._schedulers = tuple(schedulers)
        self._modulate = True if modulate is None and self._schedulers else modulate
        self._is_overriding = False
        self._modulation: Modulation | None = None
        self._watch: StepWatch | None = None
        self._ratios = {name: self._measure_ratios(name) for name in self._names}
        self._users_lrs = [base_value(group, "lr") for group in self._groups] if "lr" in self._names else []
        self._begin()

    # -- hyperparameters ---------------------------------------------------------------------------------------------

    @property
    def users_lr(self) -> float:
        """The lr that the run was made with, in the group that speaks for all; NaN where lr is not tuned."""
        return self._users_lrs[first_positive(self._users_lrs)] if self._users_lrs else math.nan

    def get_hyperparams(self) -> dict[str, float]:
        """Read the values now in force. A tensor on an accelerator is waited for where somebody else has written it."""
        if self._unclaimed:
            self._look_around()
        groups = self._groups
        values: dict[str, float] = {}
        for name, (index, beta, modulation) in self._places.items():  # at every step: nothing is looked up twice
            if modulation is not None:
                values[name] = modulation.get(name)
            else:
                value = groups[index]["betas"][0] if beta else groups[index][name]
                values[name] = value if type(value) is float else number(value)
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
            self._look_around()
        if self._keeps_users_lr and self._modulation is not None and self._modulation.is_bypassed:
            self._write_lr()
        groups = self._groups
        for name, value in hyperparams.items():
            index, beta, modulation = self._places[name]
            if modulation is not None:
                modulation.set(name, value)
                continue
            old = groups[index]["betas"][0] if beta else groups[index][name]
            # Groups whose values are as they should be keep their exact bits.
            if (old if type(old) is float else number(old)) != value:
                self._write(name, value)

    def took_step(self) -> bool | None:
        """Whether one of the optimizers has stepped since this was last asked; None: that cannot be told here.

        They are watched from the first call on.
        """
        if self._watch is None:
            self._watch = StepWatch(self._optimizers)
        return self._watch.took_step()

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
        return self._look_for_scheduler() is not None and not self._keeps_users_lr

    @property
    def schedule_top(self) -> float:
        """Largest factor on the lr in force that the schedule is known to reach, at least 1.

        It is known of `OneCycleLR`, and of a `CyclicLR` that is one of the extras: it leaves its top nowhere else.
        """
        tops = [(group["max_lr"], group.get("initial_lr", 0.0)) for group in self._groups if "max_lr" in group]
        for scheduler in self._schedulers:
            tops += zip(getattr(scheduler, "max_lrs", ()), getattr(scheduler, "base_lrs", ()), strict=False)
        factors = [float(top) / float(base) for top, base in tops if float(base)]
        return max(1.0, *factors) if factors and self.has_schedule else 1.0

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

        The scheduler's values stay in the groups. Where there is no scheduler yet, what the groups held stays in them:
        one that is made now takes the user's lr for its base, and not the one that is being tried. What somebody writes
        there meanwhile is in force. Afterwards, without a scheduler, the lr that is set is written into the groups.

        It is written at once where steps cannot be told what to use: with ``modulate=False``, without step hooks, with
        an lr in a tensor, for a graph that was captured calls no hooks, and where a step has called none.
        """
        if active and not self._is_overriding:
            self._keep_users_lr()
        elif not active:
            self._look_around()
            if self._keeps_users_lr:
                self._write_lr()
        self._is_overriding = active
        if self._modulation is not None:
            self._modulation.is_overriding = active

    def close(self) -> None:
        """End the modulation and remove its hooks; from now on values are written into the groups.

        In the groups is then what the scheduler says; without one the lr that was set last or, while the schedule is
        overridden, the user's. A run that is garbage collected does the same, except that it cannot take back a value
        that `override_schedule` had to write.
        """
        if self._is_overriding and self._is_written("lr"):
            for group, lr in zip(self._groups, self._users_lrs, strict=False):
                write(group, "lr", lr)
        self._is_overriding = False
        self._modulate = False
        self._begin()
        if self._watch is not None:
            self._watch.close()
        self.is_closed = True

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what cannot be read off the groups: their order, the user's lrs, the ratios to them, the modulation.

        It goes with the states of the optimizer and of the scheduler, which are the user's to save.
        """
        modulation = self._settled()
        return {
            "order": [list(place) for place in self._optimizers.order()],
            "ratios": {name: list(ratios) for name, ratios in self._ratios.items()},
            "users_lrs": list(self._users_lrs),
            "is_overriding": self._is_overriding,
            "modulation": None if modulation is None else modulation.state_dict(),
            "steps": [] if self._watch is None else [self._watch.has_stepped, self._watch.has_ever_stepped],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with saved ratios and the saved modulation. Load the optimizer and the scheduler first.

        Raises:
            ValueError: If they are those of other hyperparameters, or if a modulation was saved and this run has
                ``modulate=False``; nothing is loaded then.
        """
        saved = self._check_state(state_dict)
        self._optimizers.put_in_order(state_dict["order"])
        self._is_overriding = False
        self._begin()
        if saved is not None:
            self._claim([name for name in saved["settings"] if name in self._unclaimed])
            assert self._modulation is not None
            self._modulation.load_state_dict(saved)
        self._ratios = {name: list(state_dict["ratios"][name]) for name in self._names}
        self._users_lrs = list(state_dict["users_lrs"])
        if self._watch is not None and state_dict["steps"]:
            self._watch.go_on(*state_dict["steps"])
        self._find_places()
        self._is_overriding = state_dict["is_overriding"]
        if self._modulation is not None:
            self._modulation.is_overriding = self._is_overriding
            is_own = self._is_overriding and not self._is_written("lr") and not self._modulate
            if is_own and not self._optimizers.is_scheduled("lr"):  # the launch was on, and no scheduler had come
                self._await_scheduler()

    def _check_state(self, state_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Refuse what `load_state_dict` cannot go on from; return the saved modulation."""
        check_keys(
            type(self).__name__, state_dict, ("order", "ratios", "users_lrs", "is_overriding", "modulation", "steps")
        )
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
                    "this state is of a run that modulated lr, for a scheduler or in a launch, and this run has "
                    "modulate=False (or was closed): make it with modulate=None or True"
                )
        if not all(1.0 in ratios and all(map(_is_ratio, ratios)) for ratios in state_dict["ratios"].values()):
            raise ValueError("this is no saved state: ratios to the first group are numbers from 0 on, 1 among them")
        num_groups = max(map(len, (*lists, state_dict["order"])))
        if num_groups > len(self._groups):
            raise ValueError(f"this state is of {num_groups} param groups, and this optimizer has {len(self._groups)}")
        self._optimizers.check_order(state_dict["order"])
        return saved

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _groups(self) -> list[ParamGroup]:
        return self._optimizers.groups

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

    def _is_written(self, name: str) -> bool:
        """Whether a value is tuned and stands in the groups."""
        return name in self._places and self._places[name][2] is None

    def _admit_new_groups(self, name: str) -> None:
        ratios = self._ratios[name]
        for group in self._groups[len(ratios) :]:  # added by add_param_group, for example when layers are unfrozen
            base = base_value(self._groups[self._places[name][0]], name)
            ratios.append(ratio(name, base_value(group, name), base) if base > 0 else 1.0)

    def _write(self, name: str, value: float) -> None:
        """Write a value that no scheduler owns into the groups."""
        groups, ratios = self._groups, self._ratios[name]
        if len(groups) > len(ratios):
            self._admit_new_groups(name)
        # The average of a schedule-free optimizer is where it is in eval mode, whatever its momentum is.
        modes = self._optimizers.train_modes() if name == "momentum" else []
        if any(modes):
            self._optimizers.set_train_modes([mode and False for mode in modes])
        for group, share in zip(groups, ratios, strict=True):
            write(group, name, value if share == 1.0 else scaled(name, value, share))
        if any(modes):
            self._optimizers.set_train_modes(modes)

    # -- modulation --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start from no modulation; begin one where a scheduler is known by now."""
        if self._modulation is not None:
            self._modulation.close()
            self._modulation = None
        # Whether lr is modulated for no scheduler, but because the groups keep the user's while others are tried.
        self._keeps_users_lr = False
        # Names that a scheduler may come to own.
        self._unclaimed = [name for name in self._names if name in ("lr", "momentum") and self._modulate is not False]
        self._find_places()
        self._look_for_scheduler()

    def _look_for_scheduler(self) -> Modulation | None:
        """Return the modulation; start it, or widen it, where a scheduler has appeared."""
        if self._modulate or self._optimizers.may_be_scheduled():
            forced = ("lr",) if self._modulate else ()
            self._claim([name for name in self._unclaimed if name in forced or self._optimizers.is_scheduled(name)])
        return self._modulation

    def _claim(self, names: Sequence[str]) -> None:
        """Modulate these values from now on; what is in force now is what the scheduler says."""
        if "lr" in names and self._is_overriding and not self._keeps_users_lr:
            bases = [base_value(group, "lr") for group in self._groups]
            raise ValueError(
                "an LR scheduler was made after the tuner, while the launch tries learning rates, and this optimizer's "
                "lr has to be written into its groups: the scheduler took one of those for your lr, "
                f"{bases[first_positive(bases)]:.3g}. Make the scheduler before the tuner"
            )
        if names and self._modulation is None:
            self._modulation = Modulation(self._optimizers)
            self._modulation.is_overriding = self._is_overriding
        for name in names:
            assert self._modulation is not None
            keeps = name == "lr" and self._keeps_users_lr
            self._modulation.admit(name, keep_value=keeps)
            self._ratios[name] = self._measure_ratios(name)
            self._unclaimed.remove(name)
            self._keeps_users_lr = self._keeps_users_lr and not keeps
        if names:
            self._find_places()

    def _keep_users_lr(self) -> None:
        """Leave the groups' lr alone, and let steps use what is set, where they can be told to."""
        self._look_for_scheduler()
        is_plain = not any(isinstance(group["lr"], Tensor) for group in self._groups if "lr" in group)
        if "lr" in self._unclaimed and is_plain and self._optimizers.hooked() is not None:
            self._claim(["lr"])
            self._await_scheduler()

    def _await_scheduler(self) -> None:
        self._keeps_users_lr = True
        self._kept_lrs = [read(group, "lr") for group in self._groups]
        self._unclaimed.append("lr")

    def _look_around(self) -> None:
        """See whether a scheduler has come, or somebody has written an lr where the user's was kept."""
        modulation = self._look_for_scheduler()
        if self._keeps_users_lr and modulation is not None:
            modulation.settle()
            if any(read(group, "lr") != kept for group, kept in zip(self._groups, self._kept_lrs, strict=False)):
                self._stop_keeping()

    def _write_lr(self) -> None:
        """Write the lr that is set into the groups: no scheduler has come, or steps take no notice of a modulation."""
        assert self._modulation is not None
        value = self._modulation.get("lr")
        self._stop_keeping()
        self.set_hyperparams({"lr": value})

    def _stop_keeping(self) -> None:
        assert self._modulation is not None
        self._modulation.close()
        self._modulation, self._keeps_users_lr = None, False
        self._find_places()

    def _settled(self) -> Modulation | None:
        """Return the modulation, after it has taken back what a step that raised has kept."""
        modulation = self._look_for_scheduler() if self._unclaimed else self._modulation
        if modulation is not None:
            modulation.settle()
        return modulation


def _is_ratio(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0
