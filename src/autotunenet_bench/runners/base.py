"""What every runner shares: a spec's run from its first step or from where it was cut off, and an epoch of it."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from autotunenet import Decision
from autotunenet.adapters.pytorch import TorchRun
from autotunenet_bench.config import RunSpec
from autotunenet_bench.config.specs import sources_of
from autotunenet_bench.controllers.stepping import Stepping
from autotunenet_bench.data import DataSource, stream_seed
from autotunenet_bench.device import CPU, Device, Feed, Pace
from autotunenet_bench.environment import environment
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners.flops import measure_flops
from autotunenet_bench.types import Batches, Event, EventSink, Horizon, Loss, TaskData


def run_training(
    make: Callable[[RunSpec, TaskData, Device], BaseTraining],
    spec: RunSpec,
    source: DataSource,
    folder: RunFolder,
    on_event: EventSink | None = None,
) -> None:
    """Run a spec to its end; the other arguments are those of `autotunenet_bench.runners.run`.

    Args:
        make: Makes the live objects of the run.
        spec: What to run.
        source: Where the data may come from.
        folder: Where the results go.
        on_event: Told of every event, after it was written.

    Raises:
        ValueError: If the data at hand are not those of the spec, or this process has another number of threads.
    """
    data = _load_data(spec, source)
    folder.create(spec)
    device = spec.compute.live()
    with device.running(stream_seed(spec.seed, "training")):
        training = make(spec, data, device)
        saved = folder.load_checkpoint()
        folder.set_status("running")
        if saved:
            training.load_state_dict(saved)
        else:
            _publish(folder, [training.start_event()], on_event)
        while training.epoch < spec.num_epochs:
            events = training.run_epoch()
            folder.append(events)
            folder.save_checkpoint(training.state_dict())
            _tell(events, on_event)
        _publish(folder, [training.end_event()], on_event)
    folder.finish(spec.num_epochs)


class BaseTraining(ABC):
    """The live objects of a run, and an epoch of it; what is decided on the way is a runner's own.

    Args:
        spec: What to run.
        data: The task's data, untouched by any regime.
        device: What it is computed on.
    """

    def __init__(self, spec: RunSpec, data: TaskData, device: Device = CPU) -> None:
        self.epoch = 0  # epochs done
        self._step = 0  # optimizer steps done
        self._passes = 0  # training passes done, whoever asked for them
        self._spec, self._task, self._device = spec, spec.task, device
        self._workload = spec.task.build(spec.task.defaults, spec.seed, data)
        device.place(self._workload.model)
        self._feed = Feed(device)
        self._horizon = Horizon(num_epochs=spec.num_epochs, steps_per_epoch=len(self._workload.data.train))
        self._regime = spec.regime.start(self._horizon, stream_seed(spec.seed, "regime"))
        self._space = spec.search_space()
        self._stepping = self._make_stepping(self._workload.model, self._workload.optimizer)
        self._workload.optimizer = self._stepping.optimizer
        self._run = TorchRun(self._workload.model, self._stepping.optimizer, names=self._space, extras=[self._stepping])
        self._count_passes(self._workload.model)

    # -- what a runner decides -----------------------------------------------------------------------------------------

    @property
    def num_restarts(self) -> int:
        """How often training began anew so far."""
        return 0

    def _make_stepping(self, model: nn.Module, optimizer: Optimizer) -> Stepping:
        """Return how a step is made; the default is the task's optimizer at the live weights."""
        return Stepping(model, optimizer)

    def _after_step(self, shown: Loss) -> Decision | None:
        """Take note of a step's training loss, as the regime shows it."""
        return None

    @abstractmethod
    def _after_epoch(self, shown: float) -> Decision | None:
        """Take note of the metric that the controller observes after an epoch, as the regime shows it."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return what a runner adds to a checkpoint."""

    @abstractmethod
    def _load_own_state(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; model, optimizer and stepping are loaded already."""

    # -- what all do ---------------------------------------------------------------------------------------------------

    def start_event(self) -> Event:
        """Return the row before the first step."""
        val = self._evaluate(self._workload.data.val)
        hyperparams = self._run.get_hyperparams()
        flops = asdict(measure_flops(self._task, self._workload.model, self._workload.data))
        row = {
            "environment": environment(self._spec.packages),
            "hyperparams": hyperparams,
            "val": val,
            "flops": flops,
        }
        return {"event": "start", **row, **self._device.facts()}

    def run_epoch(self) -> list[Event]:
        """Train for one epoch, validate, let the controller decide. Return the epoch's rows."""
        self.epoch += 1
        events = self._apply_regime()
        losses, decisions, train_seconds, control_seconds = self._train()
        events += [_decision_event(decision) for decision in decisions]

        started = perf_counter()
        val = self._evaluate(self._workload.data.val)
        evaluated = perf_counter()
        hyperparams = self._run.get_hyperparams()
        metrics = {"val_loss": val["loss"], "val_accuracy": val["accuracy"], "train_loss": sum(losses) / len(losses)}
        shown = self._regime.shown_metric(metrics[self._spec.controller.observe], self.epoch)
        decision = self._after_epoch(shown)
        control_seconds += perf_counter() - evaluated

        clock = {
            "train_seconds": train_seconds,
            "eval_seconds": evaluated - started,
            "control_seconds": control_seconds,
        }
        counts = {"epoch": self.epoch, "step": self._step, "passes": self._passes}
        events.append(
            {"event": "epoch", **counts, "losses": losses, "val": val, "hyperparams": hyperparams, "clock": clock}
        )
        return [*events, _decision_event(decision)] if decision else events

    def end_event(self) -> Event:
        """Return the row after the last epoch; with the test of the model, where there is something to test it on."""
        row: Event = {"num_restarts": self.num_restarts, "weights_sha256": weights_sha256(self._workload.model)}
        if self._workload.data.test is not None:
            row["test"] = self._evaluate(self._workload.data.test)
        clock = {"peak_memory_bytes": peak_memory_bytes(), **self._device.peak_memory()}
        return {"event": "end", **row, "clock": clock}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "step": self._step,
            "passes": self._passes,
            "model": self._workload.model.state_dict(),
            "optimizer": self._workload.optimizer.state_dict(),
            "stepping": self._stepping.state_dict(),
            **self._own_state(),
            **self._device.random_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch, self._step = state_dict["epoch"], state_dict["step"]
        self._passes = state_dict.get("passes", self._step)  # a checkpoint of before they were counted
        self._workload.model.load_state_dict(state_dict["model"])
        self._workload.optimizer.load_state_dict(state_dict["optimizer"])
        self._stepping.load_state_dict(state_dict["stepping"])
        self._load_own_state(state_dict)
        self._device.set_random_state(state_dict)

    def _count_passes(self, model: nn.Module) -> None:
        # Kept out of a compiled pass, where a number that changes at every call would be compiled anew.
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def count(module: nn.Module, inputs: Any, outputs: Any) -> None:
            # A copy has this hook too, and is somebody else's.
            self._passes += module is model and module.training

        model.register_forward_hook(count)

    def _evaluate(self, batches: Batches) -> dict[str, float]:
        with self._stepping.evaluating() as model, self._device.autocast():
            return self._task.evaluate(model, self._feed(batches))

    def _apply_regime(self) -> list[Event]:
        workload = self._workload
        self._regime.apply(self.epoch, workload.model, workload.data, workload.optimizer)
        if self.epoch != self._regime.trigger_epoch:
            return []
        description = self._regime.description
        return [{"event": "trigger", "epoch": self.epoch, "step": self._step + 1, "description": description}]

    def _train(self) -> tuple[list[float], list[Decision], float, float]:
        """Return losses, decisions, seconds in the training and seconds of control, of one epoch."""
        model, optimizer = self._workload.model, self._workload.optimizer
        losses: list[Loss] = []
        decisions: list[Decision] = []
        train_seconds = control_seconds = 0.0
        model.train()
        pace = Pace(self._device)
        started = perf_counter()
        for batch in self._feed(self._workload.data.train).epoch(self.epoch):
            with self._device.autocast():
                loss = self._task.loss(model, batch)
            optimizer.zero_grad()
            self._step += 1
            objective = self._regime.training_loss(loss, self._step)
            objective.backward()  # type: ignore[no-untyped-call]
            losses.append(self._device.loss_of(loss))
            shown = self._regime.shown_loss(losses[-1], self._step)
            self._stepping.step(objective, shown)
            pace.step()
            trained = perf_counter()
            decision = self._after_step(shown)
            if decision:
                decisions.append(decision)
            controlled = perf_counter()
            train_seconds += trained - started
            control_seconds += controlled - trained
            started = controlled
        numbers = self._device.numbers(losses)
        return numbers, decisions, train_seconds + perf_counter() - started, control_seconds


def weights_sha256(model: nn.Module) -> str:
    """Return a digest of all parameters and buffers: equal digests, equal models, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def peak_memory_bytes() -> int | None:
    """Return the most memory that this process has held at once since it began; None where the system does not say.

    Of the process, not of the run: in a worker that has done other runs before, theirs count too.
    """
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _load_data(spec: RunSpec, source: DataSource) -> TaskData:
    if torch.get_num_threads() != spec.num_threads:
        raise ValueError(
            f"the spec pins {spec.num_threads} CPU threads, this process has {torch.get_num_threads()}: other threads, "
            f"other weights. Call torch.set_num_threads({spec.num_threads}) first."
        )
    if (sources := sources_of(spec.task, spec.regime, spec.controller)) != spec.sources:
        raise ValueError(
            f"classes of your own are not those of the spec: their files have the digests {sources}, the spec has "
            f"{spec.sources}. A file was changed after the suite had begun; run the config again"
        )
    data, info = spec.task.load(source)
    if info != spec.data:
        raise ValueError(f"the data at hand are not those of the spec: found {info}, the spec has {spec.data}")
    return data


def _decision_event(decision: Decision) -> Event:
    return {"event": "decision", **decision.to_record()}


def _publish(folder: RunFolder, events: list[Event], on_event: EventSink | None) -> None:
    folder.append(events)
    _tell(events, on_event)


def _tell(events: list[Event], on_event: EventSink | None) -> None:
    if on_event:
        for event in events:
            on_event(event)
