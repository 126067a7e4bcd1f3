"""Part (d): a whole cell of the benchmark, against a loop written by hand, and against one with a DataLoader.

The hand-written loop is the least that gives the same numbers: its losses, validations, test and weights are compared
with those of the cell, bit for bit. The loop with a DataLoader is the same training in another order of the batches.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from autotunenet_bench.config import RunSpec, parse_config
from autotunenet_bench.data import DataSource, stream_seed
from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.executors.cell import run_bench_cell
from autotunenet_bench.runners.base import weights_sha256
from autotunenet_bench.suite import resolve
from benchmarks.performance.tables import Goal, Table, times
from benchmarks.performance.timing import Settings, Spread, ratios, say, take_turns

NUM_EPOCHS = {"digits_mlp": 10, "mnist_cnn": 3}

CELL, TUNED, BY_HAND = "cell", "cell, AutoTuneNet", "by hand"
LOADER, ONE_BY_ONE = "DataLoader of ready tensors", "DataLoader, images made ready one by one"

CONFIG = "{{task: {task}, regime: stationary, controller: {controller}, num_epochs: {num_epochs}, seeds: [0]}}"

JUDGED = "mnist_cnn"


def measure(settings: Settings) -> list[Table]:
    """Return a row for each task and way of training it."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for task, num_epochs in settings.pick(NUM_EPOCHS, {"digits_mlp": 2}).items():
        say(f"cells: {task}")
        seconds = _measure(task, settings.pick(num_epochs, 2), settings.pick(5, 1))
        paired = {name: ratios(seconds[CELL], seconds[name]) for name in seconds}
        rows += [
            (task, name, f"{Spread.of(each).median:.2f}", "" if name == CELL else times(paired[name]))
            for name, each in seconds.items()
        ]
        if task == JUDGED:
            goals = [
                Goal(f"a cell of {task}, times the loop by hand", paired[BY_HAND].median, 1.05),
                *(
                    Goal(f"a cell of {task}, times the {name}", paired[name].median, 0.8)
                    for name in (LOADER, ONE_BY_ONE)
                ),
            ]
    head = ("task", "loop", "seconds, wall clock", "the cell, times this")
    notes = (
        "cell: claim, data, training, validations, events, a checkpoint every epoch, test, digest; all written to disk",
        "the loop by hand gave the cell's numbers and weights bit for bit in every round",
    )
    return [Table("A cell of the benchmark, controller fixed", head, tuple(rows), tuple(goals), notes)]


def _measure(task: str, num_epochs: int, num_rounds: int) -> dict[str, list[float]]:
    source = DataSource()
    specs = {name: _spec(task, name, num_epochs, source) for name in ("fixed", "autotunenet")}
    spec = specs["fixed"]
    expected: list[Numbers] = []

    def cell() -> float:
        seconds, numbers = _cell(spec, source)
        expected[:] = [numbers]
        return seconds

    def by_hand() -> float:
        began = perf_counter()
        numbers = by_hand_numbers(spec, source)
        seconds = perf_counter() - began
        wanted = expected[0] if expected else _cell(spec, source)[1]
        assert numbers == wanted, "the loop by hand gives other numbers than the cell"
        return seconds

    def loader(**options: bool) -> float:
        began = perf_counter()
        with_loader(spec, source, **options)
        return perf_counter() - began

    variants: dict[str, Callable[[], float]] = {
        CELL: cell,
        TUNED: lambda: _cell(specs["autotunenet"], source)[0],
        BY_HAND: by_hand,
        LOADER: loader,
        ONE_BY_ONE: lambda: loader(one_by_one=True),
    }
    for run in variants.values():  # imports, and kernels that are chosen at the first call
        run()
    return take_turns(variants, num_rounds)


def _spec(task: str, controller: str, num_epochs: int, source: DataSource) -> RunSpec:
    text = CONFIG.format(task=task, controller=controller, num_epochs=num_epochs)
    return resolve(parse_config(text, "cells"), source)[0]


Numbers = dict[str, Any]


