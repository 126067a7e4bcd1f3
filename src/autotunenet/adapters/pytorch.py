"""Plain PyTorch: a module and a `torch.optim.Optimizer` as a `TrainingRun`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from autotunenet.adapters._copying import TreeCopier
from autotunenet.state import check_keys
from autotunenet.types import Hyperparams, Stateful

ParamGroup = dict[str, Any]

# Entries of a param group that belong to the user or to the user's scheduler. A restore leaves alone those of them
# that are not tuned. All else in a group is the optimizer's own memory (Prodigy's d, schedule-free's k) and goes back.
_USER_ENTRIES = frozenset({"lr", "initial_lr", "momentum", "betas", "weight_decay", "dampening", "eps"})


class TorchRun:
    """A model and its optimizer, seen through a few named hyperparameters.

    Only the entries of the param groups that `names` asks for are ever written. ``"momentum"`` is the entry of that
    name or, where there is none, ``betas[0]``; any other name must be a numeric entry of every group. Where groups
    differ, the first group with a value above zero speaks for all and the others keep their ratio to it: of the values
    themselves, for momentum of ``1 - momentum``. A tensor value is filled in place and never rebound.

    Args:
        model: Its parameters and buffers are what a snapshot holds. Lazy modules must have been initialised.
        optimizer: Any optimizer with param groups.
        names: Names of the hyperparameters, for example a `SearchSpace`.
        extras: Further objects with ``state_dict`` and ``load_state_dict`` that a snapshot holds as well: an LR
            scheduler, a gradient scaler, an averaged model.

    Raises:
        ValueError: If a group has no entry for one of the names.
        TypeError: If one of `extras` has no state.

    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> run = TorchRun(model, torch.optim.Adam(model.parameters(), lr=0.1), names=("lr", "momentum"))
    >>> run.set_hyperparams({"lr": 0.05})
    >>> run.get_hyperparams()
    {'lr': 0.05, 'momentum': 0.9}
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, names: Iterable[str] = ("lr",), extras: Sequence[Stateful] = ()
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self._names = tuple(names)
        self._extras = tuple(extras)
        for extra in self._extras:
            if not isinstance(extra, Stateful):
                raise TypeError(f"extras need state_dict() and load_state_dict(); {type(extra).__name__} lacks them")
        for i, group in enumerate(self._groups):
            for name in self._names:
                _check_entry(group, name, i)
        self._ratios = {name: self._measure_ratios(name) for name in self._names}

    # -- hyperparameters ---------------------------------------------------------------------------------------------

    def get_hyperparams(self) -> dict[str, float]:
        """Read the values now in force. A tensor on an accelerator is waited for."""
        return {name: _read(self._groups[self._reference(name)], name) for name in self._names}

    def set_hyperparams(self, hyperparams: Hyperparams) -> None:
        """Put values in force in every group. A value that already is in force is not written again.

        Raises:
            KeyError: If a name is not one of this run's.
        """
        for name, value in hyperparams.items():
            if name not in self._names:
                raise KeyError(f"{name!r} is not tuned here; this run was made for {', '.join(self._names)}")
            self._admit_new_groups(name)
            # Groups whose values are as they should be keep their exact bits.
            if _read(self._groups[self._reference(name)], name) != value:
                for group, ratio in zip(self._groups, self._ratios[name], strict=True):
                    _write(group, name, _scaled(name, value, ratio))

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def copy_into(self, buffers: dict[str, Any] | None) -> dict[str, Any]:
        """Copy weights, module buffers, optimizer state, group entries and extras into `buffers`.

        Tensors of the same shape and dtype are copied in place, others are allocated anew. Returned are plain dicts,
        lists and tuples of tensors and values.

        Raises:
            ValueError: If the model still has lazy parameters.
        """
        copier = TreeCopier()
        copied = copier.copy(self._tree(), buffers)
        copier.run()
        return {**copied, "extras": TreeCopier.cloned([extra.state_dict() for extra in self._extras])}

    def copy_from(self, buffers: dict[str, Any]) -> None:
        """Copy `buffers` over the live state, in place: no tensor of the model, the optimizer or a group is replaced.

        Optimizer state that did not exist yet when the copy was made is removed, which is what makes the next step
        start it afresh.

        Raises:
            ValueError: If `buffers` are of another model or optimizer; nothing is changed then.
        """
        check_keys(type(self).__name__, buffers, ("model", "others", "optimizer", "groups", "extras"))
        tree = self._tree()
        self._check_same(buffers, tree)
        copier = TreeCopier()
        copier.copy(buffers["model"], tree["model"])
        copier.copy(buffers["others"], tree["others"])
        # Parameters and groups that joined after the copy was made have nothing saved: theirs starts afresh too.
        saved_states: list[dict[str, Any]] = buffers["optimizer"]
        for i, param in enumerate(self._params):
            self._restore_state(param, saved_states[i] if i < len(saved_states) else {}, copier)
        for group, saved in zip(self._groups, buffers["groups"], strict=False):
            group.update(copier.copy(saved, group))
        copier.run()
        for extra, saved in zip(self._extras, buffers["extras"], strict=True):
            extra.load_state_dict(TreeCopier.cloned(saved))

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the ratios between the groups: they cannot be read off values that a schedule took to zero."""
        return {"ratios": {name: list(ratios) for name, ratios in self._ratios.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with saved ratios.

        Raises:
            ValueError: If they are those of other hyperparameters.
        """
        check_keys(type(self).__name__, state_dict, ("ratios",))
        check_keys("the tuned hyperparameters", state_dict["ratios"], self._names)
        self._ratios = {name: list(state_dict["ratios"][name]) for name in self._names}

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _groups(self) -> list[ParamGroup]:
        return self.optimizer.param_groups

    @property
    def _params(self) -> list[Tensor]:
        return [param for group in self._groups for param in group["params"]]

    def _reference(self, name: str) -> int:
        """Return the index of the group that speaks for all: the first one with the ratio 1."""
        return self._ratios[name].index(1.0)

    def _measure_ratios(self, name: str) -> list[float]:
        values = [_base_value(group, name) for group in self._groups]
        base = next((value for value in values if value > 0), None)
        if base is None:
            return [1.0] * len(values)
        return [_ratio(name, value, base) for value in values]

    def _admit_new_groups(self, name: str) -> None:
        ratios = self._ratios[name]
        for group in self._groups[len(ratios) :]:  # added by add_param_group, for example when layers are unfrozen
            base = _base_value(self._groups[self._reference(name)], name)
            ratios.append(_ratio(name, _base_value(group, name), base) if base > 0 else 1.0)

    def _tree(self) -> dict[str, Any]:
        """Return the live state as nested dicts and lists that share its tensors."""
        tensors: dict[str, Tensor] = {f"param.{k}": v for k, v in self.model.named_parameters()}
        tensors.update({f"buffer.{k}": v for k, v in self.model.named_buffers()})
        for name, tensor in tensors.items():
            if nn.parameter.is_lazy(tensor):
                raise ValueError(f"{name} is lazy: run one forward pass before the tuner is made")
        known = {id(tensor) for tensor in tensors.values()}
        return {
            "model": tensors,
            # What the optimizer trains beside the model, for example a criterion's own parameters.
            "others": [param for param in self._params if id(param) not in known],
            "optimizer": [self.optimizer.state.get(param, {}) for param in self._params],
            "groups": [{k: v for k, v in group.items() if self._is_restored(k)} for group in self._groups],
        }

    def _is_restored(self, entry: str) -> bool:
        if entry == "params":
            return False
        if entry not in _USER_ENTRIES or any(isinstance(extra, LRScheduler) for extra in self._extras):
            return True
        return entry in self._names or (entry == "betas" and "momentum" in self._names)

    def _check_same(self, buffers: dict[str, Any], tree: dict[str, Any]) -> None:
        shapes = [{k: (v.shape, v.dtype) for k, v in t["model"].items()} for t in (buffers, tree)]
        counts = [(len(t["optimizer"]), len(t["groups"])) for t in (buffers, tree)]
        if shapes[0] != shapes[1] or counts[0] > counts[1]:
            raise ValueError("this snapshot is of another model or optimizer: names, shapes, types or counts differ")

    def _restore_state(self, param: Tensor, saved: dict[str, Any], copier: TreeCopier) -> None:
        if not saved:
            self.optimizer.state.pop(param, None)
            return
        live = self.optimizer.state[param]
        for key in live.keys() - saved.keys():
            del live[key]
        live.update(copier.copy(saved, live))


