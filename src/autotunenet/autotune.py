"""The front door: one call with the defaults that need no tuning."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from autotunenet import arguments
from autotunenet.attribution import Attribution
from autotunenet.controllers import Bayesian, Controller, Cruise
from autotunenet.guards import chain, max_delta, within
from autotunenet.launch import Launch
from autotunenet.snapshots import Scope, SnapshotBuffer
from autotunenet.space import Dimension, Float, SearchSpace
from autotunenet.tuner import Tuner
from autotunenet.types import RatedRun, ScheduledRun, Stateful, TrainingRun

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from autotunenet.adapters.pytorch import TorchRun

_REACH = 1e7
"""The default space reaches from the user's lr divided by this to the user's lr times this."""

_TUNERS: weakref.WeakKeyDictionary[Any, tuple[weakref.ref[Tuner], weakref.ref[TorchRun]]] = weakref.WeakKeyDictionary()
"""By optimizer: the tuner that `AutoTuneNet` has made for it last, and its run."""


def AutoTuneNet(  # noqa: N802 - the product's name
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    total_steps: int | None = None,
    *,
    space: Mapping[str, Dimension] | None = None,
    extras: Sequence[Stateful] = (),
    modulate: bool | None = None,
    process_group: Any = "auto",
    snapshots_in_host_memory: bool = False,
    **options: Any,
) -> Tuner:
    """Return a tuner for a plain PyTorch training, with the defaults.

    In the first steps it finds an lr, whatever `optimizer` was made with (`autotunenet.launch`). Then it holds it, or
    what the Bayesian controller finds better, and lands it where the end of the training is known. After every step it
    judges the loss; when the run breaks it finds out whether the data or the hyperparameters did it, and goes back or
    stays.

    During the launch ``optimizer.param_groups`` go on to hold the lr that the optimizer was made with, and only its
    steps use the one that is tried: an LR scheduler that is made after the tuner still starts from the user's lr, and a
    training that ends there leaves it. Afterwards the lr that was found stands in the groups. A scheduler's lr stays in
    them all the time. To resume, load model, optimizer and scheduler before the tuner; all may be made before or after
    that.

    Args:
        model: What is trained. A tuner that is made later for some of the same weights closes this one: going back,
            each would undo the other's work.
        optimizer: Any optimizer with param groups. Or a list of several that one loss trains, such as Muon for the
            matrices and AdamW for the rest: one factor applies to all of them, and every group's ratio is kept.
        total_steps: Optimizer steps of the whole training, discarded ones included; None: not known.
        space: What may be tuned, within which bounds: a `SearchSpace`, or a dict that one can be made of. None: lr,
            from 1e-7 to 1e7 times the optimizer's; a saved state brings its own bounds along then.
        extras: Further objects with a state that a snapshot holds: a gradient scaler, an averaged model, a CyclicLR,
            whose top is known in no other way.
        modulate: As in `autotunenet.adapters.pytorch.TorchRun`: whether an LR scheduler of the user's is scaled.
        process_group: Which processes decide together, where several train the model (`docs/distributed.md`): a
            `torch.distributed.ProcessGroup`, or None for a tuner of its own in each. ``"auto"``: those of
            DistributedDataParallel, which may lie inside the model or around it, or all that its parameters are sharded
            over.
        snapshots_in_host_memory: As in `TorchRun`: for a model that does not fit twice into its device.
        **options: Of `make_tuner`.

    Raises:
        ValueError: If an argument is out of its range, if this optimizer has a tuner already that is neither closed
            nor gone, or if torch.distributed runs with several ranks and ``"auto"`` cannot tell which belong together.
        TypeError: If an argument is of a wrong kind.

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
    from autotunenet.adapters._optimizers import members_of
    from autotunenet.adapters.pytorch import TorchRun

    _refuse_second(members_of(model, optimizer))
    named = ("lr",) if space is None else arguments.as_space(space)
    run = TorchRun(
        model,
        optimizer,
        names=named,
        extras=extras,
        modulate=modulate,
        process_group=process_group,
        snapshots_in_host_memory=snapshots_in_host_memory,
    )
    try:
        tuner = make_tuner(run, AroundUsersLr(run) if space is None else space, total_steps, **options)
    except BaseException:
        run.close()  # a traceback may keep it alive
        raise
    _take_over(run)
    for member in run.optimizers:
        _TUNERS[member] = weakref.ref(tuner), weakref.ref(run)
    return tuner