def _cell(spec: RunSpec, source: DataSource) -> tuple[float, Numbers]:
    """Run the cell as an executor's worker does; return its seconds, and the numbers that it has written."""
    with tempfile.TemporaryDirectory() as root:
        began = perf_counter()
        run_bench_cell(spec, Path(root), source, lambda event: None)
        seconds = perf_counter() - began
        lines = Path(root, spec.run_id, "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    start, end = events[0], events[-1]
    epochs = [event for event in events if event["event"] == "epoch"]
    return seconds, {
        "initial": start["val"],
        "losses": [event["losses"] for event in epochs],
        "val": [event["val"] for event in epochs],
        "test": end.get("test"),
        "weights": end["weights_sha256"],
    }


def by_hand_numbers(spec: RunSpec, source: DataSource) -> Numbers:
    """Train as the cell does, with nothing else around it."""
    data, _ = spec.task.load(source)
    train = data.train
    assert isinstance(train, TensorBatches)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(spec.seed, "init"))
        model = spec.task.build_model()
    optimizer = _optimizer(spec, model)
    order = stream_seed(spec.seed, "order")
    found: Numbers = {"initial": evaluate(model, data.val.epoch(1)), "losses": [], "val": []}
    for epoch in range(1, spec.num_epochs + 1):
        model.train()
        losses = []
        draws = torch.Generator().manual_seed(stream_seed(order, "epoch", epoch))
        for places in torch.randperm(len(train.inputs), generator=draws).split(train.batch_size):
            loss = F.cross_entropy(model(train.inputs[places]), train.targets[places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found["losses"].append(losses)
        found["val"].append(evaluate(model, data.val.epoch(1)))
    found["test"] = None if data.test is None else evaluate(model, data.test.epoch(1))
    found["weights"] = weights_sha256(model)
    return found


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures in bytes, each made a tensor and normalised when its turn comes, as in the tutorials of torch."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        least, most = inputs.min(), inputs.max()
        self._bytes = ((inputs - least) / (most - least) * 255).byte().contiguous().numpy()
        self._targets = targets
        self._mean, self._deviation = 0.1307, 0.3081

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = torch.from_numpy(self._bytes[index]).float().div(255)
        return picture.sub(self._mean).div(self._deviation), self._targets[index]


def with_loader(spec: RunSpec, source: DataSource, *, one_by_one: bool = False) -> None:
    """Train as most people write it: a DataLoader that shuffles, and one for validation.

    With `one_by_one` as in the tutorials: `Pictures`, and everything in torch's usual layout.
    """
    data, _ = spec.task.load(source)

    def loader(batches: Any, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
        kind: Any = Pictures if one_by_one else TensorDataset
        return DataLoader(kind(batches.inputs, batches.targets), batches.batch_size, shuffle=shuffle)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed)
        model = spec.task.build_model()
        if one_by_one:
            model.to(memory_format=torch.contiguous_format)
        optimizer = _optimizer(spec, model)
        train, val = loader(data.train, shuffle=True), loader(data.val, shuffle=False)
        evaluate(model, val)
        for _ in range(spec.num_epochs):
            model.train()
            losses = []
            for inputs, targets in train:
                loss = F.cross_entropy(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            evaluate(model, val)
        if data.test is not None:
            evaluate(model, loader(data.test, shuffle=False))


def _optimizer(spec: RunSpec, model: nn.Module) -> torch.optim.Optimizer:
    """Return the task's optimizer, Adam at its defaults."""
    return torch.optim.Adam(model.parameters(), lr=spec.task.defaults["lr"], betas=(spec.task.momentum, 0.999))


def evaluate(model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
    """Return mean cross entropy and accuracy."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    with torch.inference_mode():
        for inputs, targets in batches:
            logits = model(inputs)
            loss += F.cross_entropy(logits, targets, reduction="none").double().sum().item()
            correct += int((logits.argmax(dim=1) == targets).sum())
            count += len(targets)
    return {"loss": loss / count, "accuracy": correct / count}
