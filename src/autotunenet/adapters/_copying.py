"""Copies of nested tensors, in place, in as few kernel launches as torch allows, and the tree that a run is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from autotunenet.adapters._groups import ParamGroup
from autotunenet.adapters._optimizers import Optimizers

_VALUES = (int, float, str, type(None))
"""What cannot be changed, and is in states and groups most of all."""


class TreeCopier:
    """Collects the tensor copies of whole trees, then runs them at once.

    A tree is nested dicts, lists and tuples of tensors and plain values.

    Args:
        into: "beside": the copies lie where the sources do. "host": in the host's memory, pinned where the source is on
            a GPU; shards of a DTensor stay where they are. "anywhere": where the targets are.
    """

    def __init__(self, *, into: Literal["beside", "host", "anywhere"] = "anywhere") -> None:
        self._into = into
        self._sources: list[Tensor] = []
        self._targets: list[Tensor] = []

    @torch.no_grad()
    def copy(self, source: Any, target: Any) -> Any:
        """Return a tree that will hold `source`'s values, and shares no memory with it.

        Tensors of `target` that stand at the same place with the same shape and type, and lie where copies are to lie,
        are used again, and filled when `run` is called. Everything else is new.
        """
        return self._copy(source, target)

    def _copy(self, source: Any, target: Any) -> Any:
        if isinstance(source, Tensor):
            if not (_fits(source, target) and self._is_in_place(source, target)):
                return self._new(source)
            self._sources.append(source if _is_whole(source) else local(source))
            self._targets.append(target if _is_whole(target) else local(target))
            return target
        if isinstance(source, _VALUES):
            return source
        if isinstance(source, dict):
            others = target if isinstance(target, dict) else {}
            return {key: self._copy(value, others.get(key)) for key, value in source.items()}
        if isinstance(source, list | tuple):
            places = target if isinstance(target, list | tuple) else ()
            copies = map(self._copy, source, chain(places, repeat(None)))
            return type(source)(copies)
        return copy.deepcopy(source)

    def _is_in_place(self, source: Tensor, target: Tensor) -> bool:
        if self._into == "anywhere" or (source.is_cpu and target.is_cpu):
            return True
        return target.device == (torch.device("cpu") if self._is_for_host(source) else source.device)

    def _is_for_host(self, source: Tensor) -> bool:
        return self._into == "host" and not hasattr(source, "placements")

    def _new(self, source: Tensor) -> Tensor:
        if source.is_cpu or not self._is_for_host(source):
            return source.detach().clone()
        target = torch.empty_like(source, device="cpu", pin_memory=source.is_cuda)
        return target.copy_(source.detach())

    @torch.no_grad()
    def run(self) -> None:
        """Carry out the collected copies."""
        for targets, sources in self._by_kernel():
            try:
                torch._foreach_copy_(targets, sources)
            except RuntimeError:  # no foreach kernel for this kind of tensor; a real fault shows again in the loop
                for target, source in zip(targets, sources, strict=True):
                    target.copy_(source)

    def _by_kernel(self) -> Iterable[tuple[list[Tensor], list[Tensor]]]:
        """Return targets and sources, those together that one kernel can copy: of one device and one type each."""
        if not self._targets:
            return ()
        if all(target.is_cpu for target in self._targets) and all(source.is_cpu for source in self._sources):
            return [(self._targets, self._sources)]  # one by one in any case
        groups: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
        for target, source in zip(self._targets, self._sources, strict=True):
            targets, sources = groups.setdefault((target.device, source.device, source.dtype), ([], []))
            targets.append(target)
            sources.append(source)
        return groups.values()

    @staticmethod
    def cloned(tree: Any, *, into: Literal["beside", "host"] = "beside") -> Any:
        """Return an independent copy of a tree."""
        return TreeCopier(into=into).copy(tree, None)


def _fits(source: Tensor, target: Any) -> bool:
    return (
        isinstance(target, Tensor)
        and target.shape == source.shape
        and target.dtype == source.dtype
        and target.layout == source.layout
        and ((_is_whole(source) and _is_whole(target)) or _shards(target) == _shards(source))
    )


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor is none of a kind of its own, as a DTensor is: seen at once, where asking it takes a while."""
    return type(tensor) is Tensor or type(tensor) is nn.Parameter


