"""THE LOOP: observe -> judge -> (go back | propose -> bound) -> apply.

batch -> step -> loss -> launch.update, in the first steps: which lr does this training want?
                         KEEP what a trial has learned | RETURN to before it | the next lr -> Decision(PROBE)
              after that recovery.watch -> Health
    UNSTABLE -> set the suspect state aside, watch the good one -> Decision(PROBE)
             -> the knob: stay back, lr cut -> Decision(ROLLBACK); the data: return -> Decision(RESTORE_SUSPECT)
    else at the end of an interval -> controller.observe(metric, step); proposed = controller.propose(current)
         applied = guard(current, proposed, step) -> run.set_hyperparams(applied) -> Decision(ADAPT | HOLD)
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, SupportsFloat

from autotunenet import arguments, reasons
from autotunenet.agreement import Agreement
from autotunenet.attribution import Attribution
from autotunenet.control import Control
from autotunenet.controllers import Controller
from autotunenet.guards import Guard, chain, max_delta, within
from autotunenet.late_losses import LateLosses, Loss
from autotunenet.launch import Launch
from autotunenet.launching import Launching
from autotunenet.monitors import Monitor, default_monitor
from autotunenet.recovery import Recovery
from autotunenet.replaying import Replay
from autotunenet.reporting import Reporter
from autotunenet.resuming import all_or_nothing, saved_history, saved_values
from autotunenet.sinks import Sink
from autotunenet.snapshots import SnapshotBuffer
from autotunenet.space import SearchSpace
from autotunenet.state import PlainState, check_keys
from autotunenet.step_losses import StepLosses
from autotunenet.types import (
    Action,
    ClosableRun,
    Decision,
    Health,
    LateRun,
    Observation,
    Outcome,
    Stateful,
    TrainingRun,
)
from autotunenet.views import Viewed
from autotunenet.way_back import WayBack

logger = logging.getLogger(__name__)


class Tuner(Viewed, PlainState):
    """Adapts the hyperparameters of one running training, and brings it back when it breaks.

    Two loops. `step` is the fast one: call it after every optimizer step with that step's training loss; it watches the
    run's health and keeps the way back. `observe` is the slow one: call it whenever there is a validation metric. The
    controller is asked at the end of every control interval: every `interval` steps on the mean training loss, or,
    where `interval` is None, at every `observe` on its metric.

    Args:
        run: The training, for example an `autotunenet.adapters.pytorch.TorchRun`.
        space: What may be tuned and in which box. Its names are the run's.
        controller: Proposes.
        guard: Bounds a proposal. None: ``chain(max_delta(0.5), within(space))``. Rollbacks are exempt.
        monitor: Judges every step. None: non-finite, overshoot, regression, spike, collapse
            and change point, with their defaults.
        snapshots: The way back. None: ``SnapshotBuffer(run, "full")``.
        interval: Control interval in optimizer steps, or None for one control step a call of `observe`.
        backoff: Factor in (0, 1) on lr (on every tuned value, where lr is not tuned) after a rollback; n rollbacks in a
            row multiply by ``backoff ** n``. Bounded by the space.
        mode: ``"min"`` or ``"max"``: which way the metric given to `observe` is better. Controllers always see "lower
            is better"; for ``"max"`` the sign is turned.
        snapshot_every: Healthy optimizer steps between two snapshots, at least 1.
        snapshot_budget: Share of the time that snapshots may take, in (0, 1], say 0.01: where copies are slow and steps
            are fast, more steps than `snapshot_every` lie between two. The clock then has a say in how far a rollback
            goes, so that two runs need not be the same. None: as much as it takes.
        proof_steps: Healthy steps after a snapshot, with no alarm among them, that make it good, at least 1.
        max_futile: Rollbacks in a row whose restored state gave a bad loss at once, before any update. After so many,
            at least 1, the world has changed and not the weights: the tuner stays, and judges from the new level. A
            loss that is not finite is no level to stay at: it is rolled back every time.
        max_rollbacks: Rollbacks in a row, at least 1, after which the tuner stays where it is, with the most careful
            values, and lets nobody raise them before a state has been proven.
        attribution: Finds out after an alarm whose fault it was, where the scope is ``"full"``. None: every alarm is a
            rollback.
        replay: Trains one batch as the user's loop does, and returns its loss: makes the attribution a paired
            comparison. Used where `step` is given the batches.
        launch: Finds the lr in the first steps, where the scope is ``"full"``. None: the controller's first values.
        accumulation: Whether calls of `step` with no optimizer step between them count as one step, with their mean
            loss, where the run sees optimizer steps: batches of which each adds to the gradient, and steps that a
            gradient scaler has skipped. False: every call is a step.
        lag: Steps, at least 0, that a loss on an accelerator is judged late, so that the host need not wait for it.
            Waited for are those of a launch and of a trial, and where several processes train together.
        history_size: Decisions that `history` remembers; older ones are dropped.
        sinks: Where numbers and decisions go besides, for example an `autotunenet.sinks.Sink` of your own.

    Raises:
        ValueError: If an argument is out of its range, if space and run do not name the same values, or if the space
            lacks one that the controller changes.
        TypeError: If `controller` is a class.

    Example: two lines in a training loop.

    >>> import torch
    >>> from autotunenet import Float, SearchSpace, Tuner
    >>> from autotunenet.adapters.pytorch import TorchRun
    >>> from autotunenet.controllers import Heuristic
    >>> model = torch.nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> space = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
    >>> tuner = Tuner(TorchRun(model, optimizer, names=space), space, controller=Heuristic(), interval=10)
    >>> inputs = torch.ones(8, 4)
    >>> for _ in range(30):
    ...     loss = (model(inputs) - 1).square().mean()
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    ...     decision = tuner.step(loss)
    >>> [decision.observation.step for decision in tuner.history]
    [10, 20, 30]
    """

    state_names = ("_num_steps", "_applied")

    def __init__(
        self,
        run: TrainingRun,
        space: SearchSpace,
        *,
        controller: Controller,
        guard: Guard | None = None,
        monitor: Monitor | None = None,
        snapshots: SnapshotBuffer | None = None,
        interval: int | None = None,
        backoff: float = 0.5,
        mode: Literal["min", "max"] = "min",
        snapshot_every: int = 50,
        snapshot_budget: float | None = None,
        proof_steps: int = 10,
        max_futile: int = 2,
        max_rollbacks: int = 8,
        attribution: Attribution | None = None,
        replay: Replay | None = None,
        launch: Launch | None = None,
        accumulation: bool = False,
        lag: int = 2,
        history_size: int = 100_000,
        sinks: Sequence[Sink] = (),
    ) -> None:
        if not 0 < backoff < 1:
            raise ValueError(f"backoff must lie in (0, 1): a rollback has to change something; got {backoff}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        arguments.check_counts(
            interval=1 if interval is None else interval,
            snapshot_every=snapshot_every,
            proof_steps=proof_steps,
            max_futile=max_futile,
            max_rollbacks=max_rollbacks,
            history_size=history_size,
        )
        arguments.check_counts(least=0, lag=lag)
        initial = run.get_hyperparams()
        arguments.check_parts(initial, space, controller)
        self.history: deque[Decision] = deque(maxlen=history_size)
        self._reporter = Reporter(run, sinks)
        self._late = LateLosses(lag)
        self._step_losses = StepLosses(run if accumulation else None, lag)
        self._agreement = Agreement(run)
        self._sender = run if lag and isinstance(run, LateRun) and not self._agreement.is_needed else None
        self._run, self._space, self._mode = run, space, mode
        guard = chain(max_delta(0.5), within(space)) if guard is None else guard
        self._control = Control(run, space, controller, guard, interval)
        snapshots = SnapshotBuffer(run) if snapshots is None else snapshots
        self._way_back = WayBack(
            run,
            space,
            snapshots,
            snapshot_every=snapshot_every,
            proof_steps=proof_steps,
            budget=snapshot_budget,
            late=self._late,
        )
        self._recovery = Recovery(
            run,
            self._way_back,
            default_monitor() if monitor is None else monitor,
            backoff=backoff,
            max_futile=max_futile,
            max_rollbacks=max_rollbacks,
            attribution=attribution,
            replay=replay,
        )
        self._launching: Launching | None = None
        if launch and "lr" in space and snapshots.scope == "full":
            self._launching = Launching(launch, run, self._way_back, self._recovery)

        self._initial, self._is_closed, self._why_closed = initial, False, ""
        self._num_steps = 0

        first = self._control.start(initial)
        if self._launching:
            first["lr"] = self._launching.start({**initial, **first}["lr"], space["lr"])
        run.set_hyperparams(first)
        self._applied = run.get_hyperparams()
        self._way_back.capture(step=0)

    @property
    def run(self) -> TrainingRun:
        """The training."""
        return self._run

    @property
    def wants_batches(self) -> bool:
        """Whether `step` is to be given the batches, for `replay`."""
        return self._recovery.wants_batches

    @property
    def _snapshots(self) -> SnapshotBuffer:
        return self._way_back.snapshots

    # -- the two loops -----------------------------------------------------------------------------------------------

    def step(self, loss: SupportsFloat, batch: Any = None) -> Decision | None:
        """Take note of one optimizer step. Call it after ``optimizer.step()``, with the loss that step went down from.

        Where several processes train the model together, all of them call it, each with its own loss; what is judged is
        the mean, and where one of them is not finite, neither is the mean.

        Args:
            loss: Training loss, a number or a tensor with one element; lower is better; may be NaN or infinite. Not the
                one that a gradient scaler has scaled. With gradient accumulation, the mean over the batches; or, with
                `accumulation`, call it after every batch with the loss of that one.
            batch: What the loss was computed from, for `replay`; a few are kept while an alarm is looked into. Not
                where several calls make a step: no stored batch gives that again.

        Returns:
            What was decided, or None if nothing was decided at this step.

        Raises:
            TypeError: If `loss` is no number and holds none; nothing is counted then.
            RuntimeError: If the tuner is closed, or if the processes have come apart.
        """
        is_busy = self._is_busy()
        pending = None if is_busy or self._sender is None else self._sender.send_for(loss)
        return self._meet(arguments.as_float(loss, "loss") if pending is None else pending, batch, is_busy)

    def follow(self) -> Decision | None:
        """Take note of an optimizer step that other processes take and this one does not, for it has no batches left.

        It counts here as there, and is decided on in the same way. `autotunenet.adapters.distributed.joinable` calls
        it. Returns and raises what `step` does.
        """
        return self._meet(None, None, self._is_busy())

    # What runs at every step makes few calls: caches are cold then, and each of them costs several times what it costs
    # in a loop of its own.

    def _meet(self, loss: Loss | None, batch: Any, is_busy: bool) -> Decision | None:
        """Agree with the other processes, where there are any, on what has happened; then act on it."""
        if self._is_closed:
            why = f": {self._why_closed}" if self._why_closed else "; make another one to go on tuning"
            raise RuntimeError(f"this tuner is closed{why}")
        may_replay = self._recovery.wants_batches
        batch = batch if may_replay else None
        took_step = self._step_losses.took_step()
        decision = None
        if loss is None or self._agreement.is_due:
            loss, batch, metric, took_step = self._agreement.on_step(loss, batch, self._num_steps, took_step)
            decision = None if metric is None else self._hear(metric)  # it was measured before this step
        told = self._step_losses.take(loss, batch, took_step)
        if told is not None:
            decision = self._take(*told, is_busy) or decision
        if may_replay:
            self._step_losses.took_step()  # those of a replay were the tuner's own
        return decision

    def _take(self, loss: Loss, batch: Any, is_busy: bool) -> Decision | None:
        """Count a step, and see what the loss says that it is time to judge; it may be that of a few steps before."""
        self._num_steps += 1
        self._way_back.advance(batch)
        value = self._late.hear(loss, at_once=is_busy)
        return None if value is None else self._judge(value, batch)

    def _judge(self, value: float, batch: Any) -> Decision | None:
        """See what the loss says of the run, and do what there is to do."""
        if self._launching and not self._launching.launch.is_done:
            return self._go_on_launching(self._launching, value)
        health, outcome = self._recovery.watch(value, self._num_steps, self._applied, batch)
        self._control.note(value, health)
        if outcome:
            return self._record(outcome, value)
        if health is Health.UNSTABLE and self._snapshots.scope != "none":  # undone without another word
            self._control.begin_interval()
            return None
        if self._launching and not self._launching.launch.is_proven and not self._recovery.is_on_trial:
            discarded = self._launching.prove(value, self._num_steps)
            if discarded is not None:
                return self._note_move(discarded, value)
        if self._control.is_due and not self._recovery.is_on_trial:
            return self._end_interval(value)
        return None

    def observe(self, metric: SupportsFloat) -> Decision | None:
        """Take note of a validation metric; `mode` says which way it is better.

        Where several processes train the model together, it may be called in all of them or in some, one alone for
        example. It waits for nobody: the metric reaches the others with the next step, as the mean over those that have
        one, and is heard then as if it had come just before it. Of several before one step the last counts.

        Returns:
            What was decided. None where the control interval is counted in steps: the metric is left alone then, so
            that the controller never has to compare two different ones. None where there are other processes.
        """
        value = arguments.as_float(metric, "metric")
        if self._agreement.is_needed:
            self._agreement.metric = value
            return None
        return self._hear(value)

    def _hear(self, value: float) -> Decision | None:
        self._reporter.measured(value, self._num_steps)
        value = -value if self._mode == "max" else value
        if self._control.interval is None:
            return None if self._is_busy() else self._decide(value)
        if not self._is_busy():
            self._control.controller.observe_validation(value, self._num_steps)
        return None

    def close(self, reason: str = "") -> None:
        """Let go of the run. What was found stays in force; in the middle of a launch it is what the user had.

        Args:
            reason: What `step` is to say to whoever goes on calling it.
        """
        if self._is_closed:
            return
        self._is_closed, self._why_closed = True, reason
        if self._agreement.metric is not None:  # no step has come to bring it to the others
            self._reporter.measured(self._agreement.metric, self._num_steps)
        if isinstance(self._run, ClosableRun):
            self._run.close()
        elif self._is_launching():
            self._run.set_hyperparams(self._initial)
        self._snapshots.discard_all()
        self._reporter.close()

    def metrics(self) -> dict[str, float]:
        """Return numbers to plot beside the loss, as the sinks get them.

        | name | what |
        | --- | --- |
        | ``autotunenet/lr`` | what the next step will use, a scheduler's factor included |
        | ``autotunenet/multiplier`` | the lr that is tuned over the one that the optimizer was made with |
        | ``autotunenet/health`` | of the last interval: 0 stable, 1 suspect, 2 unstable |
        | ``autotunenet/rollbacks`` | so far |
        | ``autotunenet/discarded_steps`` | optimizer steps whose work was thrown away, so far |
        | ``autotunenet/loss`` | mean training loss of the last interval; at an alarm or a trial, of one step |
        | ``autotunenet/validation`` | the last metric that `observe` was given |

        The last two are there once there is one, and a number. What else is tuned has its own name.
        """
        waiting = {} if self._agreement.metric is None else {"autotunenet/validation": self._agreement.metric}
        return {**self._reporter.metrics(), **waiting}

    def _is_busy(self) -> bool:
        """Whether a trial is on: what is measured now says nothing about the values to come."""
        return self._recovery.is_on_trial or self._is_launching()

    def _is_launching(self) -> bool:
        return self._launching is not None and not self._launching.launch.is_done

    @property
    def _phase(self) -> str:
        if self._is_closed:
            return "closed"
        return "launching" if self._is_launching() else "on trial" if self._recovery.is_on_trial else "running"

    def _go_on_launching(self, launching: Launching, loss: float) -> Decision | None:
        foreign = reasons.changes(self._applied, self._run.get_hyperparams())
        if not foreign:
            return self._note_move(launching.step(loss, self._num_steps), loss)
        launching.end(reasons.interrupted_launch(foreign))
        return self._note_move(0, loss)

    @property
    def _interval(self) -> int | None:
        return self._control.interval

    # -- one control step --------------------------------------------------------------------------------------------

    def _end_interval(self, loss: float) -> Decision:
        """Look twice where somebody else has turned lr up; else let the controller decide."""
        outcome = self._recovery.question(self._control.losses, self._num_steps, self._applied)
        return self._record(outcome, loss) if outcome else self._decide(self._control.mean_loss())

    def _decide(self, metric: float) -> Decision:
        """Close the interval: let the controller observe and propose, bound what it asks for, put that in force."""
        known = self._applied
        decision = self._control.decide(metric, self._num_steps, known, may_raise=not self._recovery.is_holding)
        self._applied = self._run.get_hyperparams()
        in_force = decision.observation.hyperparams
        if known != in_force and self._way_back.is_due(self._num_steps) and not self._snapshots.candidate:
            self._way_back.capture(self._num_steps)  # a scheduler that writes at every step leaves no other moment
        return self._close_interval(decision)

    def _record(self, outcome: Outcome, loss: float) -> Decision:
        """Let the controller know what was done about an alarm, and write it down."""
        if outcome.action in (Action.ROLLBACK, Action.ACCEPT):
            # An unstable interval has no level of its own.
            seen, proposed = self._control.consult(math.inf, self._num_steps, outcome.in_force)
        else:
            seen, proposed = Observation(self._num_steps, loss, outcome.in_force), dict(outcome.in_force)
        self._applied = self._run.get_hyperparams()
        if outcome.action is not Action.PROBE:
            self._control.controller.follow(self._applied)
        if self._launching and outcome.action is Action.ROLLBACK and self._applied != outcome.in_force:
            self._launching.end(outcome.reason)  # what was found has been found wrong
        if outcome.world_changed:
            self._control.controller.forget(self._num_steps)
        reason = outcome.reason + (self._control.rewarm() if outcome.data_changed else "")
        self._applied = self._run.get_hyperparams()
        logger.info("step %d: %s", self._num_steps, reason)
        decision = Decision(
            seen,
            Health.UNSTABLE,
            outcome.action,
            proposed,
            self._applied,
            outcome.discarded_steps,
            reason,
            outcome.cause,
            outcome.evidence,
        )
        return self._close_interval(decision)

    def _close_interval(self, decision: Decision) -> Decision:
        self._control.begin_interval()
        self.history.append(decision)
        self._reporter.decided(decision)
        return decision

    def _note_move(self, discarded: int | None, loss: float) -> Decision | None:
        """Write down what the launch did, and what it threw away."""
        if discarded is None or self._launching is None:
            return None
        launch = self._launching.launch
        seen = Observation(self._num_steps, loss, self._applied)
        self._applied = self._run.get_hyperparams()
        if launch.is_done:
            self._control.controller.follow(self._applied)
        tried = seen.hyperparams
        return self._close_interval(
            Decision(seen, Health.STABLE, Action.PROBE, tried, self._applied, discarded, launch.reason)
        )

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit, snapshots and history included."""
        return {
            **super().state_dict(),
            "run": {},
            "launch": {},
            **{name: part.state_dict() for name, part in self._parts().items()},
            # Not always `_applied`: somebody else may have written since.
            "hyperparams": self._run.get_hyperparams(),
            "recovery": self._recovery.state_dict(),
            "history": [decision.to_record() for decision in self.history],
        }

    def _parts(self) -> dict[str, Stateful]:
        """Return those that can be put back where the state of another one is refused."""
        parts: dict[str, Stateful] = {
            "control": self._control,
            "controller": self._control.controller,
            "reporter": self._reporter,
            "step_losses": self._step_losses,
            "late": self._late,
            "agreement": self._agreement,
        }
        if self._launching:
            parts["launch"] = self._launching.launch
        if isinstance(self._run, Stateful):
            parts["run"] = self._run
        return parts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. Load model and optimizer first; make the tuner with the arguments it had.

        Raises:
            ValueError: If this is the state of a tuner with other parts, or values are of another kind than theirs;
                nothing is loaded then.
        """
        live = self._parts()
        parts = {*live, "run", "launch", "hyperparams", "recovery", "history"}
        check_keys(type(self).__name__, state_dict, {*self.state_names, *parts})
        if bool(state_dict["launch"]) != bool(self._launching):
            raise ValueError("this is no state of this Tuner: one of the two has a launch, the other has none")
        own = {name: state_dict[name] for name in self.state_names}
        self.check_plain(own)
        now = self._run.get_hyperparams()
        saved_values("the values that were applied", own["_applied"], now)
        in_force = saved_values("the values in force", state_dict["hyperparams"], now)
        history = saved_history(state_dict["history"])
        with all_or_nothing(type(self).__name__, live):
            for name, part in live.items():
                part.load_state_dict(state_dict[name])
            self._recovery.load_state_dict(state_dict["recovery"])
        self.history.clear()
        self.history.extend(history)
        super().load_state_dict(own)
        self._run.set_hyperparams(in_force)
        self._reporter.resumed(self._num_steps)
