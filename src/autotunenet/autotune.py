"""The front door: one call with the defaults that need no tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autotunenet.attribution import Attribution
from autotunenet.controllers import Bayesian, Controller, Cruise
from autotunenet.guards import chain, max_delta, within
from autotunenet.launch import Launch
from autotunenet.snapshots import Scope, SnapshotBuffer
from autotunenet.space import Float, SearchSpace
from autotunenet.tuner import Tuner
from autotunenet.types import ScheduledRun, Stateful, TrainingRun

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

_REACH = 1e7
"""The default space reaches from the user's lr divided by this to the user's lr times this."""


def AutoTuneNet(  # noqa: N802 - the product's name
    model: nn.Module,
    optimizer: Optimizer,
    total_steps: int | None = None,
    *,
    space: SearchSpace | None = None,
    extras: Sequence[Stateful] = (),
    modulate: bool | None = None,
    **options: Any,
) -> Tuner:
    """Return a tuner for a plain PyTorch training, with the defaults.

    In the first steps it finds an lr, whatever `optimizer` was made with (`autotunenet.launch`). Then it holds it, or
    what the Bayesian controller finds better, and lands it where the end of the training is known. After every step it
    judges the loss; when the run breaks it finds out whether the data or the hyperparameters did it, and goes back or
    stays.

    Args:
        model: What is trained.
        optimizer: Any optimizer with param groups.
        total_steps: Optimizer steps of the whole training, discarded ones included; None: not known.
        space: What may be tuned, within which bounds. None: lr, from 1e-7 to 1e7 times the optimizer's.
        extras: Further objects with a state that a snapshot holds: a gradient scaler, an averaged model.
        modulate: As in `autotunenet.adapters.pytorch.TorchRun`: whether an LR scheduler of the user's is scaled.
        **options: Of `make_tuner`.

    Raises:
        ValueError: If an argument is out of its range.

    Example: two lines in a training loop.

    >>> import torch
    >>> from autotunenet import AutoTuneNet
    >>> model = torch.nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=100.0)  # a thousand times too high
    >>> tuner = AutoTuneNet(model, optimizer, total_steps=200)  # the first line
    >>> inputs = torch.eye(4)
    >>> for _ in range(200):
    ...     loss = (model(inputs) - 1).square().mean()
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    ...     decision = tuner.step(loss)  # the second
    >>> loss.item() < 0.01
    True
    """
    from autotunenet.adapters.pytorch import TorchRun

    # A scheduler that warms up has already scaled lr down, perhaps to zero; initial_lr is what the user gave.
    lrs = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    lr = next((value for value in lrs if value > 0), 0.0)
    if space is None:
        if lr <= 0:
            raise ValueError("the optimizer's lr is 0 in every group; give it a positive one, or give a search space")
        space = SearchSpace({"lr": Float(lr / _REACH, lr * _REACH, log=True)})
    run = TorchRun(model, optimizer, names=space, extras=extras, modulate=modulate)
    return make_tuner(run, space, total_steps, **options)


def make_tuner(
    run: TrainingRun,
    space: SearchSpace,
    total_steps: int | None = None,
    *,
    interval: int | None = None,
    scope: Scope = "full",
    launch: bool = True,
    bayesian: bool = True,
    attribution: bool = True,
    land: bool = True,
    backoff: float = 0.25,
    seed: int = 0,
    **options: Any,
) -> Tuner:
    """Return a tuner with AutoTuneNet's parts over any training run.

    Args:
        run: The training.
        space: What may be tuned, within which bounds; lr is among it.
        total_steps: Optimizer steps of the whole training; None: not known.
        interval: Control interval in optimizer steps. None: a hundredth of `total_steps`, at least 5, at most 500; 20
            where the end is not known.
        scope: What a rollback restores, as in `SnapshotBuffer`. Only with ``"full"`` there are launch and attribution.
        launch: Whether to find the lr in the first steps.
        bayesian: Whether to move away from the plan on evidence.
        attribution: Whether to find out after an alarm whose fault it was.
        land: Whether lr comes down at the end, or on a plateau where the end is not known. An LR scheduler of the
            user's, made before the tuner, takes its place.
        backoff: Factor on lr after a rollback that found the same lr in force, in (0, 1); compounds. A quarter, as the
            launch keeps it from an lr that failed.
        seed: Seed of the controller.
        **options: Of `Tuner`: replay, mode, monitor, guard, snapshot_every, ...

    Raises:
        ValueError: If an argument is out of its range, or lr is not tuned.
    """
    if isinstance(run, ScheduledRun) and run.has_schedule:
        land = False  # the user's schedule says when
    if interval is None:
        interval = 20 if total_steps is None else min(max(total_steps // 100, 5), 500)
    return Tuner(
        run,
        space,
        controller=make_controller(space, total_steps, bayesian=bayesian, land=land, seed=seed),
        interval=interval,
        snapshots=SnapshotBuffer(run, scope),
        launch=Launch() if launch else None,
        attribution=Attribution() if attribution else None,
        backoff=backoff,
        **{"guard": chain(max_delta(1.0), within(space)), **options},
    )


def make_controller(
    space: SearchSpace, total_steps: int | None = None, *, bayesian: bool = True, land: bool = True, seed: int = 0
) -> Controller:
    """Return AutoTuneNet's controller: a plan, and the Bayesian one on top of it. The arguments are `make_tuner`'s."""
    plan = Cruise(total_steps=total_steps, land=land)
    return Bayesian(tuple(space), prior=plan, seed=seed) if bayesian else plan