# The field writes momentum in two ways: SGD's entry "momentum", Adam's betas[0].


def _is_beta(group: ParamGroup, name: str) -> bool:
    return name == "momentum" and "momentum" not in group and "betas" in group


def _read(group: ParamGroup, name: str) -> float:
    return float(group["betas"][0] if _is_beta(group, name) else group[name])


def _write(group: ParamGroup, name: str, value: float) -> None:
    old = group["betas"][0] if _is_beta(group, name) else group[name]
    if isinstance(old, Tensor):
        old.fill_(value)
    elif _is_beta(group, name):
        group["betas"] = type(group["betas"])((value, *group["betas"][1:]))
    else:
        group[name] = value


def _base_value(group: ParamGroup, name: str) -> float:
    # A scheduler that warms up has already scaled lr down, perhaps to zero; initial_lr is what the user gave.
    return float(group["initial_lr"]) if name == "lr" and "initial_lr" in group else _read(group, name)


def _ratio(name: str, value: float, base: float) -> float:
    if value == base:
        return 1.0
    return (1 - value) / (1 - base) if name == "momentum" else value / base


def _scaled(name: str, value: float, ratio: float) -> float:
    if ratio == 1.0:
        return value
    return max(0.0, 1 - ratio * (1 - value)) if name == "momentum" else ratio * value


def _check_entry(group: ParamGroup, name: str, index: int) -> None:
    if _is_beta(group, name):
        return
    value = group.get(name)
    if isinstance(value, Tensor) and value.numel() == 1:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        numbers = [k for k, v in group.items() if isinstance(v, int | float) and not isinstance(v, bool)]
        numbers += ["momentum"] if "betas" in group else []
        raise ValueError(
            f"param group {index} has no number {name!r} to tune (found {value!r}); "
            f"this optimizer's groups have {', '.join(sorted(numbers))}"
        )
