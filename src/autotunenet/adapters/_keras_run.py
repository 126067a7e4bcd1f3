"""A Keras model on PyTorch as a `TrainingRun`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autotunenet.adapters._copying import TreeCopier, are_finite
from autotunenet.state import check_keys
from autotunenet.types import Hyperparams

try:
    import keras
except ImportError as error:  # also where Keras is there, and its backend is another that is not
    raise ImportError(
        f"autotunenet.adapters.keras needs Keras on PyTorch ({error}); install it with: pip install "
        "'autotunenet[keras]', and set the environment variable KERAS_BACKEND=torch before keras is imported"
    ) from error

__all__ = ["KerasRun", "keras"]


class KerasRun:
    """A compiled Keras model on PyTorch as a `TrainingRun`; what is tuned is lr.

    A snapshot holds the model's weights and the optimizer's variables, a loss scale among them; random seeds and
    metrics go on as they are.

    Args:
        model: Compiled with an optimizer whose learning rate is a number; both are built.

    Raises:
        ValueError: If the optimizer is missing, or its learning rate cannot be set, or is not above 0.
    """

    def __init__(self, model: Any) -> None:
        if model.optimizer is None:
            raise ValueError("the model has no optimizer; call model.compile(optimizer=..., loss=...) before fit()")
        self._model, self.optimizer = model, _innermost(model.optimizer)
        if not hasattr(self.optimizer.learning_rate, "assign"):  # of a schedule, it is computed
            raise ValueError(
                f"the learning rate of {type(self.optimizer).__name__} comes from a schedule, which nobody can set; "
                "give the optimizer a number, the largest of the schedule: AutoTuneNet lets it come down by itself"
            )
        self._users_lr = self.effective_lr
        if not self._users_lr > 0:
            raise ValueError(f"the optimizer's learning rate is {self._users_lr}; give it a positive one")
        self._num_steps = self._count_steps()

    @property
    def users_lr(self) -> float:
        """The lr that the run was made with."""
        return self._users_lr

    @property
    def effective_lr(self) -> float:
        """The lr that the next optimizer step will use, in the precision of the model."""
        return float(self.optimizer.learning_rate.value.item())

    @property
    def num_micro_batches(self) -> int:
        """Batches whose gradients make one step."""
        return self.optimizer.gradient_accumulation_steps or 1

    def took_step(self) -> bool:
        """Whether the optimizer has stepped since this was last asked; a step that a loss scale skips is none."""
        before, self._num_steps = self._num_steps, self._count_steps()
        return self._num_steps != before  # less, where a rollback has taken the count back

    def get_hyperparams(self) -> dict[str, float]:
        """Read lr."""
        return {"lr": self.effective_lr}

    def set_hyperparams(self, hyperparams: Hyperparams) -> None:
        """Put lr in force.

        Raises:
            KeyError: If another name is given.
        """
        for name in hyperparams:
            if name != "lr":
                raise KeyError(f"{name!r} is not tuned here; of a Keras optimizer it is lr alone")
        for lr in hyperparams.values():
            self.optimizer.learning_rate.assign(lr)

    def copy_into(self, buffers: dict[str, Any] | None) -> dict[str, Any]:
        """Copy weights and optimizer variables into `buffers`, lists of tensors by kind, in place where they fit."""
        copier = TreeCopier()
        copied: dict[str, Any] = copier.copy(self._tree(), buffers)
        copier.run()
        return copied

    def copy_from(self, buffers: dict[str, Any]) -> None:
        """Copy `buffers` over weights and optimizer variables, in place.

        Raises:
            ValueError: If they are of another model or optimizer; nothing is changed then.
        """
        self.check_buffers(buffers)
        copier = TreeCopier()
        copier.copy(buffers, self._tree())
        copier.run()

    def check_buffers(self, buffers: dict[str, Any]) -> None:
        """Refuse buffers that `copy_from` could not copy.

        Raises:
            ValueError: If counts, shapes or types differ.
        """
        tree = self._tree()
        check_keys(type(self).__name__, buffers, tree)
        for name, tensors in tree.items():
            saved, live = ([(tuple(x.shape), x.dtype) for x in kind] for kind in (buffers[name], tensors))
            if saved != live:
                raise ValueError(
                    f"this snapshot is of another model or optimizer: its {name} have the shapes and types {saved}, "
                    f"here they have {live}; make both as they were when it was saved"
                )

    def has_finite_weights(self) -> bool:
        """Whether every weight that is trained is a finite number."""
        return are_finite([variable.value for variable in self._model.trainable_weights])

    def state_dict(self) -> dict[str, Any]:
        """Return what cannot be read off the optimizer: the lr that it was made with."""
        return {"users_lr": self._users_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a saved state. Load the weights and the optimizer's variables first.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("users_lr",))
        self._users_lr, self._num_steps = state_dict["users_lr"], self._count_steps()

    def _count_steps(self) -> int:
        iterations = self.optimizer.iterations  # a tensor where gradients are accumulated
        return int(getattr(iterations, "value", iterations))

    def _tree(self) -> dict[str, list[Tensor]]:
        lr = self.optimizer.learning_rate
        of_the_optimizer = [variable for variable in self._model.optimizer.variables if variable is not lr]
        return {
            "weights": [variable.value for variable in self._model.weights],
            "optimizer": [variable.value for variable in of_the_optimizer],
        }


def _innermost(optimizer: Any) -> Any:
    """Return the optimizer that has the learning rate: inside a `LossScaleOptimizer` it is another."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
