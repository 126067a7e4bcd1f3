"""Part (b): a snapshot and a restore, against a plain copy of as many bytes in memory."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from time import thread_time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from autotunenet import SnapshotBuffer
from autotunenet.adapters.pytorch import TorchRun
from benchmarks.performance.loops import LR, Workload
from benchmarks.performance.tables import Goal, Table, times
from benchmarks.performance.timing import Settings, Spread, ratios, say, take_turns
from benchmarks.performance.workloads import workloads

LARGE = 10e6
"""Bytes from which on a snapshot should take no longer than LIMIT times a plain copy."""

LIMIT = 1.3


def measure(settings: Settings) -> list[Table]:
    """Return a row for each network, trained by AdamW."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for workload in workloads(settings).values():
        say(f"snapshots: {workload.name}")
        num_bytes, seconds = _measure(workload, settings.pick(60, 2))
        plain = Spread.of(seconds["plain"])
        paired = {name: ratios(seconds[name], seconds["plain"]) for name in ("snapshot", "restore")}
        rows.append(
            (
                workload.name,
                f"{num_bytes / 1e6:.1f}",
                f"{1e3 * plain.median:.3f}",
                *(
                    word
                    for name in paired
                    for word in (f"{1e3 * Spread.of(seconds[name]).median:.3f}", times(paired[name]))
                ),
            )
        )
        if num_bytes >= LARGE:
            goals += [
                Goal(f"{name} of {workload.name}, times a plain copy", spread.median, LIMIT)
                for name, spread in paired.items()
            ]
    head = ("network", "MB", "plain copy, ms", "snapshot, ms", "of a plain copy", "restore, ms", "of a plain copy")
    exact = "after every restore weights, buffers and optimizer were those of the snapshot, bit for bit"
    return [Table("Snapshot and restore", head, tuple(rows), tuple(goals), (exact,))]


def _measure(workload: Workload, num_rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Return the bytes that a snapshot holds, and the CPU seconds of every round.

    Raises:
        AssertionError: If a restore is not exact.
    """
    model = copy.deepcopy(workload.model)
    optimizer = AdamW(model.parameters(), lr=LR)
    batches, steps = itertools.cycle(workload.batches), itertools.count(1)
    snapshots = SnapshotBuffer(TorchRun(model, optimizer))
    train = _training(model, optimizer, batches)

    def snapshot() -> float:
        began = thread_time()
        snapshots.capture(next(steps))
        snapshots.commit(1.0)
        return thread_time() - began

    def restore() -> float:
        before = [tensor.clone() for tensor in _state(model, optimizer)]
        snapshots.capture(next(steps))
        snapshots.commit(1.0)
        train()
        began = thread_time()
        snapshots.restore()
        seconds = thread_time() - began
        after = _state(model, optimizer)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "a restore was not exact"
        return seconds

    train()  # the optimizer has a state from the first step on
    num_bytes = sum(tensor.nbytes for tensor in _state(model, optimizer))
    plain = _plain_copy(num_bytes)
    for _ in range(2):  # the slots' memory is fetched once, like that of the plain copy
        snapshot()
        plain()
    return num_bytes, take_turns({"plain": plain, "snapshot": snapshot, "restore": restore}, num_rounds)


def _training(model: nn.Module, optimizer: Optimizer, batches: itertools.cycle[tuple[Tensor, Tensor]]):  # type: ignore[no-untyped-def]
    def train() -> None:
        inputs, targets = next(batches)
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def _plain_copy(num_bytes: int) -> Callable[[], float]:
    """Return what copies so many bytes from one piece of memory into one of two others, as snapshots take turns."""
    source = torch.ones(num_bytes, dtype=torch.uint8)
    targets = itertools.cycle([torch.zeros_like(source), torch.zeros_like(source)])

    def copy_bytes() -> float:
        target = next(targets)
        began = thread_time()
        target.copy_(source)
        return thread_time() - began

    return copy_bytes


def _state(model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [*(param.detach() for param in model.parameters()), *model.buffers(), *states]
