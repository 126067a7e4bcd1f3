"""Keras 3 on PyTorch: ``model.fit(..., callbacks=[AutoTuneNetCallback()])``, and nothing else changes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autotunenet.adapters._copying import on_cpu
from autotunenet.adapters._keras_run import KerasRun, keras
from autotunenet.adapters._micro_batches import MicroBatches
from autotunenet.adapters._options import check_options
from autotunenet.autotune import AroundUsersLr, make_tuner
from autotunenet.tuner import Tuner

_LOGGED = ("lr", "multiplier", "health", "rollbacks", "discarded_steps")
"""What goes into the logs of every epoch; the same names each time, for that is what Keras' CSVLogger wants."""


_ELSEWHERE = ("replay", "extras", "modulate", "process_group")
"""Options of loops and optimizers of torch."""


class AutoTuneNetCallback(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Finds and adapts the lr of a Keras training, and brings the training back when it breaks.

    The tuner (`tuner`) is made at the first batch, and takes note of every step of the optimizer: of the loss of that
    step itself, and not of the running mean that Keras logs. It goes back with weights and optimizer together. Its
    numbers stand in the logs of every epoch, and so in `History`, `CSVLogger` and `TensorBoard`.

    Args:
        total_steps: Optimizer steps of the whole training. None: epochs times batches; where Keras does not know how
            many those are, lr comes down on a plateau.
        monitor: A metric in the logs of an epoch, ``"val_loss"`` say, for the tuner to observe; the option `mode` tells
            which way it is better. None: the tuner sees the training loss alone.
        backup: A `keras.callbacks.BackupAndRestore`, to be given here and not to `fit`: what it saves holds the tuner's
            state then, and an interrupted training goes on with it.
        space: Bounds of lr, ``{"lr": Float(1e-5, 1.0, log=True)}`` say; nothing else of a Keras optimizer is tuned.
            None: from 1e-7 to 1e7 times the optimizer's.
        **options: Of `autotunenet.make_tuner`, except `replay`, which is for loops of your own.

    Attributes:
        tuner: The tuner of this training, or of the last one; None before the first. `tuner.history` has every decision
            with its reason.

    Raises:
        ValueError: If Keras runs on another backend. When the training begins: if an option is out of its range, or the
            learning rate comes from a schedule. Later: if the metric to monitor is not there, or a ``train_step`` of
            your own does not call ``self.compute_loss``.
        TypeError: If an option is unknown.

    Example:
        >>> import keras, numpy
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(100.0), loss="mse")  # a thousand times too high
        >>> inputs = numpy.eye(4, dtype="float32")
        >>> callback = AutoTuneNetCallback()
        >>> logs = model.fit(inputs, numpy.ones((4, 1)), epochs=200, verbose=0, callbacks=[callback])
        >>> logs.history["loss"][-1] < 0.01
        True
    """

    def __init__(
        self,
        total_steps: int | None = None,
        *,
        monitor: str | None = None,
        backup: keras.callbacks.BackupAndRestore | None = None,
        space: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if keras.backend.backend() != "torch":
            raise ValueError(
                f"AutoTuneNetCallback needs Keras on PyTorch, and this is Keras on {keras.backend.backend()}; set the "
                "environment variable KERAS_BACKEND=torch before keras is imported"
            )
        check_options(type(self).__name__, options, without=_ELSEWHERE)
        self.tuner: Tuner | None = None
        self._total_steps, self._monitor, self._backup = total_steps, monitor, backup
        self._saved = _SavedState(self)
        self._space, self._options = space, options
        self._run: KerasRun | None = None
        self._losses = MicroBatches()
        self._num_waiting = 0  # micro-batches since a step was due
        self._seen: list[Tensor] | None = None  # what compute_loss gives in this batch; None: between batches
        self._first_epoch: int | None = None
        self._loaded: dict[str, Any] = {}  # a state that waits for the first batch
        self._kept: dict[str, Any] = {}  # the state of a training that has ended

    # -- the training ------------------------------------------------------------------------------------------------

    def set_params(self, params: dict[str, Any]) -> None:
        """Take what Keras knows of the training."""
        super().set_params(params)
        if self._backup is not None:
            self._backup.set_params(params)

    def set_model(self, model: Any) -> None:
        """Take the model."""
        super().set_model(model)
        if self._backup is not None:
            self._backup.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Look at the optimizer; take up an interrupted training."""
        self._let_go()
        run = KerasRun(self.model)
        if self._run is not None and self._run.optimizer is run.optimizer:  # whose lr the last training has landed
            run.set_hyperparams({"lr": self._run.users_lr})
        self._run, self._first_epoch, self._kept = None, None, {}
        self._losses, self._num_waiting = MicroBatches(), 0
        self.model.__dict__["compute_loss"] = self._noting(self.model.compute_loss)
        self._back_up("on_train_begin", logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note where the training begins."""
        if self._first_epoch is None:
            self._first_epoch = self._loaded.get("first_epoch", epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Make the tuner at the first batch: by then all that was saved has been loaded, by whichever callback."""
        if self._run is None:
            self._begin()
        self._seen = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Let the tuner take note of the step, where this batch has completed one."""
        assert self.tuner is not None
        assert self._run is not None
        self._num_waiting = (self._num_waiting + 1) % self._run.num_micro_batches
        mean = self._losses.add(self._loss_of_batch(), is_due=not self._num_waiting)
        if mean is not None:
            self.tuner.step(mean)
        self._back_up("on_train_batch_end", batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Let the tuner observe the metric to monitor; add its numbers to the logs."""
        logs = {} if logs is None else logs
        if self.tuner is not None:
            self._observe(self.tuner, logs)
            metrics = self.tuner.metrics()
            logs.update({f"autotunenet/{name}": metrics[f"autotunenet/{name}"] for name in _LOGGED})
        self._back_up("on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Keep the state, and let go of the model."""
        self._kept = on_cpu(self.state_dict())
        self._let_go()
        self._back_up("on_train_end", logs)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the tuner's state, which belongs to the model's weights and the optimizer's variables of this moment.

        It is empty before the first batch.
        """
        if self.tuner is None or self._run is None or self._loaded or self._kept:
            return self._loaded or self._kept
        return {"first_epoch": self._first_epoch, "tuner": self.tuner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a saved state, to go on from it at the first batch of the next `fit`."""
        self._loaded = state_dict

    def _back_up(self, hook: str, *args: Any) -> None:
        """Call a hook of the backup, with the tuner's state as a part of the model.

        So it stands in the same file as the weights, and cannot be of another moment than they.
        """
        if self._backup is None:
            return
        self.model.__dict__["autotunenet"] = self._saved  # past Keras' own bookkeeping: this is no layer of the network
        try:
            getattr(self._backup, hook)(*args)
        finally:
            del self.model.__dict__["autotunenet"]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._run = KerasRun(self.model)
        space = AroundUsersLr(self._run) if self._space is None else self._space
        self.tuner = make_tuner(self._run, space, self._steps_to_go(self._run), **self._options)
        if self._loaded:
            self.tuner.load_state_dict(self._loaded["tuner"])
            self._loaded = {}

    def _steps_to_go(self, run: KerasRun) -> int | None:
        num_batches: int | None = self.params.get("steps")
        if self._total_steps is not None or num_batches is None:
            return self._total_steps
        num_epochs: int = self.params["epochs"] - (self._first_epoch or 0)
        return max(num_epochs * num_batches // run.num_micro_batches, 1)

    def _noting(self, compute_loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def compute_and_note(*args: Any, **kwargs: Any) -> Tensor:
            loss = compute_loss(*args, **kwargs)
            if self._seen is not None and kwargs.get("training") is not False:  # in a training step
                self._seen.append(loss.detach())
            return loss

        return compute_and_note

    def _loss_of_batch(self) -> Tensor:
        """Return the loss that this batch's step went down from."""
        seen, self._seen = self._seen, None
        if not seen:
            raise ValueError(
                f"{type(self.model).__name__}.train_step has not called self.compute_loss(), from which "
                "AutoTuneNetCallback learns the loss of a step; call it there, in place of the loss function itself"
            )
        return seen[0] if len(seen) == 1 else torch.stack(seen).mean()

    def _observe(self, tuner: Tuner, logs: dict[str, Any]) -> None:
        if self._monitor is None:
            return
        if self._monitor in logs:
            tuner.observe(logs[self._monitor])
        elif not self._monitor.startswith("val_") or any(name.startswith("val_") for name in logs):
            raise ValueError(
                f"AutoTuneNetCallback(monitor={self._monitor!r}): the logs of an epoch have no such metric, but "
                f"{', '.join(sorted(logs))}"
            )

    def _let_go(self) -> None:
        self._seen = None
        if self.model is not None:
            self.model.__dict__.pop("compute_loss", None)
        if self.tuner is not None:
            self.tuner.close()


class _SavedState(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """The state of a callback's tuner, as Keras saves and loads the weights of a layer: in bytes of a torch file."""

    def __init__(self, callback: AutoTuneNetCallback) -> None:
        super().__init__(name="autotunenet")
        self._callback = callback

    def save_own_variables(self, store: Any) -> None:
        """Write the state."""
        if state := self._callback.state_dict():
            file = io.BytesIO()
            torch.save(state, file)
            store["state"] = np.frombuffer(file.getbuffer(), dtype=np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Read it, where there is one: the file may be of a training without a tuner."""
        if "state" in store.keys():  # noqa: SIM118 - it is no dict
            file = io.BytesIO(np.asarray(store["state"]).tobytes())
            self._callback.load_state_dict(torch.load(file, weights_only=True))
