"""AutoTuneNet as a callback of `transformers.Trainer`."""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotunenet.adapters._groups import base_value
from autotunenet.adapters._optimizers import hooked
from autotunenet.adapters._options import check_options
from autotunenet.adapters._trainer_loss import LossSource, OutputLoss, TrainerLoss
from autotunenet.adapters._trainer_state import checkpoint_folder, load_tuner, save_tuner, why_none
from autotunenet.autotune import AutoTuneNet
from autotunenet.optional import import_optional
from autotunenet.state import PlainState
from autotunenet.tuner import Tuner
from autotunenet.types import Action

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
else:
    TrainerCallback = import_optional("transformers", "AutoTuneNetCallback", "transformers").TrainerCallback

logger = logging.getLogger(__name__)

__all__ = ["AutoTuneNetCallback"]

_REFUSED = {
    "DEEPSPEED": "DeepSpeed keeps the weights that are trained to itself",
    "FSDP": "its checkpoints lie in shards; in a loop of your own AutoTuneNet works with FSDP2",
    "MEGATRON_LM": "Megatron-LM keeps the weights that are trained to itself",
    "XLA": "a state is copied in place, which XLA does not do",
}
"""Kinds of distributed training that a tuner cannot be right in, and why."""

_FLAT = ("constant", "constant_with_warmup")
"""Schedules that never come down. `constant` is the Trainer's way of saying that there is none."""


