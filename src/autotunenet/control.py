"""ONE CONTROL STEP: an interval's loss goes to the controller; what it asks for, inside the guard, into force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autotunenet import reasons
from autotunenet.agreement import first_proposal
from autotunenet.controllers import Controller
from autotunenet.guards import Guard
from autotunenet.space import SearchSpace
from autotunenet.state import PlainState
from autotunenet.types import Action, Decision, Health, Hyperparams, Observation, TrainingRun, is_finite


class Control(PlainState):
    """Collects what an interval gives, and asks the controller at its end. The controller's state is saved apart.

    Args:
        run: The training.
        space: What is tuned, for an error.
        controller: Proposes.
        guard: Bounds a proposal.
        interval: Optimizer steps between two control steps, or None where somebody else says when.
    """

    state_names = ("_num_control_steps", "_losses", "_worst")

    def __init__(
        self, run: TrainingRun, space: SearchSpace, controller: Controller, guard: Guard, interval: int | None
    ) -> None:
        self._run, self._space, self.controller, self._guard = run, space, controller, guard
        self.interval = interval
        self._num_control_steps = 0
        self._losses: list[float] = []  # of the current interval
        self._worst = Health.STABLE.value  # verdict on the current interval

    def start(self, initial: Hyperparams) -> dict[str, float]:
        """Return what the controller wants to start with, inside the guard; what it leaves as it is is left out."""
        return self._inside_guard(initial, self.controller.start(initial))

    def rewarm(self) -> str:
        """Put in force what the controller starts again with on new data; return a sentence about it."""
        before = self._run.get_hyperparams()
        self._run.set_hyperparams(self._inside_guard(before, self.controller.rewarm(before)))
        return reasons.rewarmed(before, self._run.get_hyperparams())

    def _inside_guard(self, current: Hyperparams, wanted: Hyperparams) -> dict[str, float]:
        start = {**current, **wanted}
        changed = [name for name, value in start.items() if value != current[name]]
        allowed = self._guard(start, start, self._num_control_steps) if changed else {}
        return {name: allowed[name] for name in changed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, or raise ValueError and stay as it was."""
        self.check_plain(state_dict)
        Health(state_dict["_worst"])
        super().load_state_dict(state_dict)

    # -- an interval -------------------------------------------------------------------------------------------------

    @property
    def losses(self) -> Sequence[float]:
        """Losses of this interval, where it is counted in steps."""
        return self._losses

    @property
    def is_due(self) -> bool:
        """Whether an interval that is counted in steps is over."""
        return self.interval is not None and len(self._losses) >= self.interval

    def note(self, loss: float, health: Health) -> None:
        """Take note of a step's loss, and of the verdict on it."""
        if self.interval is not None:
            self._losses.append(loss)
        if health is Health.UNSTABLE or (health is Health.SUSPECT and self._worst == Health.STABLE.value):
            self._worst = health.value

    def begin_interval(self) -> None:
        """Forget what the current one gave."""
        self._losses, self._worst = [], Health.STABLE.value

    def mean_loss(self) -> float:
        """Return what the controller is told of an interval; NaN where it had no losses."""
        losses = self._losses
        if Health(self._worst) is not Health.UNSTABLE:  # losses that are no numbers were a gap in the signal
            losses = [value for value in losses if math.isfinite(value)]
        return sum(losses) / len(losses) if losses else math.nan

    def decide(self, metric: float, step: int, known: Hyperparams, *, may_raise: bool) -> Decision:
        """Let the controller observe and propose, bound what it asks for, and put that in force.

        Args:
            metric: Of the interval, lower is better.
            step: Optimizer steps so far.
            known: What the tuner had put in force before; somebody else may have written since.
            may_raise: Whether a value may become larger.
        """
        seen, proposed = self.consult(metric, step)
        allowed = self._guard(seen.hyperparams, proposed, self._num_control_steps) if is_finite(proposed) else {}
        if not may_raise:
            allowed = {name: min(value, seen.hyperparams[name]) for name, value in allowed.items()}
        self._run.set_hyperparams(allowed)
        applied = self._run.get_hyperparams()
        why = self.controller.reason
        reason = reasons.adaptation(seen.hyperparams, proposed, applied, known) + (f" {why}" if why else "")
        action = Action.HOLD if applied == seen.hyperparams else Action.ADAPT
        return Decision(seen, Health(self._worst), action, proposed, applied, 0, reason)

    def consult(
        self, metric: float, step: int, in_force: Hyperparams | None = None
    ) -> tuple[Observation, dict[str, float]]:
        """Let the controller observe and propose, once each, so that values and metrics always pair.

        Raises:
            ValueError: If it proposes what the space does not name.
        """
        in_force = self._run.get_hyperparams() if in_force is None else in_force
        self._num_control_steps += 1
        self.controller.observe(metric, step)
        wish = self.controller.propose(in_force)
        if unknown := wish.keys() - in_force.keys():
            raise ValueError(
                f"{type(self.controller).__name__} proposed {', '.join(sorted(unknown))}, "
                f"which the space does not name; it names {', '.join(self._space)}"
            )
        return Observation(step, metric, in_force), first_proposal(self._run, {**in_force, **wish})