def on_cpu(tree: Any) -> Any:
    """Return a tree whose tensors are in the host's memory."""
    if isinstance(tree, dict):
        return {key: on_cpu(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([on_cpu(value) for value in tree])
    return tree.cpu() if isinstance(tree, Tensor) else tree


def local(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, in the same memory, detached: all, or its shard of a DTensor.

    There are no foreach kernels for DTensors.
    """
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).detach()


def _shards(tensor: Tensor) -> tuple[Any, ...] | None:
    """Return how a DTensor is laid out over the processes; None for a tensor that is whole."""
    return (tensor.placements, local(tensor).shape) if hasattr(tensor, "placements") else None


def are_finite(tensors: list[Tensor]) -> bool:
    """Whether every number that this process holds of the tensors is finite. Waits for an accelerator."""
    return all(bool(torch.isfinite(local(tensor)).all()) for tensor in tensors)


def live_tree(model: nn.Module, optimizers: Optimizers, is_kept: Callable[[str], bool]) -> dict[str, Any]:
    """Return the live state as nested dicts and lists that share its tensors; of the groups, the entries `is_kept`.

    A compiled module gives the names of the module inside, so that a state of the one goes to the other.

    Raises:
        ValueError: If parameters or buffers have no values: of lazy modules, or on the meta device.
    """
    tensors = _named_tensors(_unwrapped(model))
    for name, tensor in tensors.items():
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name} is lazy: run one forward pass before the tuner is made")
        if tensor.is_meta:
            raise ValueError(f"{name} is on the meta device and has no values: load or make them before the tuner")
    known = set(map(id, tensors.values()))
    return {
        "model": tensors,
        # What the optimizer trains beside the model, for example a criterion's own parameters.
        "others": [param for param in optimizers.params() if id(param) not in known],
        "optimizer": [owner.state.get(param, {}) for owner, _, param in optimizers.owned_params()],
        # What an optimizer remembers for all parameters together.
        "shared": [{k: v for k, v in o.state.items() if not isinstance(k, Tensor)} for o in optimizers.members],
        "groups": [{k: v for k, v in group.items() if is_kept(k)} for group in optimizers.groups],
    }


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what `named_parameters` and `named_buffers` do, in one walk through the modules instead of two.

    Sharded parameters are put in their places on the way: a forward pass without a backward pass leaves whole ones
    there.
    """
    params: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    known: set[int] = set()
    for prefix, module in model.named_modules():
        # Of FSDPModule, which has moved from one torch version to the next. It is a class that the module's is made of.
        if hasattr(type(module), "unshard") and callable(reshard := getattr(module, "reshard", None)):
            reshard()
        place = f"{prefix}.".replace("_orig_mod.", "") if prefix else ""
        for kind, members, found in (("param", module._parameters, params), ("buffer", module._buffers, buffers)):
            for name, tensor in members.items():
                if tensor is not None and id(tensor) not in known:
                    known.add(id(tensor))
                    found[f"{kind}.{place}{name}"] = tensor
    return params | buffers


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return what is inside DistributedDataParallel or torch.compile: names are the same with and without them."""
    inside: nn.Module | None = model
    while inside is not None:
        model = inside
        inside = model.module if isinstance(model, DistributedDataParallel) else model._modules.get("_orig_mod")
    return model


def check_built(saved: dict[str, Any], *, num_optimizers: int) -> None:
    """Refuse what is not built as a tree is: tensors by name, and lists of dicts.

    Raises:
        ValueError: If a part is of another kind, or there is not one for every optimizer where there should be.
    """
    kinds = {"model": dict, "optimizer": list, "shared": list, "groups": list, "extras": list, "train_modes": list}
    for part, kind in kinds.items():
        if not isinstance(saved[part], kind):
            raise ValueError(f"this is no snapshot: its {part!r} is no {kind.__name__}")
    if not all(isinstance(tensor, Tensor) for tensor in saved["model"].values()):
        raise ValueError("this is no snapshot: its 'model' holds something else than tensors")
    if not all(isinstance(one, dict) for part in ("optimizer", "shared", "groups") for one in saved[part]):
        raise ValueError("this is no snapshot: the states and groups of its optimizers are dicts")
    if not len(saved["shared"]) == len(saved["train_modes"]) == num_optimizers:
        raise ValueError(f"this snapshot is of {len(saved['shared'])} optimizers, and there are {num_optimizers} here")


def check_same(saved: dict[str, Any], live: dict[str, Any]) -> None:
    """Refuse the tree of another model or optimizer.

    Raises:
        ValueError: If names, shapes, types or counts differ.
    """
    shapes = [{k: (tuple(v.shape), v.dtype) for k, v in tree["model"].items()} for tree in (saved, live)]
    counts = [(len(tree["optimizer"]), len(tree["groups"])) for tree in (saved, live)]
    if counts[0][0] > counts[1][0] or counts[0][1] > counts[1][1]:
        difference = "{} parameters in {} groups there, {} in {} here".format(*counts[0], *counts[1])
    elif names := [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]:
        there, here = ("{1} of shape {0}".format(*tree[names[0]]) if names[0] in tree else "missing" for tree in shapes)
        difference = f"{names[0]} is {there} there and {here} here"
    else:
        return _check_shards(saved["model"], live["model"])
    raise ValueError(
        f"this snapshot is of another model or optimizer: names, shapes, types or counts differ ({difference}); "
        "make both as they were when it was saved"
    )


def _check_shards(saved: dict[str, Tensor], live: dict[str, Tensor]) -> None:
    for name, tensor in live.items():
        there, here = _shards(saved[name]), _shards(tensor)
        if there != here:
            raise ValueError(
                f"{name} is sharded as {there} in this snapshot, and as {here} here (None: whole). To go on with other "
                "ranks, save with sharded_state and load with load_sharded_state of autotunenet.adapters.distributed"
            )


def restore_state(
    optimizer: Optimizer, group: ParamGroup, param: Tensor, saved: dict[str, Any], copier: TreeCopier
) -> None:
    """Let `copier` fill the optimizer's state of one parameter; what is not in `saved` is removed.

    What the live state lacks is made beside the parameter; its number of steps on the host, unless kernels read it.
    """
    if not saved:
        optimizer.state.pop(param, None)
        return
    live = optimizer.state[param]
    for key in live.keys() - saved.keys():
        del live[key]
    steps_stay = not (group.get("capturable") or group.get("fused"))
    for key, value in saved.items():
        is_new = isinstance(value, Tensor) and key not in live and value.device != param.device
        if is_new and not (key == "step" and steps_stay):
            live[key] = torch.empty_like(value, device=param.device)
    live.update(copier.copy(saved, live))


def restore_shared(optimizer: Any, saved: dict[str, Any], copier: TreeCopier) -> None:
    """Do the same with what the optimizer remembers for all parameters together."""
    live = {key: value for key, value in optimizer.state.items() if not isinstance(key, Tensor)}
    for key in live.keys() - saved.keys():
        del optimizer.state[key]
    optimizer.state.update(copier.copy(saved, live))