class AutoTuneNetCallback(TrainerCallback):
    """Finds the learning rate of a `transformers.Trainer`, adapts it, and brings the training back when it breaks.

    Give it to the Trainer, and change nothing else: ``Trainer(..., callbacks=[AutoTuneNetCallback()])``. The Trainer's
    LR schedule plays on, scaled to the lr that was found. A schedule that never comes down (``constant``,
    ``constant_with_warmup``) is landed by the tuner; ``land=False`` leaves it alone.

    The step's loss is that of the model's output, with the weight that the backward pass gives it. Where the Trainer
    trains on another one (``label_smoothing_factor``, ``compute_loss_func``, a `compute_loss` of your own), call
    `attach` with the Trainer.

    **In the Trainer's log** stand `autotunenet.Tuner.metrics`, with ``autotunenet/loss`` as the mean of the losses
    since the last log: of all of them, also where the Trainer's own ``loss`` leaves NaN and infinities out. (In several
    processes it is that of the last control interval, as in `Tuner.metrics`.)
    ``learning_rate`` goes on to be the schedule's own. What the tuner has done to the training has an entry in
    ``trainer.state.log_history``: ``autotunenet/action`` and ``autotunenet/reason``. Reporters (TensorBoard, W&B) come
    before other callbacks, so they get the numbers only where the Trainer was attached.

    **Checkpoints** have the tuner's state in ``autotunenet_state.pt``, as large as two to four copies of the weights
    and of the optimizer's state. A training that goes on from one ends with the same weights as one that was never
    interrupted. From a checkpoint of a training without this callback, or without the optimizer's state
    (``save_only_model``), the tuner starts afresh, with a warning.

    A rollback restores weights, optimizer state and gradient scaler. The schedule, the random generators and the data
    go on: the Trainer counts the steps that were thrown away, and trains on other batches.

    Args:
        metric: Of every evaluation, what the tuner observes. Where higher is better, say ``mode="max"`` too.
        resume_from_checkpoint: Where the checkpoint lies that the Trainer is told to go on from, if that is neither in
            ``args.output_dir`` nor ``args.resume_from_checkpoint``; False: the tuner starts afresh there.
        **options: Of `autotunenet.AutoTuneNet`: launch, sinks, space, seed, interval, ... Instances of `Launch`,
            `Attribution` and monitors are copied for each training; sinks are closed at its end.

    Attributes:
        tuner: That of the training that is on, or was last; None before the first one.

    Raises:
        TypeError: If there is no such option.

    >>> import tempfile, torch
    >>> from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
    >>> config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    >>> data = [{"input_ids": [n, n], "labels": n % 2} for n in range(20)]
    >>> callback = AutoTuneNetCallback()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     args = TrainingArguments(folder, max_steps=5, report_to="none", disable_tqdm=True, use_cpu=True)
    ...     trainer = Trainer(BertForSequenceClassification(config), args, train_dataset=data, callbacks=[callback])
    ...     output = trainer.train()  # doctest: +ELLIPSIS
    {...}
    >>> callback.tuner.metrics()["autotunenet/rollbacks"]
    0.0
    """

    def __init__(
        self,
        *,
        metric: str = "eval_loss",
        resume_from_checkpoint: str | os.PathLike[str] | Literal[False] | None = None,
        **options: Any,
    ) -> None:
        check_options(type(self).__name__, options, without=("total_steps", "replay"))
        self.tuner: Tuner | None = None
        self._metric, self._checkpoint, self._options = metric, resume_from_checkpoint, options
        self._trainer: Any = None
        self._source: LossSource | None = None  # while a training is on
        self._loss = math.nan  # of the present step
        self._window: list[float] = []  # losses since the last log
        self._is_doubted = False  # whether the Trainer has been found to train on another loss
        self._evaluated: set[str] = set()  # names of all metrics of this training's evaluations

    def attach(self, trainer: Any) -> AutoTuneNetCallback:
        """Let the callback see its Trainer: any loss, every reporter. Adds it to the Trainer's callbacks.

        It then takes what `Trainer.training_step` returns for the loss, and comes first among the callbacks, so that
        reporters get the numbers that it adds to a log.

        Args:
            trainer: A `transformers.Trainer`.

        Returns:
            Itself.
        """
        callbacks = trainer.callback_handler.callbacks
        callbacks[:] = [self, *(other for other in callbacks if other is not self)]
        self._trainer = trainer
        return self

    # -- the training ------------------------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Make a tuner; go on from the state in the checkpoint that the Trainer goes on from."""
        self._end()  # one that an exception has ended
        model, optimizer = objects["model"], objects["optimizer"]
        _check_supported(args, model, optimizer)
        saved = self._find_state(args, state, model) if state.global_step else None
        # A tuner that starts afresh counts from here.
        total_steps = state.max_steps if saved else max(1, state.max_steps - state.global_step)
        # accelerate wraps the optimizer, and step hooks go on the one inside.
        inner = hooked(optimizer) or optimizer
        tuner = AutoTuneNet(model, inner, total_steps, **self._tuner_options(args, state, optimizer))
        try:
            if saved:
                tuner.load_state_dict(saved)
            # What a callback is given does not lead to the Trainer. A model's output holds the loss in nearly all
            # trainings, so that is the way that asks for nothing; `attach` is for the others.
            self._source = TrainerLoss(self._trainer) if self._trainer is not None else OutputLoss(model)
        except BaseException:
            tuner.close()
            raise
        self.tuner, self._window, self._evaluated = tuner, [], set()
        if not saved:
            reason = f"The tuner starts from lr {_users_lr(optimizer):.3g}, over {total_steps} steps."
            state.log_history.append(_entry(state, "start", reason))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Take the loss before the step, while it can still be refused and the scale of the gradients is known."""
        if self._source is not None:
            scaler = getattr(objects["optimizer"], "scaler", None)
            self._loss = self._source.take(1.0 if scaler is None else scaler.get_scale())

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Let the tuner judge the step, after the LR scheduler has stepped and before anything is logged or saved."""
        if self._source is None or self.tuner is None:
            return
        self._window.append(self._loss)
        decision = self.tuner.step(self._loss)
        if decision is not None and decision.action not in (Action.HOLD, Action.ADAPT):
            state.log_history.append(_entry(state, decision.action.value, decision.reason))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **objects: Any,
    ) -> None:
        """Let the tuner observe the metric."""
        if self._source is None or self.tuner is None or not metrics:
            return
        self._evaluated.update(metrics)
        if self._metric in metrics:  # else perhaps in the evaluation on another of several data sets
            self.tuner.observe(metrics[self._metric])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **objects: Any,
    ) -> None:
        """Add the tuner's numbers to what the Trainer logs of the training."""
        if self._source is None or self.tuner is None or not logs or "loss" not in logs or not self._window:
            return
        numbers = self.tuner.metrics()
        if args.world_size == 1:  # else the losses here are those of this process alone
            loss = numbers["autotunenet/loss"] = sum(self._window) / len(self._window)
            self._compare(loss, logs["loss"])
        self._window = []
        logs.update(numbers)
        # The Trainer has put a copy there before it calls anybody.
        if state.log_history and "loss" in state.log_history[-1]:
            state.log_history[-1].update(numbers)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Close the tuner: model and optimizer are as if it had never been there."""
        if self._evaluated and self._metric not in self._evaluated:
            names = ", ".join(sorted(self._evaluated))
            logger.warning(
                "no evaluation had the metric %s, so the tuner has observed none; there were %s", self._metric, names
            )
        self._end()

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any) -> None:
        """Write the tuner's state into the checkpoint that the Trainer has just written."""
        if self._source is None or self.tuner is None or not args.should_save:
            return
        # Without the optimizer's state nothing goes on exactly, and with trials of a search nobody goes on.
        if args.save_only_model or state.is_hyper_param_search:
            return
        folder = checkpoint_folder(args.output_dir, state.global_step)
        if folder.is_dir():
            save_tuner(folder, state.global_step, objects["model"], self.tuner.state_dict())
        else:
            logger.warning("%s is not there: the tuner's state is not saved, and no training can go on from it", folder)

    def _find_state(self, args: TrainingArguments, state: TrainerState, model: nn.Module) -> dict[str, Any] | None:
        """Return the tuner's state in the checkpoint that the Trainer has loaded; None where it has to start afresh."""
        if self._checkpoint is False:
            return None
        given = [Path(folder) for folder in (self._checkpoint, args.resume_from_checkpoint) if folder]
        folders = [*given, checkpoint_folder(args.output_dir, state.global_step)]
        saved = load_tuner(folders, state.global_step, model, args.device)
        if saved is None:
            had_tuner = any(key.startswith("autotunenet/") for entry in state.log_history for key in entry)
            logger.warning("%s: the tuner starts afresh", why_none(folders, had_tuner))
        return saved

    # -- inside ------------------------------------------------------------------------------------------------------

    def _tuner_options(self, args: TrainingArguments, state: TrainerState, optimizer: Any) -> dict[str, Any]:
        # A launch, an attribution or a monitor belongs to one tuner; another training gets others like them.
        options: dict[str, Any] = {
            name: copy.deepcopy(value) if isinstance(value, PlainState) else value
            for name, value in self._options.items()
        }
        scaler = getattr(optimizer, "scaler", None)
        if scaler is not None:
            options["extras"] = [*options.get("extras", ()), scaler]
        if not state.is_world_process_zero:  # all processes decide alike, and one of them writes it down
            options["sinks"] = ()
        is_flat = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)) in _FLAT
        # ReduceLROnPlateau and GreedyLR leave no trace by which a run would know that they own lr.
        return {"modulate": True, **({"land": "always"} if is_flat else {}), **options}

    def _compare(self, loss: float, logged: float) -> None:
        """Say where what the Trainer logs is not what the tuner has seen, and whose fault that is."""
        if not math.isfinite(loss):
            num = sum(not math.isfinite(value) for value in self._window)
            logger.warning(
                "the losses of %d of the last %d steps were not finite; the loss of %.4g in the Trainer's log leaves "
                "them out where logging_nan_inf_filter is on",
                *(num, len(self._window), logged),
            )
        elif not self._is_doubted and not math.isclose(loss, logged, rel_tol=0.01, abs_tol=1e-4):
            self._is_doubted = True
            logger.warning(
                "the Trainer trains on another loss (%.4g) than its model returns (%.4g), which is what the tuner has "
                "seen; let it see the Trainer's: callback.attach(trainer)",
                *(logged, loss),
            )

    def _end(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None
        if self.tuner is not None:
            self.tuner.close()


def _users_lr(optimizer: Any) -> float:
    return max(base_value(group, "lr") for group in optimizer.param_groups)


def _entry(state: TrainerState, action: str, reason: str) -> dict[str, Any]:
    """Return an entry for the Trainer's `log_history`, which is kept with every checkpoint."""
    return {
        "epoch": state.epoch,
        "step": state.global_step,
        "autotunenet/action": action,
        "autotunenet/reason": reason,
    }


def _check_supported(args: TrainingArguments, model: nn.Module, optimizer: Any) -> None:
    """Refuse trainings in which a tuner would be wrong and not notice.

    Raises:
        ValueError: If this is one.
    """
    kind = getattr(getattr(optimizer, "accelerator_state", None), "distributed_type", None)
    name = str(getattr(args.optim, "value", args.optim))
    why = _REFUSED.get(str(getattr(kind, "value", kind)))
    if getattr(model, "is_distributed_loading_by_transformers", False):
        why = "a model that was sharded when it was loaded"
    elif "lomo" in name or "layerwise" in name:
        why = f"optim={name!r} updates the weights in the backward pass, where no step can be scaled or taken back"
    elif getattr(args, "enable_jit_checkpoint", False):
        why = "enable_jit_checkpoint=True saves without telling callbacks, and so without the tuner's state"
    if why:
        raise ValueError(f"AutoTuneNetCallback does not work here: {why}")
