"""Which processes train a model together, and how they tell each other numbers."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

_CHOOSE = (
    "say which processes decide together: process_group=torch.distributed.group.WORLD (or another group) for one "
    "decision on all of its ranks, process_group=None for a tuner of its own on each rank"
)


class Ranks:
    """The processes that train one model together.

    Args:
        group: Theirs. None: this process alone.
        device: Where the group can communicate.
    """

    def __init__(self, group: ProcessGroup | None, device: torch.device | None = None) -> None:
        self.group, self._device = group, device
        self.numbers: tuple[int, ...] = (0,) if group is None else tuple(dist.get_process_group_ranks(group))
        """Global ranks, in the order of the group's."""

    def exchange(self, values: Sequence[float]) -> list[list[float]]:
        """Return what each process has given, in the order of `numbers`. Every process has to call it.

        They are gathered by one sum in which each process has places of its own, which gloo does faster than a gather.
        To what one process gives the others add zeros, which changes no bit of it.
        """
        if self.group is None:
            return [list(values)]
        rows = torch.zeros(len(self.numbers), len(values), dtype=torch.float64)
        rows[dist.get_rank(self.group)] = torch.tensor(values, dtype=torch.float64)
        rows = rows.to(self._device)
        dist.all_reduce(rows, group=self.group)
        result: list[list[float]] = rows.tolist()
        return result

    def __deepcopy__(self, memo: Any) -> Ranks:
        return self  # a process group is a connection: there is no second one


def ranks_of(model: nn.Module, params: Sequence[Tensor], process_group: Any) -> Ranks:
    """Return the processes that decide together.

    Args:
        model: What is trained.
        params: What the optimizer trains.
        process_group: As in `autotunenet.AutoTuneNet`.

    Raises:
        ValueError: If it is ``"auto"`` and cannot be told, or if this process is no member of the group.
        TypeError: If it is nothing of the kind.
    """
    if process_group is None:
        return Ranks(None)
    if isinstance(process_group, str):
        if process_group != "auto":
            raise ValueError(f"process_group must be 'auto', None or a process group, got {process_group!r}")
        group = _find_group(model, params)
    else:
        group = _checked(process_group)
    return Ranks(group, params[0].device if params else None)


def _checked(group: Any) -> ProcessGroup:
    if dist.is_available() and group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            "this process is no member of the process group that it was given; make no tuner here, or give "
            "process_group=None"
        )
    if not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(f"process_group must be 'auto', None or a torch.distributed.ProcessGroup, got {group!r}")
    return group


def _find_group(model: nn.Module, params: Iterable[Tensor]) -> ProcessGroup | None:
    """Return the group of a model's wrapper or of its sharded parameters; None where there is none, and none needed."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    wrappers = [module for module in model.modules() if isinstance(module, DistributedDataParallel)]
    meshes = {param.device_mesh for param in params if hasattr(param, "device_mesh")}
    if not wrappers and not meshes:
        if dist.get_world_size() == 1:
            return None
        wrappers = _wrappers_around(model)
    groups = {wrapper.process_group for wrapper in wrappers} | ({_group_of(meshes)} if meshes else set())
    if len(groups) == 1:
        return groups.pop()
    found = "several process groups" if groups else "neither DistributedDataParallel nor sharded parameters"
    raise ValueError(
        f"torch.distributed runs with {dist.get_world_size()} ranks, and this {type(model).__name__} has {found}. Make "
        f"the tuner after the model is wrapped or sharded, or {_CHOOSE}"
    )


def _wrappers_around(model: nn.Module) -> list[DistributedDataParallel]:
    """Return the wrappers that the model lies in: frameworks train one, and show their callbacks what is inside."""
    gc.collect()  # those of earlier trainings
    # By type() alone: among all objects there are proxies, which isinstance() would wake up.
    wrappers = [thing for thing in gc.get_objects() if issubclass(type(thing), DistributedDataParallel)]
    return [wrapper for wrapper in wrappers if any(module is model for module in wrapper.modules())]


def _group_of(meshes: Iterable[DeviceMesh]) -> ProcessGroup:
    """Return a group of all ranks of the largest mesh, which has to contain the others: all dimensions decide."""
    largest, *others = sorted(meshes, key=lambda mesh: mesh.size(), reverse=True)
    ranks = sorted(largest.mesh.flatten().tolist())
    if any(not set(mesh.mesh.flatten().tolist()) <= set(ranks) for mesh in others):
        raise ValueError(f"the parameters are sharded over meshes of which none contains the others; {_CHOOSE}")
    if largest.ndim == 1:
        return largest.get_group()
    if len(ranks) == dist.get_world_size():
        return dist.group.WORLD  # type: ignore[return-value]  # it is None only before there is any
    return dist.new_group(ranks, use_local_synchronization=True)  # type: ignore[no-any-return]
