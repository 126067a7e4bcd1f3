"""THE LOOP: observe -> judge -> (roll back | propose -> bound) -> apply.

batch -> step -> loss -> monitor.update -> Health
    UNSTABLE -> snapshots.restore -> back off (compounding) -> Decision(ROLLBACK)
                where that is futile: stay, judge from the new level -> Decision(ACCEPT)
    else at the end of an interval -> controller.observe(metric, step); proposed = controller.propose(current)
         applied = guard(current, proposed, step) -> run.set_hyperparams(applied) -> Decision(ADAPT | HOLD)
         healthy and proven -> snapshots.commit
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Any, Literal, SupportsFloat

from autotunenet import reasons
from autotunenet.controllers import Controller
from autotunenet.guards import Guard, chain, max_delta, within
from autotunenet.monitors import Monitor, NonFinite, Overshoot, Regression, Spike, WorstOf
from autotunenet.snapshots import SnapshotBuffer
from autotunenet.space import SearchSpace
from autotunenet.state import PlainState, check_keys
from autotunenet.types import Action, Decision, Health, Hyperparams, Observation, Stateful, TrainingRun, is_finite

logger = logging.getLogger(__name__)


class Tuner(PlainState):
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
        monitor: Judges every step. None: non-finite, overshoot, regression and spike, with their
            defaults.
        snapshots: The way back. None: ``SnapshotBuffer(run, "full")``.
        interval: Control interval in optimizer steps, or None for one control step a call of `observe`.
        backoff: Factor in (0, 1) on lr (on every tuned value, where lr is not tuned) after a rollback; n rollbacks in a
            row multiply by ``backoff ** n``. Bounded by the space.
        mode: ``"min"`` or ``"max"``: which way the metric given to `observe` is better. Controllers always see "lower
            is better"; for ``"max"`` the sign is turned.
        snapshot_every: Healthy optimizer steps between two snapshots, at least 1.
        proof_steps: Healthy steps after a snapshot, with no alarm among them, that make it good, at least 1.
        max_futile: Rollbacks in a row whose restored state gave a bad loss at once, before any update. After so many,
            at least 1, the world has changed and not the weights: the tuner stays, and judges from the new level. A
            loss that is not finite is no level to stay at: it is rolled back every time.
        history_size: Decisions that `history` remembers; older ones are dropped.

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

    state_names = (
        "_num_steps",
        "_num_control_steps",
        "_applied",
        "_losses",
        "_worst",
        "_last_snapshot_step",
        "_proof_losses",
        "_num_rollbacks_in_row",
        "_num_futile_in_row",
        "_last_restore_step",
        "_just_restored",
    )

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
        proof_steps: int = 10,
        max_futile: int = 2,
        history_size: int = 100_000,
    ) -> None:
        if not 0 < backoff < 1:
            raise ValueError(f"backoff must lie in (0, 1): a rollback has to change something; got {backoff}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        _check_counts(
            interval=1 if interval is None else interval,
            snapshot_every=snapshot_every,
            proof_steps=proof_steps,
            max_futile=max_futile,
            history_size=history_size,
        )
        initial = run.get_hyperparams()
        if initial.keys() != space.keys():
            raise ValueError(
                f"the space tunes {', '.join(space)} but the run was made for {', '.join(initial)}; "
                "give both the same names, for example TorchRun(model, optimizer, names=space)"
            )
        if isinstance(controller, type):
            name = controller.__name__
            raise TypeError(f"controller must be an instance, not the class {name}: write {name}()")
        if missing := set(controller.needs) - space.keys():
            raise ValueError(
                f"{type(controller).__name__} changes {', '.join(sorted(missing))}, which the space does not name; "
                f"it names {', '.join(space)}"
            )
        self.history: deque[Decision] = deque(maxlen=history_size)
        self._run, self._space, self._controller = run, space, controller
        self._guard = chain(max_delta(0.5), within(space)) if guard is None else guard
        self._monitor = WorstOf(NonFinite(), Overshoot(), Regression(), Spike()) if monitor is None else monitor
        self._snapshots = SnapshotBuffer(run) if snapshots is None else snapshots
        self._interval, self._backoff, self._mode = interval, backoff, mode
        self._snapshot_every, self._proof_steps, self._max_futile = snapshot_every, proof_steps, max_futile

        self._num_steps = 0
        self._num_control_steps = 0
        self._losses: list[float] = []  # of the current interval
        self._worst = Health.STABLE.value  # verdict on the current interval
        self._last_snapshot_step = 0
        self._proof_losses: list[float] = []  # since the candidate was captured
        self._num_rollbacks_in_row = 0
        self._num_futile_in_row = 0
        self._last_restore_step = 0
        self._just_restored = False

        run.set_hyperparams(self._first_values(initial))
        self._applied = run.get_hyperparams()
        self._snapshots.capture(step=0)

    def _first_values(self, initial: Hyperparams) -> dict[str, float]:
        """Return what the controller starts from, inside its guard; what the user gave and it keeps is left alone."""
        start = {**initial, **self._controller.start(initial)}
        changed = [name for name, value in start.items() if value != initial[name]]
        allowed = self._guard(start, start, 0) if changed else {}
        return {name: allowed[name] for name in changed}

    # -- the two loops -----------------------------------------------------------------------------------------------

    def step(self, loss: SupportsFloat) -> Decision | None:
        """Take note of one optimizer step. Call it after ``optimizer.step()``, with the loss that step went down from.

        Args:
            loss: Training loss, a number or a tensor with one element; lower is better; may be NaN or infinite.

        Returns:
            What was decided, or None if nothing was decided at this step.
        """
        value = float(loss.detach() if hasattr(loss, "detach") else loss)
        self._num_steps += 1
        health = self._monitor.update(value, self._num_steps)
        self._note(value, health)
        if health is Health.UNSTABLE and self._snapshots.scope != "none":
            return self._roll_back(value)
        self._keep_the_way_back(value, health)
        if self._interval is not None and len(self._losses) >= self._interval:
            return self._control(sum(self._losses) / len(self._losses))
        return None

    def observe(self, metric: SupportsFloat) -> Decision | None:
        """Take note of a validation metric; `mode` says which way it is better.

        Returns:
            What was decided. None where the control interval is counted in steps: the metric is left alone then, so
            that the controller never has to compare two different ones.
        """
        if self._interval is not None:
            return None
        value = float(metric.detach() if hasattr(metric, "detach") else metric)
        return self._control(-value if self._mode == "max" else value)

    # -- one control step --------------------------------------------------------------------------------------------

    def _control(self, metric: float) -> Decision:
        """Close the interval: let the controller observe and propose, bound what it asks for, put that in force."""
        seen, proposed = self._consult(metric)
        foreign = reasons.changes(self._applied, seen.hyperparams)
        allowed = self._guard(seen.hyperparams, proposed, self._num_control_steps) if is_finite(proposed) else {}
        self._run.set_hyperparams(allowed)
        self._applied = self._run.get_hyperparams()

        if foreign and self._is_snapshot_due() and not self._snapshots.candidate:
            self._capture()  # a scheduler that writes at every step leaves no other moment
        reason = reasons.adaptation(seen.hyperparams, proposed, self._applied, foreign)
        action = Action.HOLD if self._applied == seen.hyperparams else Action.ADAPT
        decision = Decision(seen, Health(self._worst), action, proposed, self._applied, 0, reason)
        return self._close_interval(decision)

    def _roll_back(self, loss: float) -> Decision | None:
        """Return to the last good state and go on more carefully; where that is futile, accept the new level."""
        # Weights are not restored and the values are at their bounds: a rollback would change nothing.
        powerless = self._snapshots.scope == "hyperparameters" and self._is_backed_off()
        if powerless and not math.isfinite(loss):
            self._drop_candidate()
            self._losses, self._worst = [], Health.STABLE.value
            return None
        seen, proposed = self._consult(math.inf)  # the worst there is: an unstable interval has no level of its own
        futile = (powerless or self._num_futile_in_row >= self._max_futile) and math.isfinite(loss)
        decision = self._accept(seen, proposed, loss) if futile else self._restore(seen, proposed, loss)
        self._controller.follow(self._applied)
        logger.info("step %d: %s", self._num_steps, decision.reason)
        return self._close_interval(decision)

    def _consult(self, metric: float) -> tuple[Observation, dict[str, float]]:
        """Let the controller observe and propose, once each, so that values and metrics always pair."""
        in_force = self._run.get_hyperparams()
        self._num_control_steps += 1
        self._controller.observe(metric, self._num_steps)
        wish = self._controller.propose(in_force)
        if unknown := wish.keys() - in_force.keys():
            raise ValueError(
                f"{type(self._controller).__name__} proposed {', '.join(sorted(unknown))}, "
                f"which the space does not name; it names {', '.join(self._space)}"
            )
        return Observation(self._num_steps, metric, in_force), {**in_force, **wish}

    def _close_interval(self, decision: Decision) -> Decision:
        self._losses, self._worst = [], Health.STABLE.value
        self.history.append(decision)
        return decision

    # -- the way back ------------------------------------------------------------------------------------------------

    def _note(self, loss: float, health: Health) -> None:
        if self._interval is not None:
            self._losses.append(loss)
        if health is Health.UNSTABLE or (health is Health.SUSPECT and self._worst == Health.STABLE.value):
            self._worst = health.value
        if self._just_restored:
            # This loss was computed on exactly the restored state. If that is bad already, the state is not to blame.
            self._num_futile_in_row = 0 if health is Health.STABLE else self._num_futile_in_row + 1
            self._just_restored = False

    def _keep_the_way_back(self, loss: float, health: Health) -> None:
        """Capture a state now and then; commit it once the steps after it have proven it."""
        if health is Health.UNSTABLE:
            self._drop_candidate()
        elif health is Health.SUSPECT:
            # Neither proof nor disproof: a wrecked state gives nothing but these, and soon an alarm. A healthy one
            # gives them now and then, and would hardly ever be stored if each of them counted against it.
            pass
        elif self._snapshots.candidate:
            self._proof_losses.append(loss)
            # The very first state is the user's own, and there is nothing else to go back to: one loss is proof enough.
            if len(self._proof_losses) >= (self._proof_steps if self._snapshots.good else 1):
                self._snapshots.commit(sum(self._proof_losses) / len(self._proof_losses))
                self._num_rollbacks_in_row = self._num_futile_in_row = 0
        # What somebody else put in force has not been judged; a state under it is not stored as good.
        elif self._is_snapshot_due() and self._run.get_hyperparams() == self._applied:
            self._capture()

    def _is_snapshot_due(self) -> bool:
        return self._snapshots.scope != "none" and self._num_steps - self._last_snapshot_step >= self._snapshot_every

    def _capture(self) -> None:
        self._snapshots.capture(self._num_steps)
        self._last_snapshot_step, self._proof_losses = self._num_steps, []

    def _drop_candidate(self) -> None:
        if self._snapshots.good:
            self._snapshots.discard()
            self._proof_losses = []

    def _restore(self, seen: Observation, proposed: Hyperparams, loss: float) -> Decision:
        """Go back to the good state with lr cut: something has to change, or the same wall comes again."""
        target = self._cut_by(self._backoff ** (self._num_rollbacks_in_row + 1))
        snapshot = self._snapshots.restore()
        self._num_rollbacks_in_row += 1
        self._run.set_hyperparams(target)
        self._applied = self._run.get_hyperparams()
        self._monitor.reset(snapshot.loss)
        # What the rollback before this one threw away is not thrown away again.
        lost = self._num_steps - max(snapshot.step, self._last_restore_step)
        discarded = lost if self._snapshots.scope == "full" else 0
        self._last_snapshot_step = self._last_restore_step = self._num_steps
        self._just_restored = True
        reason = reasons.rollback(loss, snapshot, self._applied, self._snapshots.scope, self._num_rollbacks_in_row)
        return Decision(seen, Health.UNSTABLE, Action.ROLLBACK, proposed, self._applied, discarded, reason)

    def _cut_by(self, factor: float) -> dict[str, float]:
        """Return the good state's values, those that a back-off cuts times `factor`, inside the space."""
        good = self._snapshots.good_or_first().hyperparams
        cut = ("lr",) if "lr" in self._space else tuple(self._space)
        bounded = self._space.clip({name: good[name] * factor for name in cut})
        # A value the user started below its box is not pulled up: a back-off never raises.
        return {**good, **{name: min(good[name], value) for name, value in bounded.items()}}

    def _is_backed_off(self) -> bool:
        """Whether no cut would change what is in force."""
        in_force = self._run.get_hyperparams()
        # To rounding: an lr kept in a float32 tensor reads back a little off, and halves of halves never are zero.
        return all(math.isclose(in_force[k], v, rel_tol=1e-6, abs_tol=1e-9) for k, v in self._cut_by(0.0).items())

    def _accept(self, seen: Observation, proposed: Hyperparams, loss: float) -> Decision:
        """Stay here and judge from this level on."""
        good = self._snapshots.good_or_first()
        if self._snapshots.scope == "full":
            self._run.set_hyperparams(good.hyperparams)  # the back-off was no cure, so it is undone
        self._applied = self._run.get_hyperparams()
        self._monitor.reset(loss)
        reason = reasons.acceptance(
            loss, good, self._snapshots.scope, self._num_rollbacks_in_row, self._num_futile_in_row
        )
        self._num_rollbacks_in_row = self._num_futile_in_row = 0
        self._capture()
        return Decision(seen, Health.UNSTABLE, Action.ACCEPT, proposed, self._applied, 0, reason)

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit, snapshots and history included."""
        return {
            **super().state_dict(),
            "run": self._run.state_dict() if isinstance(self._run, Stateful) else {},
            # Not always `_applied`: somebody else may have written since.
            "hyperparams": self._run.get_hyperparams(),
            "controller": self._controller.state_dict(),
            "monitor": self._monitor.state_dict(),
            "snapshots": self._snapshots.state_dict(),
            "history": [decision.to_record() for decision in self.history],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. Load model and optimizer first; make the tuner with the arguments it had.

        Raises:
            ValueError: If this is the state of a tuner with other parts; nothing is loaded then.
        """
        parts = ("run", "hyperparams", "controller", "monitor", "snapshots", "history")
        check_keys(type(self).__name__, state_dict, (*self.state_names, *parts))
        history = [Decision.from_record(record) for record in state_dict["history"]]
        live: dict[str, Stateful] = {"controller": self._controller, "monitor": self._monitor}
        if isinstance(self._run, Stateful):
            live["run"] = self._run
        before = {name: part.state_dict() for name, part in live.items()}
        try:
            for name, part in live.items():
                part.load_state_dict(state_dict[name])
            self._snapshots.load_state_dict(state_dict["snapshots"])
        except BaseException:  # all or nothing: a caller that goes on after this goes on as before
            for name, part in live.items():
                part.load_state_dict(before[name])
            raise
        self.history.clear()
        self.history.extend(history)
        super().load_state_dict({name: state_dict[name] for name in self.state_names})
        self._run.set_hyperparams(state_dict["hyperparams"])


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
