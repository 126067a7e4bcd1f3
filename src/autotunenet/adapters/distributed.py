"""Several processes: uneven batches, and states that go on with another number of ranks.

One decision for all ranks needs nothing from here: `autotunenet.AutoTuneNet` finds out which processes train a model
together. `joinable` is for ranks that have fewer batches than others, `sharded_state` and `load_sharded_state` are for
checkpoints of sharded models. `docs/distributed.md` shows them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.join import Joinable, JoinHook

from autotunenet.adapters._trees import Path, join_tree, name_of, paths_of, split_tree
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.agreement import mean_metric
from autotunenet.tuner import Tuner

if TYPE_CHECKING:
    from torch.distributed.checkpoint.storage import StorageReader

# -- checkpoints of sharded models -----------------------------------------------------------------------------------


def sharded_state(tuner: Tuner) -> dict[str, Any]:
    """Return a tuner's state for ``torch.distributed.checkpoint.save``. Every rank has to call it.

    Tensors of snapshots are laid out over the ranks as the weights are, so that the checkpoint can be loaded on another
    number of ranks; all else is one entry of bytes. Put it under a key of its own: ``{"tuner": sharded_state(tuner)}``.

    Batches stored for `replay` are each rank's own, and are not part of it: an alarm soon after a resume is looked into
    without them. Of what is whole on every rank and differs, such as statistics of batch normalisation, one rank's is
    saved, as it is of the model's.

    Args:
        tuner: One over a `TorchRun`, as `AutoTuneNet` makes it.

    Raises:
        TypeError: If it is another one.
        RuntimeError: If the ranks have come apart.

    >>> from autotunenet import AutoTuneNet
    >>> model = torch.nn.Linear(2, 1)
    >>> state = sharded_state(AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.1)))
    >>> list(state["tensors"])[0]
    'recovery/way_back/snapshots/slots/candidate/buffers/model/param.weight'
    """
    run, state = _run_of(tuner), tuner.state_dict()
    state["agreement"]["metric"] = mean_metric(run, state["agreement"]["metric"])
    _forget_batches(state["recovery"])
    rest, tensors = split_tree(state)
    return {"rest": rest, "tensors": tensors}


def load_sharded_state(
    tuner: Tuner,
    checkpoint_id: str | os.PathLike[str] | None = None,
    *,
    key: str = "tuner",
    storage_reader: StorageReader | None = None,
) -> None:
    """Let a tuner go on from a checkpoint with a `sharded_state` in it. Every rank has to call it.

    Load model and optimizer first, and make the tuner with the arguments it had, as for `Tuner.load_state_dict`. What
    torch.distributed.checkpoint reads it unpickles, as it does of every checkpoint: load only those you trust.

    Args:
        tuner: One over a `TorchRun`, as `AutoTuneNet` makes it.
        checkpoint_id: The folder that ``torch.distributed.checkpoint.save`` has written.
        key: Under which key of the checkpoint the state is.
        storage_reader: What reads the checkpoint, where it is in no folder.

    Raises:
        ValueError: If there is no such state in the checkpoint, or if it is one of another model, optimizer or tuner.
        TypeError: If `tuner` is another one, or if neither a folder nor a reader is given.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load

    run = _run_of(tuner)
    if storage_reader is None:
        if checkpoint_id is None:
            raise TypeError("give the folder of the checkpoint as checkpoint_id, or a storage_reader")
        storage_reader = FileSystemReader(checkpoint_id)
    stored = storage_reader.read_metadata().state_dict_metadata
    if f"{key}.rest" not in stored:
        found = ", ".join(sorted({name.partition(".")[0] for name in stored}))
        raise ValueError(f"this checkpoint has no sharded_state under {key!r}; its keys begin with {found}")

    together: dict[str, Any] = {"process_group": run.process_group, "no_dist": run.process_group is None}
    # First what tells which tensors there are; then these, each into the shard of this rank.
    about: dict[str, Any] = {f"{key}.rest": b""}
    load(about, storage_reader=storage_reader, **together)
    rest: bytes = about[f"{key}.rest"]
    live = run.live_tree()
    tensors = {
        name_of(path): _empty(path, stored[f"{key}.tensors.{name_of(path)}"], run, live) for path in paths_of(rest)
    }
    named = {f"{key}.tensors.{name}": tensor for name, tensor in tensors.items()}
    load(named, storage_reader=storage_reader, **together)
    tuner.load_state_dict(join_tree(rest, tensors))


def _forget_batches(recovery: dict[str, Any]) -> None:
    """Take stored batches out of a state, and the twin that would have to be raced on them: judge in line instead."""
    way_back = recovery["way_back"]
    if recovery["trial"]:
        recovery["trial"]["batches"] = []
    way_back["batches"], way_back["batches_aside"] = [], {}
    way_back["snapshots"]["slots"].pop("twin", None)


def _empty(path: Path, stored: Any, run: TorchRun, live: dict[str, Any]) -> Tensor:
    """Return a tensor to be filled, laid out over the ranks as its live counterpart is."""
    like = _counterpart(path, run, live)
    if like is not None and like.shape == stored.size:
        return torch.empty_like(like.detach(), dtype=stored.properties.dtype)
    return torch.empty(stored.size, dtype=stored.properties.dtype)


