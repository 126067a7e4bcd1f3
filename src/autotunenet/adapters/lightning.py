"""Lightning: ``Trainer(callbacks=[AutoTuneNetCallback()])``, and nothing else changes.

Works with ``lightning.pytorch`` and with ``pytorch_lightning``: it takes the one that is imported already, and where
none is, the first that is installed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR

from autotunenet.adapters._copying import on_cpu
from autotunenet.adapters._micro_batches import MicroBatches
from autotunenet.adapters._options import check_options
from autotunenet.autotune import AutoTuneNet
from autotunenet.tuner import Tuner
from autotunenet.types import Decision, Stateful

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _base_class() -> type[Any]:
    """Return the callback class of Lightning; of both packages where both are imported.

    Raises:
        ImportError: If neither is installed.
    """
    names = [name for name in _PACKAGES if sys.modules.get(name)]
    names = names or [name for name in _PACKAGES if find_spec(name.partition(".")[0])][:1]
    if not names:
        raise ImportError(
            "autotunenet.adapters.lightning needs Lightning; install it with: pip install 'autotunenet[lightning]'"
        )
    return type("Callback", tuple(import_module(name).Callback for name in names), {})


if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    Callback = _base_class()


class AutoTuneNetCallback(Callback):
    """Finds and adapts the lr of a Lightning training, and brings the training back when it breaks.

    The tuner (`tuner`) is made when the training begins, and takes note of every step of the optimizer: of the mean
    loss that `training_step` has returned since the step before. An LR scheduler of the module's is scaled and goes on
    as if nobody were there. Numbers and reasons go to the trainer's loggers, the tuner's state into its checkpoints.

    Args:
        total_steps: Optimizer steps of the whole training. None: what the trainer estimates
            (``trainer.estimated_stepping_batches``); where that is unknown, lr comes down on a plateau.
        monitor: A validation metric that the module logs, ``"val_loss"`` say, for the tuner to observe; the option
            `mode` tells which way it is better. None: the tuner sees the training loss alone.
        one_loss: Whether several optimizers, under manual optimization, are all trained by the loss that
            `training_step` returns: Muon for the matrices and AdamW for the rest, say, but not the two of a GAN.
        **options: Of `autotunenet.AutoTuneNet`, except `replay`, which is for loops of your own.

    Attributes:
        tuner: The tuner of this training, or of the last one; None before the first. `tuner.history` has every decision
            with its reason.

    Raises:
        TypeError: If an option is unknown.
        ValueError: When the training begins: if an option is out of its range, the module has several optimizers
            without `one_loss`, or the strategy shards the model. Later: if the metric to monitor is not logged, or
            `training_step` returns no loss under manual optimization.

    Example:
        >>> import lightning.pytorch as pl, torch
        >>> class Regression(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(4, 1)
        ...     def training_step(self, batch):
        ...         return (self.layer(batch) - 1).square().mean()
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=100.0)  # a thousand times too high
        >>> callback = AutoTuneNetCallback()
        >>> trainer = pl.Trainer(max_epochs=50, accelerator="cpu", barebones=True, callbacks=[callback])
        >>> trainer.fit(Regression(), torch.utils.data.DataLoader(torch.eye(4).repeat(4, 1), batch_size=4))
        >>> callback.tuner.metrics()["autotunenet/loss"] < 0.01
        True
    """

    def __init__(
        self, total_steps: int | None = None, *, monitor: str | None = None, one_loss: bool = False, **options: Any
    ) -> None:
        super().__init__()
        check_options(type(self).__name__, options, without=("replay",))
        self.tuner: Tuner | None = None
        self._total_steps, self._monitor, self._one_loss, self._options = total_steps, monitor, one_loss, options
        self._is_training = False
        self._losses = MicroBatches()
        self._first_step = 0  # optimizer steps of the trainer's before this tuner's first
        self._last_step = 0  # of the trainer's that are accounted for
        self._loaded: dict[str, Any] = {}  # a state that waits until the optimizer has its own
        self._kept: dict[str, Any] = {}  # the state of a training that has ended

    # -- the training ------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier training: Lightning makes new optimizers for every `fit`."""
        if stage == "fit":
            self._let_go()
            self._kept, self._loaded = {}, {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the tuner, now that optimizers and schedulers are there and have their saved states."""
        optimizers = _optimizers(trainer, self._one_loss)
        self._first_step = self._loaded.get("first_step", _num_steps(trainer))
        self._last_step = trainer.global_step
        self._losses = MicroBatches()
        options = {"modulate": _is_scheduled(trainer), **self._options}
        options["extras"] = [*_extras(trainer), *options.get("extras", ())]
        options["sinks"] = [_LoggerSink(trainer), *options.get("sinks", ())]
        self.tuner = AutoTuneNet(pl_module, optimizers, self._steps_to_go(trainer), **options)
        self._is_training = True
        self._take_over()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Go on from a state that was restored in the middle of the training, as Lightning's LR finder does it."""
        self._take_over()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the tuner take note of the step, where this micro-batch has completed one."""
        assert self.tuner is not None
        is_due, self._last_step = trainer.global_step > self._last_step, trainer.global_step
        mean = self._losses.add(_loss_of(trainer, pl_module, outputs), is_due=is_due)
        if mean is not None:
            self.tuner.step(mean)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the tuner observe the metric to monitor."""
        if self._monitor is None or self.tuner is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = trainer.callback_metrics
        if self._monitor not in metrics:
            raise ValueError(
                f"AutoTuneNetCallback(monitor={self._monitor!r}): no such metric was logged by the end of the "
                f"validation, but {', '.join(sorted(metrics)) or 'none at all'}; in validation_step call "
                f"self.log({self._monitor!r}, ...)"
            )
        self.tuner.observe(metrics[self._monitor])

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the state for a checkpoint that is saved later, and let go of everything else."""
        if stage == "fit" and self._is_training:
            self._kept = on_cpu(self.state_dict())
            self._let_go()

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into a checkpoint of the trainer: nothing, as long as nothing has been trained."""
        if self.tuner is None or not self._is_training or self._loaded:
            return self._loaded or self._kept
        return {"first_step": self._first_step, "tuner": self.tuner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a saved state, to go on from it as soon as the optimizer has its own, which comes later."""
        self._loaded = state_dict

    def _take_over(self) -> None:
        if self._loaded and self.tuner is not None:
            self.tuner.load_state_dict(self._loaded["tuner"])
            self._loaded = {}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        self._is_training = False
        if self.tuner is not None:
            self.tuner.close()

    def _steps_to_go(self, trainer: Trainer) -> int | None:
        if self._total_steps is not None:
            return self._total_steps
        estimate = trainer.estimated_stepping_batches  # -1 or infinite where it is unknown
        is_known = math.isfinite(estimate) and estimate > 0
        return max(int(estimate) - self._first_step, 1) if is_known else None


class _LoggerSink:
    """Writes to the loggers of a trainer: numbers to all, reasons as text where a logger has a place for it.

    At the trainer's own steps, so that all that belongs to one batch stands at one step.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers, except the validation metric, which the module has logged itself."""
        numbers = {name: value for name, value in values.items() if name != "autotunenet/validation"}
        for logger in self._trainer.loggers if numbers else ():
            logger.log_metrics(numbers, step=self._step)

    def event(self, decision: Decision) -> None:
        """Write the reason."""
        for logger in self._trainer.loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "add_text"):  # TensorBoard
                experiment.add_text("autotunenet/reason", decision.reason, self._step)
            elif type(logger).__name__ == "CSVLogger":
                logger.log_metrics({"autotunenet/reason": decision.reason}, step=self._step)  # type: ignore[dict-item]

    def close(self) -> None:
        """Leave the loggers to the trainer."""

    @property
    def _step(self) -> int:
        # Lightning logs the batch that has made step n at n - 1.
        return max(_num_steps(self._trainer) - 1, 0)


def _optimizers(trainer: Trainer, one_loss: bool) -> list[Optimizer]:
    """Return the optimizers of a training that a tuner can look after.

    Raises:
        ValueError: If it cannot: there are several losses, or the strategy shards the model.
    """
    if trainer.strategy.restore_checkpoint_after_setup:
        raise ValueError(
            f"AutoTuneNetCallback needs the whole model in every process, and {type(trainer.strategy).__name__} shards "
            "it; train on one device or with strategy='ddp'"
        )
    if not trainer.optimizers or (len(trainer.optimizers) > 1 and not one_loss):
        raise ValueError(
            f"this module has {len(trainer.optimizers)} optimizers. Where the loss that training_step() returns trains "
            "all of them, say AutoTuneNetCallback(one_loss=True). Where each has a loss of its own, make a tuner for "
            "each in on_train_start(), AutoTuneNet(self.part, optimizer), and call its step(loss) in training_step()"
        )
    return trainer.optimizers


def _num_steps(trainer: Trainer) -> int:
    """Return the batches that have stepped: Lightning counts the steps of every optimizer."""
    return trainer.global_step // len(trainer.optimizers)


def _is_scheduled(trainer: Trainer) -> bool:
    """Whether an LR scheduler is there, ReduceLROnPlateau included.

    It is made in `configure_optimizers`, so it is known by now. Torch's own traces would mislead: Lightning's LR finder
    leaves some as well.
    """
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return bool(trainer.lr_scheduler_configs) or any("initial_lr" in group for group in groups)


def _extras(trainer: Trainer) -> list[Stateful]:
    """Return what a snapshot holds beside model and optimizer: the gradient scaler, and a CyclicLR for its top."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    return [
        *([] if scaler is None else [scaler]),
        *(scheduler for scheduler in schedulers if isinstance(scheduler, CyclicLR)),
    ]


def _loss_of(trainer: Trainer, pl_module: LightningModule, outputs: Any) -> Any:
    """Return the loss of a micro-batch as `training_step` gave it; None where it gave none.

    Raises:
        ValueError: If it gave none under manual optimization, where that does not mean that the batch was skipped.
    """
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if pl_module.automatic_optimization:
        # Lightning has divided it by the number of micro-batches.
        return None if loss is None else loss * trainer.accumulate_grad_batches
    if loss is None:
        raise ValueError(
            "under manual optimization training_step has to return its loss, or {'loss': loss}, for "
            f"AutoTuneNetCallback to see it; {type(pl_module).__name__}.training_step returned {outputs!r}"
        )
    return loss
