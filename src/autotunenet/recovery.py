"""WHAT TO DO WHEN IT BREAKS: keep a way back, find out whose fault it was, go back or stay.

loss -> monitor.update -> healthy: capture a state now and then, commit it once the losses after it have proven it
                       -> UNSTABLE: set the suspect state aside, restore the good one, and watch it for a few steps:
                            as it had been:  the knob. Stay there, with lr backed off (compounding)
                            bad as well:     the data. Back to the suspect state, judge from its level on
                            or both, or only noise
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from autotunenet import reasons
from autotunenet.attribution import Attribution, Baseline, Verdict, noise_of
from autotunenet.launch import Move
from autotunenet.monitors import Monitor
from autotunenet.snapshots import SnapshotBuffer
from autotunenet.space import SearchSpace
from autotunenet.state import PlainState, check_keys
from autotunenet.types import Action, Cause, Health, Hyperparams, TrainingRun

ORIGIN = "origin"
"""The slot of the state that a launch started from."""

_MEMORY = 32
"""Losses that are remembered, for levels and noise."""

_MOVED = 1.2
"""A knob counts as moved where lr is this many times what it was at the good state."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about an alarm. The values in force are read back from the run.

    Attributes:
        action: PROBE at the start of a trial; ROLLBACK, RESTORE_SUSPECT or ACCEPT.
        in_force: The values under which the alarm came.
        discarded_steps: Optimizer steps thrown away.
        reason: One sentence for a person.
        cause: The verdict, where there was a trial.
        evidence: Its numbers.
    """

    action: Action
    in_force: Hyperparams
    discarded_steps: int
    reason: str
    cause: Cause | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def world_changed(self) -> bool:
        """Whether evidence from before no longer counts."""
        return self.action is Action.ACCEPT or self.cause in (Cause.DATA, Cause.BOTH)


class Recovery(PlainState):
    """Watches the losses of a run, keeps the way back, and takes it when it has to.

    The arguments are those of `Tuner`.
    """

    state_names = (
        "_last_snapshot_step",
        "_proof_losses",
        "num_rollbacks_in_row",
        "_num_futile_in_row",
        "_last_restore_step",
        "_just_restored",
        "is_holding",
        "_scale",
        "_recent",
        "_rise",
        "_again",
        "_trial_start",
        "_in_force",
        "_num_useful",
    )

    def __init__(
        self,
        run: TrainingRun,
        space: SearchSpace,
        monitor: Monitor,
        snapshots: SnapshotBuffer,
        *,
        backoff: float,
        snapshot_every: int,
        proof_steps: int,
        max_futile: int,
        max_rollbacks: int,
        attribution: Attribution | None,
    ) -> None:
        self._run, self._space, self.monitor, self.snapshots = run, space, monitor, snapshots
        self._backoff, self._attribution = backoff, attribution
        self._snapshot_every, self._proof_steps = snapshot_every, proof_steps
        self._max_futile, self._max_rollbacks = max_futile, max_rollbacks
        self._last_snapshot_step = 0
        self._proof_losses: list[float] = []  # since the candidate was captured
        self.num_rollbacks_in_row = 0
        self._num_futile_in_row = 0
        self._last_restore_step = 0
        self._just_restored = False
        self.is_holding = False  # too many rollbacks in a row: nobody raises anything until a state is proven
        self._scale = 0.0  # magnitude of the first loss
        self._recent: list[float] = []  # stable losses
        self._rise: list[float] = []  # losses since the last stable one
        self._again: list[float] = []  # losses of the good state in a trial
        self._trial_start = 0  # step of the alarm; 0: no trial is on
        self._num_useful = 0  # steps that the launch has kept since the origin
        self._in_force: Hyperparams = {}  # at the last alarm

    @property
    def is_on_trial(self) -> bool:
        """Whether the good state is being watched to find out whose fault an alarm was."""
        return self._trial_start > 0

    def anchor_scale(self, loss: float, step: int) -> None:
        """Tell what the training began with, which the monitors measure everything by."""
        self.monitor.update(loss, step)
        self._scale = abs(loss)

    def begin(self, loss: float | None = None, step: int = 0) -> None:
        """Take the live state as the first one to go back to. `loss`: what it is known to give."""
        self.snapshots.capture(step)
        self._last_snapshot_step, self._proof_losses = step, []
        if loss is not None:
            self.snapshots.commit(loss)
            self.monitor.reset(loss)
            self._last_restore_step = step

    def watch(self, loss: float, step: int, applied: Hyperparams) -> tuple[Health, Outcome | None]:
        """Judge a step, and do what has to be done about it.

        Args:
            loss: Of this step.
            step: Its number, from 1.
            applied: What the tuner had put in force; a state under other values is not stored as good.
        """
        if self.is_on_trial:
            return Health.SUSPECT, self._continue_trial(loss, step)
        health = self.monitor.update(loss, step)
        self._note(loss, health)
        if health is Health.UNSTABLE and self.snapshots.scope != "none":
            return health, self._respond(loss, step)
        self._keep_the_way_back(loss, step, health, applied)
        return health, None

    def follow_launch(self, move: Move, step: int, level: float) -> int:
        """Keep the live state, or go back, as the launch wants it. Return the optimizer steps thrown away."""
        if move is Move.KEEP:
            self.snapshots.capture(step)
            self.snapshots.commit(level)
            if not self.snapshots.has(ORIGIN):
                self.snapshots.capture(step, ORIGIN)
            self._num_useful += step - self._last_restore_step
            discarded = 0
        elif move is Move.RETURN:
            self.snapshots.restore()
            discarded = step - self._last_restore_step
        else:
            self.snapshots.restore_from(ORIGIN)
            self.snapshots.capture(step)
            self.snapshots.commit(level)
            discarded = step - self._last_restore_step + self._num_useful
            self._num_useful = 0
        self._last_restore_step = step
        return discarded

    # -- keeping the way back ----------------------------------------------------------------------------------------

    def _note(self, loss: float, health: Health) -> None:
        self._scale = self._scale or (abs(loss) if math.isfinite(loss) else 0.0)
        if health is Health.STABLE:
            self._recent = [*self._recent, loss][-_MEMORY:]
            self._rise = []
        else:
            self._rise = [*self._rise, loss][-_MEMORY:]
        if self._just_restored:
            # This loss was computed on exactly the restored state. If that is bad already, the state is not to blame.
            self._num_futile_in_row = 0 if health is Health.STABLE else self._num_futile_in_row + 1
            self._just_restored = False

    def _keep_the_way_back(self, loss: float, step: int, health: Health, applied: Hyperparams) -> None:
        """Capture a state now and then; commit it once the steps after it have proven it."""
        if health is Health.UNSTABLE:
            self._drop_candidate()
        elif health is Health.SUSPECT:
            # Neither proof nor disproof: a wrecked state gives nothing but these, and soon an alarm. A healthy one
            # gives them now and then, and would hardly ever be stored if each of them counted against it.
            pass
        elif self.snapshots.candidate:
            self._proof_losses.append(loss)
            # The very first state is the user's own, and there is nothing else to go back to: one loss is proof enough.
            if len(self._proof_losses) >= (self._proof_steps if self.snapshots.good else 1):
                self.snapshots.commit(sum(self._proof_losses) / len(self._proof_losses))
                self.num_rollbacks_in_row = self._num_futile_in_row = 0
                self.is_holding = False
        # What somebody else put in force has not been judged; a state under it is not stored as good.
        elif self.is_snapshot_due(step) and self._run.get_hyperparams() == applied:
            self.capture(step)

    def is_snapshot_due(self, step: int) -> bool:
        """Whether it is time for another candidate."""
        return self.snapshots.scope != "none" and step - self._last_snapshot_step >= self._snapshot_every

    def capture(self, step: int) -> None:
        """Take the live state as the candidate."""
        self.snapshots.capture(step)
        self._last_snapshot_step, self._proof_losses = step, []

    def _drop_candidate(self) -> None:
        if self.snapshots.good:
            self.snapshots.discard()
            self._proof_losses = []

    # -- an alarm ----------------------------------------------------------------------------------------------------

    def _respond(self, loss: float, step: int) -> Outcome | None:
        self._in_force = self._run.get_hyperparams()
        # Weights are not restored and the values are at their bounds: a rollback would change nothing.
        powerless = self.snapshots.scope == "hyperparameters" and self.is_backed_off()
        exhausted = self.num_rollbacks_in_row >= self._max_rollbacks
        if (powerless or exhausted) and not math.isfinite(loss):
            return self._stand_still(loss, step)
        if powerless or exhausted or self._num_futile_in_row >= self._max_futile:
            if math.isfinite(loss):
                return self._accept(loss, step)
        elif self._attribution and self.snapshots.scope == "full" and self.snapshots.good:
            return self._start_trial(loss, step)
        return self._roll_back(loss, step)

    def _stand_still(self, loss: float, step: int) -> Outcome | None:
        """Not a number again, and everything has been tried: undo the step, and say so once."""
        self._drop_candidate()
        if self.snapshots.scope == "full":
            careful = self._cut_by(self._backoff**self.num_rollbacks_in_row)
            self.snapshots.restore()
            self._run.set_hyperparams(careful)
            self._last_snapshot_step = self._last_restore_step = step
        if self.is_holding or self.num_rollbacks_in_row < self._max_rollbacks:
            return None
        self.is_holding = True
        return self._outcome(
            Action.HOLD, 0, reasons.standstill(loss, self._run.get_hyperparams(), self.num_rollbacks_in_row)
        )

    def _roll_back(self, loss: float, step: int, verdict: Verdict | None = None) -> Outcome:
        """Go back to the good state with lr cut: something has to change, or the same wall comes again."""
        target = self._cut_by(self._backoff ** (self.num_rollbacks_in_row + 1))
        snapshot = self.snapshots.restore()
        self.num_rollbacks_in_row += 1
        self._run.set_hyperparams(target)
        self.monitor.reset(snapshot.loss)
        # What the rollback before this one threw away is not thrown away again.
        lost = step - max(snapshot.step, self._last_restore_step)
        discarded = lost if self.snapshots.scope == "full" else 0
        self._last_snapshot_step = self._last_restore_step = step
        self._just_restored = True
        self._rise = []
        applied = self._run.get_hyperparams()
        reason = reasons.rollback(loss, snapshot, applied, self.snapshots.scope, self.num_rollbacks_in_row)
        return self._outcome(Action.ROLLBACK, discarded, reason, verdict)

    def _cut_by(self, factor: float) -> dict[str, float]:
        """Return the good state's values, those that a back-off cuts times `factor`, inside the space."""
        good = self.snapshots.good_or_first().hyperparams
        cut = ("lr",) if "lr" in self._space else tuple(self._space)
        bounded = self._space.clip({name: good[name] * factor for name in cut})
        # A value the user started below its box is not pulled up: a back-off never raises.
        return {**good, **{name: min(good[name], value) for name, value in bounded.items()}}

    def is_backed_off(self) -> bool:
        """Whether no cut would change what is in force."""
        in_force = self._run.get_hyperparams()
        # To rounding: an lr kept in a float32 tensor reads back a little off, and halves of halves never are zero.
        return all(math.isclose(in_force[k], v, rel_tol=1e-6, abs_tol=1e-9) for k, v in self._cut_by(0.0).items())

    def _accept(self, loss: float, step: int) -> Outcome:
        """Stay here and judge from this level on."""
        good = self.snapshots.good_or_first()
        num_rollbacks, num_futile = self.num_rollbacks_in_row, self._num_futile_in_row
        exhausted = num_rollbacks >= self._max_rollbacks
        if exhausted:
            self._run.set_hyperparams(self._cut_by(self._backoff**num_rollbacks))
        elif self.snapshots.scope == "full":
            self._run.set_hyperparams(good.hyperparams)  # the back-off was no cure, so it is undone
        self._anchor(loss, step)
        self.is_holding = exhausted
        reason = reasons.acceptance(
            loss,
            good,
            self.snapshots.scope,
            num_rollbacks=num_rollbacks,
            num_futile=num_futile,
            exhausted=exhausted,
        )
        return self._outcome(Action.ACCEPT, 0, reason)

    def _anchor(self, loss: float, step: int) -> None:
        """Judge from this level on, with the live state as the next candidate."""
        self.monitor.reset(loss)
        self.num_rollbacks_in_row = self._num_futile_in_row = 0
        self._recent, self._rise = [], []
        self.capture(step)

    # -- whose fault was it? -----------------------------------------------------------------------------------------

    def _start_trial(self, loss: float, step: int) -> Outcome:
        self.snapshots.discard()
        self.snapshots.capture(step, slot="suspect")
        target = self._cut_by(self._backoff**self.num_rollbacks_in_row)
        snapshot = self.snapshots.restore()
        self._run.set_hyperparams(target)  # its own values, or what the rollbacks since have made of them
        self._trial_start, self._again = step, []
        return self._outcome(Action.PROBE, 0, reasons.alarm(loss, snapshot))

    def _continue_trial(self, loss: float, step: int) -> Outcome | None:
        attribution, good = self._attribution, self.snapshots.good_or_first()
        if attribution is None:
            raise RuntimeError("a trial is on but there is no attribution to judge it")
        self._again.append(loss)
        before = Baseline(good.loss, noise_of(self._recent), self._scale)
        hopeless = attribution.is_hopeless(self._again, before)
        if not hopeless and len(self._again) < attribution.num_steps:
            return None
        verdict = attribution.judge(before, suspect=self._rise or [math.inf], again=self._again)
        if hopeless:
            outcome = self._roll_back(loss, step, verdict)
        elif verdict.cause in (Cause.KNOB, Cause.BOTH):
            outcome = self._stay_back(step, verdict)
        else:
            outcome = self._return_to_suspect(step, verdict)
        self._trial_start, self._again = 0, []
        self.snapshots.discard("suspect")
        return outcome

    def _stay_back(self, step: int, verdict: Verdict) -> Outcome:
        """Go on from where the trial has led, which is the good state and a few steps."""
        good, suspect = self.snapshots.good_or_first(), self.snapshots.slot("suspect")
        name = "lr" if "lr" in self._space else next(iter(self._space))
        # Where the knob had been turned up since, going back to the old value is the change that a rollback needs.
        has_moved = suspect.hyperparams[name] > _MOVED * good.hyperparams[name]
        self._run.set_hyperparams(self._cut_by(self._backoff ** (self.num_rollbacks_in_row + (not has_moved))))
        self.num_rollbacks_in_row += 1
        discarded = self._trial_start - max(good.step, self._last_restore_step)
        self._last_snapshot_step = self._last_restore_step = step
        level = median(self._again[-3:])
        self.monitor.reset(level if verdict.cause is Cause.BOTH else good.loss)
        self._rise = []
        if verdict.cause is Cause.BOTH:
            self._recent = []
            self.capture(step)
        applied = self._run.get_hyperparams()
        reason = reasons.stayed_back(verdict.reason, good, applied, self.num_rollbacks_in_row)
        return self._outcome(Action.ROLLBACK, discarded, reason, verdict)

    def _return_to_suspect(self, step: int, verdict: Verdict) -> Outcome:
        """The state was not to blame: nothing of it is given up."""
        self.snapshots.restore_from("suspect")
        finite = [loss for loss in self._rise[-3:] if math.isfinite(loss)]
        discarded = len(self._again)
        if verdict.cause is Cause.DATA:
            self._anchor(median(finite) if finite else math.nan, step)
        else:
            self.monitor.reset(math.nan)
            self._rise = []
        return self._outcome(Action.RESTORE_SUSPECT, discarded, reasons.returned(verdict.reason), verdict)

    def _outcome(self, action: Action, discarded: int, reason: str, verdict: Verdict | None = None) -> Outcome:
        if verdict is None:
            return Outcome(action, self._in_force, discarded, reason)
        return Outcome(action, self._in_force, discarded, reason, verdict.cause, verdict.evidence)

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit, snapshots included."""
        parts = {"monitor": self.monitor.state_dict(), "snapshots": self.snapshots.state_dict()}
        return {**super().state_dict(), **parts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, or raise ValueError and stay as it was."""
        check_keys(type(self).__name__, state_dict, (*self.state_names, "monitor", "snapshots"))
        before = self.monitor.state_dict()
        try:
            self.monitor.load_state_dict(state_dict["monitor"])
            self.snapshots.load_state_dict(state_dict["snapshots"])
        except BaseException:  # all or nothing: a caller that goes on after this goes on as before
            self.monitor.load_state_dict(before)
            raise
        super().load_state_dict({name: state_dict[name] for name in self.state_names})
