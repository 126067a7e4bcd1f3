"""Part (a): what a tuner adds to a training step, AutoTuneNet and its peers in the same loop.

Two numbers for each. *Paired*: how much more CPU time a block of the loop takes than the bare loop's block in the same
round; the median over rounds, with quartiles. It sees everything, also hooks inside of ``optimizer.step`` and caches
that have gone cold, but what happens in few blocks, as the launch does, moves no median. *Inside*: the time that passed
inside of the method's calls, summed over all blocks, over the time of the rest of the loop. It holds the launch, every
snapshot and every proposal. The goals are judged on it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from autotunenet import AutoTuneNet
from benchmarks.performance.legacy import LEGACY, measure_legacy
from benchmarks.performance.loops import LR, Block, Loop, Make, Method, Workload, bare
from benchmarks.performance.tables import Goal, Table, per_cent
from benchmarks.performance.timing import Settings, ratios, say, take_turns
from benchmarks.performance.workloads import workloads

BARE, OURS = "AdamW alone", "AutoTuneNet"

ALIKE = "schedule-free, foreach=False"
"""It takes all parameters at once as it comes, which torch's AdamW on a CPU does not: with it off they do alike."""

PEERS = ("Prodigy", "schedule-free", ALIKE)

LIMITS = {"mnist_cnn": 1.0, "MLP, 50k": 5.0}
"""Per cent of step time that AutoTuneNet may take."""


def measure(settings: Settings) -> list[Table]:
    """Return a row for each network and method."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    notes: list[str] = []
    for workload in workloads(settings).values():
        say(f"overhead: {workload.name}")
        blocks = _blocks(workload)
        rows += [_row(workload, name, blocks[name], blocks[BARE]) for name in blocks]
        goals += _goals(workload, blocks)
        legacy = measure_legacy(workload)
        if isinstance(legacy, str):
            rows.append((workload.name, LEGACY, "not measured", "not measured", "not measured"))
            notes = [f"{LEGACY}: {legacy}"]
        else:
            with_it, without = legacy
            rows.append(_row(workload, LEGACY, with_it, without))
    head = ("network", "loop", "CPU ms a step", "paired with AdamW alone", "inside of its calls")
    return [Table("Overhead per step", head, tuple(rows), tuple(goals), tuple(notes))]


def _blocks(workload: Workload) -> dict[str, list[Block]]:
    loops = {name: Loop(workload, make) for name, make in METHODS.items()}
    blocks = take_turns({name: loop.block for name, loop in loops.items()}, workload.num_blocks)
    for loop in loops.values():
        loop.close()
    return blocks


def _row(workload: Workload, name: str, blocks: list[Block], base: list[Block]) -> tuple[str, ...]:
    milliseconds = 1e3 * sum(block.cpu for block in blocks) / (len(blocks) * workload.block_steps)
    paired = per_cent(ratios([block.cpu for block in blocks], [block.cpu for block in base]))
    has_calls = any(block.inside for block in blocks)
    return (
        workload.name,
        name,
        f"{milliseconds:.3f}",
        "" if name == BARE else paired,
        f"{100 * inside(blocks):.2f} %" if has_calls else "",
    )


def inside(blocks: list[Block]) -> float:
    """Return the time inside of a method's calls, as a share of the time of the rest of the loop."""
    within = sum(block.inside for block in blocks)
    return within / (sum(block.wall for block in blocks) - within)


def _goals(workload: Workload, blocks: dict[str, list[Block]]) -> list[Goal]:
    ours = 100 * inside(blocks[OURS])
    goals = []
    if workload.name in LIMITS:
        goals.append(
            Goal(f"{OURS} on {workload.name}, launch and snapshots included", ours, LIMITS[workload.name], "{:.2f} %")
        )
    for peer in PEERS:
        theirs = ratios([block.cpu for block in blocks[peer]], [block.cpu for block in blocks[BARE]])
        goals.append(Goal(f"{OURS} against {peer} on {workload.name}", ours, 100 * (theirs.median - 1), "{:.2f} %"))
    return goals


def _autotunenet(model: nn.Module, workload: Workload) -> Method:
    optimizer = AdamW(model.parameters(), lr=LR)
    tuner = AutoTuneNet(model, optimizer, total_steps=workload.total_steps)
    return Method(optimizer, after_step=tuner.step, close=tuner.close)


def _plateau(model: nn.Module, workload: Workload) -> Method:
    optimizer = AdamW(model.parameters(), lr=LR)
    return Method(optimizer, after_block=ReduceLROnPlateau(optimizer).step)


def _greedy_lr(model: nn.Module, workload: Workload) -> Method:
    from transformers.optimization import GreedyLR

    optimizer = AdamW(model.parameters(), lr=LR)
    return Method(optimizer, after_block=GreedyLR(optimizer).step)


def _schedule_free(model: nn.Module, workload: Workload, **options: Any) -> Method:
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree(model.parameters(), lr=LR, **options)
    optimizer.train()
    return Method(optimizer)


def _prodigy(model: nn.Module, workload: Workload) -> Method:
    from prodigyopt import Prodigy

    return Method(Prodigy(model.parameters()))


METHODS: dict[str, Make] = {
    BARE: bare,
    OURS: _autotunenet,
    "ReduceLROnPlateau": _plateau,
    "GreedyLR": _greedy_lr,
    "schedule-free": _schedule_free,
    ALIKE: partial(_schedule_free, foreach=False),
    "Prodigy": _prodigy,
}