def make_tuner(
    run: TrainingRun,
    space: Mapping[str, Dimension],
    total_steps: int | None = None,
    *,
    interval: int | None = None,
    scope: Scope = "full",
    launch: bool | Launch | None = True,
    bayesian: bool = True,
    attribution: bool | Attribution | None = True,
    land: bool | Literal["always"] = True,
    rewarm: bool = True,
    backoff: float = 0.25,
    accumulation: bool = True,
    seed: int = 0,
    **options: Any,
) -> Tuner:
    """Return a tuner with AutoTuneNet's parts over any training run.

    Args:
        run: The training.
        space: What may be tuned, within which bounds; lr is among it. A dict is made a `SearchSpace`.
        total_steps: Optimizer steps of the whole training; None: not known.
        interval: Control interval in optimizer steps. None: a hundredth of `total_steps`, at least 5, at most 500; 20
            where the end is not known.
        scope: What a rollback restores, as in `SnapshotBuffer`. Only with ``"full"`` there are launch and attribution.
        launch: Whether to find the lr in the first steps, or the `Launch` that does it.
        bayesian: Whether to move away from the plan on evidence.
        attribution: Whether to find out after an alarm whose fault it was, or the `Attribution` that does it.
        land: Whether lr comes down at the end, or on a plateau where the end is not known. An LR scheduler of the
            user's takes its place, from when it is there; ``"always"``: on top of it, where it never comes down.
        rewarm: Whether lr warms up again, from a half, after a change of the data.
        backoff: Factor on lr after a rollback that found the same lr in force, in (0, 1); compounds. A quarter, as the
            launch keeps it from an lr that failed.
        accumulation: As in `Tuner`: whether calls of ``step`` with no optimizer step between them count as one.
        seed: Seed of the controller.
        **options: Of `Tuner`: replay, mode, monitor, guard, snapshot_every, ...

    Raises:
        ValueError: If an argument is out of its range, or lr is not tuned.
        TypeError: If an argument is of a wrong kind.
    """
    space = arguments.as_space(space)
    total_steps, interval = arguments.as_count("total_steps", total_steps), arguments.as_count("interval", interval)
    replay = options.get("replay")
    if replay is not None and not callable(replay):
        raise TypeError(f"replay must be a function that trains one batch and returns its loss, got {replay!r}")
    if interval is None:
        interval = 20 if total_steps is None else min(max(total_steps // 100, 5), 500)
    return Tuner(
        run,
        space,
        controller=make_controller(space, total_steps, bayesian=bayesian, land=land, rewarm=rewarm, seed=seed, run=run),
        interval=interval,
        snapshots=SnapshotBuffer(run, scope),
        launch=Launch(total_steps=total_steps) if launch is True else arguments.as_part("launch", launch, Launch),
        attribution=arguments.as_part("attribution", attribution, Attribution),
        backoff=backoff,
        accumulation=accumulation,
        **{"guard": chain(max_delta(1.0), within(space)), **options},
    )


def make_controller(
    space: SearchSpace,
    total_steps: int | None = None,
    *,
    bayesian: bool = True,
    land: bool | Literal["always"] = True,
    rewarm: bool = True,
    seed: int = 0,
    run: TrainingRun | None = None,
) -> Controller:
    """Return AutoTuneNet's controller: a plan, and the Bayesian one on top of it. The arguments are `make_tuner`'s."""
    if land not in (True, False, "always"):
        raise ValueError(f"land must be True, False or 'always', got {land!r}")
    schedule = None if land == "always" else run
    plan = _YieldingCruise(schedule, total_steps=total_steps, land=bool(land), **({} if rewarm else {"warmth": 1.0}))
    return Bayesian(tuple(space), prior=plan, seed=seed) if bayesian else plan


class _YieldingCruise(Cruise):
    """Leaves the landing to a schedule of the user's, from when there is one: it says when."""

    def __init__(self, run: TrainingRun | None, **options: Any) -> None:
        self._run = run
        super().__init__(**options)

    @property
    def land(self) -> bool:
        return self._land and not (isinstance(self._run, ScheduledRun) and self._run.has_schedule)

    @land.setter
    def land(self, value: bool) -> None:
        self._land = value


class AroundUsersLr(SearchSpace):
    """The default space: lr, within decades of the one that a run was made with.

    A run that goes on from a saved state knows the lr that the first one was made with, and not only the one that was
    found since and came with the optimizer's state; so its bounds are the first one's.

    Raises:
        ValueError: If that lr is not above 0.
    """

    def __init__(self, run: RatedRun) -> None:
        if run.users_lr <= 0:
            raise ValueError(
                "the optimizer's lr is 0 in every group; give it a positive one, or give a search space. Where a tuner "
                "has landed it, put the one to start from into optimizer.param_groups; where it came with a saved "
                "state, make the tuner first, and then load the optimizer's state and the tuner's"
            )
        self._run, self._lr = run, run.users_lr
        super().__init__({"lr": _around(self._lr)})

    def __getitem__(self, name: str) -> Dimension:
        return self._named(name) if name == "lr" else super().__getitem__(name)

    def _named(self, name: str) -> Dimension:
        if self._run.users_lr != self._lr:
            self._lr = self._run.users_lr
            self._dimensions = {"lr": _around(self._lr)}
        return super()._named(name)


def _around(lr: float) -> Float:
    return Float(lr / _REACH, lr * _REACH, log=True)


def _refuse_second(optimizers: Sequence[Any]) -> None:
    """Refuse optimizers one of which a tuner still holds: two would write over each other's values."""

    def is_held() -> bool:
        return any(_live(optimizer) for optimizer in optimizers)

    if is_held():
        gc.collect()  # one that is only waiting to be collected holds nothing
        if is_held():
            raise ValueError(
                "this optimizer has a tuner already, and two would write over each other's lr; close() that one first, "
                "or make the model and the optimizer anew, as for a run from the start"
            )


def _take_over(run: TorchRun) -> None:
    """Close the tuners that hold weights of a new run: of another part of the model they would not."""
    for tuner, other in filter(None, map(_live, list(_TUNERS))):
        if name := run.shared_with(other):
            tuner.close(
                f"a tuner that was made later holds {name} too, and going back each would undo the other's work. "
                "Give each the part of the model that its optimizers train, AutoTuneNet(model.part, optimizer); where "
                "one loss trains all, give one tuner all of them, AutoTuneNet(model, [optimizer, another])"
            )


def _live(optimizer: Any) -> tuple[Tuner, TorchRun] | None:
    """Return the tuner that holds an optimizer, and its run; None: there is none, or it has been closed."""
    if optimizer not in _TUNERS:
        return None
    tuner, run = _TUNERS[optimizer][0](), _TUNERS[optimizer][1]()
    return None if tuner is None or run is None or run.is_closed else (tuner, run)