def _counterpart(path: Path, run: TorchRun, live: dict[str, Any]) -> Tensor | None:
    """Return the live tensor, or the parameter whose state it is, that a tensor of a snapshot was copied from."""
    if "buffers" not in path:
        return None
    section, *place = path[path.index("buffers") + 1 :]
    found = _at(live, (section, *place))
    if found is None and section == "optimizer":  # state that the live optimizer has not made yet
        found = _at(run.params(), place[:1])
    return found if isinstance(found, Tensor) else None


def _at(tree: Any, path: Sequence[Any]) -> Any:
    for key in path:
        if not (key in tree if isinstance(tree, dict) else isinstance(tree, list) and key < len(tree)):
            return None
        tree = tree[key]
    return tree


# -- uneven batches --------------------------------------------------------------------------------------------------


def joinable(tuner: Tuner) -> Joinable:
    """Return what lets a rank that has run out of batches keep up with the others, for torch's ``Join``.

    It stands behind the model: ``with Join([model, joinable(tuner)]): ...``, where model is the DistributedDataParallel
    one, and each of its forward passes belongs to one ``tuner.step``. A rank that has joined decides what the others
    decide, on their losses. At the end all ranks get the weights, the optimizer's state and the tuner's of one that
    joined last: ``Join`` by itself brings the weights alone, and optimizers would go on from different states.

    Args:
        tuner: One whose ranks decide together.

    Raises:
        ValueError: If its ranks do not, if its weights are sharded, or if it replays batches: a rank that has none left
            could not.
        TypeError: If it is over no `TorchRun`.
    """
    run = _run_of(tuner)
    if run.process_group is None:
        raise ValueError("this tuner decides for its own rank alone; torch's Join(...) needs nothing of it")
    if any(hasattr(param, "to_local") for param in run.params()):
        raise ValueError("sharded weights need every rank at every step, so none can join early; use drop_last=True")
    if tuner.wants_batches:
        raise ValueError(
            "a rank without batches cannot replay any; make the tuner without replay, or use drop_last=True"
        )
    return _Joinable(tuner, run)


class _Joinable(Joinable):
    def __init__(self, tuner: Tuner, run: TorchRun) -> None:
        super().__init__()
        self.tuner, self.run = tuner, run

    def join_hook(self, **kwargs: Any) -> JoinHook:
        return _Hook(self)

    @property
    def join_device(self) -> torch.device:
        return self.run.params()[0].device

    @property
    def join_process_group(self) -> Any:
        return self.run.process_group

    @property
    def is_first(self) -> bool:
        return bool(self._join_config.is_first_joinable)


class _Hook(JoinHook):
    """What a rank does that has no batches left, and what all do at the end."""

    def __init__(self, joined: _Joinable) -> None:
        self._joined = joined

    def main_hook(self) -> None:
        if self._joined.is_first:
            raise ValueError("joinable(tuner) stands behind the model: Join([model, joinable(tuner)])")
        self._joined.tuner.follow()

    def post_hook(self, is_last_joiner: bool) -> None:
        run, tuner = self._joined.run, self._joined.tuner
        rows = run.exchange([is_last_joiner])
        last = [rank for rank, (is_last,) in zip(run.ranks, rows, strict=True) if is_last]
        if len(last) == len(run.ranks):
            return
        is_source = dist.get_rank() == last[0]
        state = {"run": run.copy_into(None), "tuner": tuner.state_dict()} if is_source else None
        received = _broadcast(state, last[0], run)
        if not is_source:
            run.copy_from(received["run"])
            tuner.load_state_dict(received["tuner"])


def _broadcast(tree: Any, source: int, run: TorchRun) -> Any:
    """Return one rank's tree in all of them; the others give None."""
    device, is_source = run.params()[0].device, tree is not None
    rest, tensors = split_tree(tree) if is_source else (b"", {})
    told: list[Any] = [
        rest,
        {name: (tensor.shape, tensor.dtype, tensor.device.type) for name, tensor in tensors.items()},
    ]
    dist.broadcast_object_list(told, src=source, group=run.process_group, device=device)
    for name, (shape, dtype, kind) in told[1].items():
        tensor = tensors[name].to(device) if is_source else torch.empty(shape, dtype=dtype, device=device)
        if tensor.numel():
            # As bytes: backends do not know every type.
            raw = tensor.contiguous().reshape(-1).view(torch.uint8)
            dist.broadcast(raw, src=source, group=run.process_group)
            tensor = raw.view(dtype).reshape(shape)
        tensors[name] = tensor if kind == device.type else tensor.to(kind)
    return join_tree(told[0], tensors)


def _run_of(tuner: Tuner) -> TorchRun:
    if not isinstance(tuner.run, TorchRun):
        raise TypeError(
            f"this needs a tuner over a TorchRun, as AutoTuneNet makes it, not over {type(tuner.run).__name__}"
        )
    return tuner.run
