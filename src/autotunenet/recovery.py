"""WHAT TO DO WHEN IT BREAKS: keep a way back, find out whose fault it was, go back or stay.

loss -> monitor.update -> healthy: keep the way back
                       -> UNSTABLE: set the suspect state aside, restore the good one, and watch it for a few steps:
                            as it had been:  the knob. Stay there, with lr backed off (compounding)
                            bad as well:     the data. Back to the suspect state, judge from its level on
                            or both, or only noise
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median
from typing import Any

from autotunenet import reasons
from autotunenet.attribution import Attribution, Baseline, Verdict, noise_of
from autotunenet.monitors import Monitor
from autotunenet.replaying import MAX_BATCHES, SUSPECT, TWIN, Reenactment, Replay
from autotunenet.state import PlainState, check_keys
from autotunenet.types import Action, Cause, Health, Hyperparams, InspectableRun, Outcome, TrainingRun
from autotunenet.way_back import WayBack

_MEMORY = 32
"""Losses that are remembered, for levels and noise."""

_MOVED = 1.2
"""A knob counts as moved where lr is this many times what it was at the good state."""

_MIN_RISE = 3
"""Losses in a row that are not healthy which an alarm needs, so that there is something to judge."""

_MIN_NON_FINITE = 4
"""The same for losses that are not finite while the weights are: the signal is broken, not the network."""

_RACE = 24
"""Batches of a race between suspect and twin: a confident network needs as many to learn that labels are wrong."""

_PROBATION = 12
"""Losses after a return to the suspect state in which it has to come down to where the good one had come."""


class Recovery(PlainState):
    """Watches the losses of a run, and brings it back when it breaks. The arguments are those of `Tuner`."""

    state_names = (
        "num_rollbacks_in_row",
        "_num_futile_in_row",
        "_just_restored",
        "is_holding",
        "_scale",
        "_recent",
        "_rise",
        "_again",
        "_trial_start",
        "_num_unseen",
        "_rival",
        "_since_return",
        "_in_force",
    )

    def __init__(
        self,
        run: TrainingRun,
        way_back: WayBack,
        monitor: Monitor,
        *,
        backoff: float,
        max_futile: int,
        max_rollbacks: int,
        attribution: Attribution | None,
        replay: Replay | None = None,
    ) -> None:
        self._run, self.way_back, self.monitor = run, way_back, monitor
        self._backoff, self._attribution = backoff, attribution
        self._twin = Reenactment(run, way_back.snapshots, replay, attribution) if replay and attribution else None
        self._max_futile, self._max_rollbacks = max_futile, max_rollbacks
        self.num_rollbacks_in_row = 0
        self._num_futile_in_row = 0
        self._just_restored = False
        self.is_holding = False  # too many rollbacks in a row: nobody raises anything until a state is proven
        self._scale = 0.0  # magnitude of the first loss
        self._recent: list[float] = []  # stable losses
        self._rise: list[float] = []  # losses since the last stable one
        self._again: list[float] = []  # losses of the good state in a trial
        self._batches: list[Any] = []  # what they came from
        self._ring: list[tuple[int, Any]] = []  # steps and batches since the good state, for its twin
        self._trial_start = 0  # step of the alarm; 0: no trial is on
        self._num_unseen = 0  # losses of the trial that were not finite while the weights were
        self._rival: float | None = None  # level that a state which was returned to has to reach
        self._since_return: list[float] = []  # its losses
        self._in_force: Hyperparams = {}  # at the last alarm

    @property
    def is_on_trial(self) -> bool:
        """Whether the good state is being watched to find out whose fault an alarm was."""
        return self._trial_start > 0

    def anchor_scale(self, loss: float, step: int) -> None:
        """Tell what the training began with, which the monitors measure everything by."""
        self.monitor.update(loss, step)
        self._scale = abs(loss)

    def begin(self, loss: float, step: int) -> None:
        """Trust the live state; `loss` is what it is known to give."""
        self.way_back.trust(step, loss)
        self.monitor.reset(loss)

    def watch(self, loss: float, step: int, applied: Hyperparams, batch: Any = None) -> tuple[Health, Outcome | None]:
        """Judge a step, and do what has to be done about it.

        Args:
            loss: Of this step.
            step: Its number, from 1.
            applied: What the tuner had put in force.
            batch: What the loss came from, to be replayed.
        """
        if self.is_on_trial:
            return Health.SUSPECT, self._continue_trial(loss, step, batch)
        health = self.monitor.update(loss, step)
        self._note(loss, health)
        if self._twin and batch is not None:
            self._ring = [*self._ring, (step, batch)][-MAX_BATCHES - 1 :]
        if health is Health.UNSTABLE and self._scope != "none" and not self._is_confirmed(loss):
            health = Health.SUSPECT
        if health is Health.UNSTABLE and self._scope != "none":
            return health, self._respond(loss, step)
        if self._rival is not None:
            return health, self._check_return(loss, step)
        if self.way_back.keep(loss, step, health, applied):
            good = self.way_back.snapshots.good_or_first()
            self._ring = [item for item in self._ring if item[0] > good.step]
            self.num_rollbacks_in_row = self._num_futile_in_row = 0
            self.is_holding = False
        return health, None

    @property
    def _scope(self) -> str:
        return self.way_back.snapshots.scope

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

    def _is_confirmed(self, loss: float) -> bool:
        """Whether an alarm is more than single losses that stand out, which a verdict could not be built on."""
        if self._attribution is None or self._scope != "full":
            return True
        if not math.isfinite(loss) and not self._has_finite_weights():
            return True
        return len(self._rise) >= (_MIN_RISE if math.isfinite(loss) else _MIN_NON_FINITE)

    def _has_finite_weights(self) -> bool:
        return isinstance(self._run, InspectableRun) and self._run.has_finite_weights()

    # -- an alarm ----------------------------------------------------------------------------------------------------

    def _respond(self, loss: float, step: int) -> Outcome | None:
        self._in_force = self._run.get_hyperparams()
        self._rival = None
        # Weights are not restored and the values are at their bounds: a rollback would change nothing.
        powerless = self._scope == "hyperparameters" and self._is_backed_off()
        exhausted = self.num_rollbacks_in_row >= self._max_rollbacks
        if (powerless or exhausted) and not math.isfinite(loss):
            return self._stand_still(loss, step)
        futile = powerless or exhausted or self._num_futile_in_row >= self._max_futile
        if futile and math.isfinite(loss):
            return self._accept(loss, step)
        good = self.way_back.snapshots.good
        if self._attribution and self._scope == "full" and good and math.isfinite(good.loss) and not futile:
            return self._start_trial(loss, step)
        return self._roll_back(loss, step)

    def _stand_still(self, loss: float, step: int) -> Outcome | None:
        """Not a number again, and everything has been tried: undo the step, and say so once."""
        self.way_back.drop_candidate()
        if self._scope == "full":
            careful = self.way_back.cut_by(self._backoff**self.num_rollbacks_in_row)
            self.way_back.snapshots.restore()
            self._run.set_hyperparams(careful)
            self.way_back.note_restore(step)
        if self.is_holding or self.num_rollbacks_in_row < self._max_rollbacks:
            return None
        self.is_holding = True
        reason = reasons.standstill(loss, self._run.get_hyperparams(), self.num_rollbacks_in_row)
        return self._outcome(Action.HOLD, 0, reason)

    def _roll_back(self, loss: float, step: int, verdict: Verdict | None = None) -> Outcome:
        """Go back to the good state with lr cut: something has to change, or the same wall comes again."""
        target = self.way_back.cut_by(self._backoff ** (self.num_rollbacks_in_row + 1))
        discarded = self.way_back.num_lost(step)
        snapshot = self.way_back.snapshots.restore()
        self._run.set_hyperparams(target)
        self.way_back.note_restore(step)
        self.num_rollbacks_in_row += 1
        self.monitor.reset(snapshot.loss)
        self._just_restored, self._rise = True, []
        applied = self._run.get_hyperparams()
        reason = reasons.rollback(loss, snapshot, applied, self.way_back.snapshots.scope, self.num_rollbacks_in_row)
        why = f"{verdict.reason}. " if verdict else ""
        return self._outcome(Action.ROLLBACK, discarded, why + reason, verdict)

    def _is_backed_off(self) -> bool:
        """Whether no cut would change what is in force."""
        # To rounding: an lr kept in a float32 tensor reads back a little off, and halves of halves never are zero.
        lowest = self.way_back.cut_by(0.0)
        return all(math.isclose(self._in_force[k], v, rel_tol=1e-6, abs_tol=1e-9) for k, v in lowest.items())

    def _accept(self, loss: float, step: int) -> Outcome:
        """Stay here and judge from this level on."""
        good = self.way_back.snapshots.good_or_first()
        num_rollbacks, num_futile = self.num_rollbacks_in_row, self._num_futile_in_row
        exhausted = num_rollbacks >= self._max_rollbacks
        if exhausted:
            self._run.set_hyperparams(self.way_back.cut_by(self._backoff**num_rollbacks))
        elif self._scope == "full":
            self._run.set_hyperparams(good.hyperparams)  # the back-off was no cure, so it is undone
        self._anchor(loss, step)
        self.is_holding = exhausted
        reason = reasons.acceptance(
            loss,
            good,
            self.way_back.snapshots.scope,
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
        self.way_back.capture(step)

    # -- whose fault was it? -----------------------------------------------------------------------------------------

    def _start_trial(self, loss: float, step: int) -> Outcome:
        snapshots = self.way_back.snapshots
        snapshots.discard()
        snapshots.capture(step, SUSPECT)
        target = self.way_back.cut_by(self._backoff**self.num_rollbacks_in_row)
        self._trial_start, self._again, self._batches, self._num_unseen = step, [], [], 0
        if self._twin and 0 < len(self._ring) <= MAX_BATCHES and (outcome := self._reenact(self._twin, step, target)):
            return outcome
        snapshot = snapshots.good_or_first()
        if not snapshots.has(TWIN):
            snapshots.restore()
            self._run.set_hyperparams(target)  # its own values, or what the rollbacks since have made of them
        return self._outcome(Action.PROBE, 0, reasons.alarm(loss, snapshot))

    def _reenact(self, twin: Reenactment, step: int, values: Hyperparams) -> Outcome | None:
        """Judge by an exact twin. None: the data have changed, and only a race can tell whether the knob did harm."""
        batches = [batch for _, batch in self._ring]
        num_since_onset = min(len(self._rise), len(batches))
        verdict = twin.judge(self._baseline(), batches, num_since_onset, values, step)
        snapshots = self.way_back.snapshots
        changed = verdict.cause in (Cause.DATA, Cause.BOTH)
        if changed and self._has_moved():
            snapshots.restore_from(TWIN)
            return None
        if changed or verdict.cause is Cause.NOISE:  # a knob that nobody turned up is not to blame
            snapshots.restore_from(SUSPECT)
            verdict = replace(verdict, cause=Cause.DATA) if changed else verdict
            return self._end_trial(self._stay(step, verdict, num_discarded=0))
        if verdict.twin_is_better:
            snapshots.restore_from(TWIN)
            self._again = [verdict.evidence["twin_loss"]]
            return self._end_trial(self._stay_back(step, verdict))
        return self._end_trial(self._roll_back(self._rise[-1], step, verdict))

    def _continue_trial(self, loss: float, step: int, batch: Any) -> Outcome | None:
        attribution = self._attribution
        if attribution is None:
            raise RuntimeError("a trial is on, but there is no attribution to judge it")
        if not math.isfinite(loss) and self._num_unseen < _MIN_NON_FINITE and self._has_finite_weights():
            self._num_unseen += 1  # a gap in the signal says nothing
            return None
        if not self._again and not math.isfinite(loss):
            return self._end_trial(self._undo(loss, step))
        self._again.append(loss)
        self._batches.append(batch)
        before = self._baseline()
        races = self._twin is not None and self.way_back.snapshots.has(TWIN)
        hopeless = not races and attribution.is_hopeless(self._again, before)
        if not hopeless and len(self._again) < (_RACE if races else attribution.num_steps):
            return None
        if races and self._twin:
            return self._end_trial(self._race(self._twin, step))
        verdict = attribution.judge(before, suspect=self._rise or [math.inf], again=self._again)
        if hopeless:
            return self._end_trial(self._roll_back(loss, step, verdict))
        back = verdict.cause in (Cause.KNOB, Cause.BOTH)
        return self._end_trial(self._stay_back(step, verdict) if back else self._return(step, verdict))

    def _undo(self, loss: float, step: int) -> Outcome:
        """The good state itself gives no number, before any update: the data are broken, and lr is not to blame."""
        discarded = self.way_back.num_lost(step)
        in_force = self._run.get_hyperparams()
        good = self.way_back.snapshots.restore()
        self._run.set_hyperparams(in_force)
        self.way_back.note_restore(step)
        self.num_rollbacks_in_row += 1
        self.monitor.reset(good.loss)
        self._rise = []
        verdict = Verdict(Cause.DATA, {"loss_before": good.loss, "loss_again": loss}, "")
        return self._outcome(Action.ROLLBACK, discarded, reasons.broken_data(loss, good), verdict)

    def _race(self, twin: Reenactment, step: int) -> Outcome:
        """Compare suspect and twin on the batches since; whichever goes on has trained on all of them."""
        snapshots = self.way_back.snapshots
        snapshots.capture(step, TWIN)
        verdict = twin.race(self._baseline(), self._batches, self._again)
        if verdict.cause is Cause.BOTH:
            snapshots.restore_from(TWIN)
            return self._stay_back(step, verdict)
        return self._stay(step, verdict, num_discarded=0)

    def _baseline(self) -> Baseline:
        return Baseline(self.way_back.snapshots.good_or_first().loss, noise_of(self._recent), self._scale)

    def _has_moved(self) -> bool:
        """Whether the knob had been turned up since the good state."""
        good = self.way_back.snapshots.good_or_first().hyperparams
        name = "lr" if "lr" in good else next(iter(good))
        return self._in_force[name] > _MOVED * good[name]

    def _end_trial(self, outcome: Outcome) -> Outcome:
        self._trial_start, self._again, self._batches = 0, [], []
        if outcome.action is Action.ROLLBACK:
            self._ring = []
        self.way_back.snapshots.discard(SUSPECT)
        self.way_back.snapshots.discard(TWIN)
        return outcome

    def _stay_back(self, step: int, verdict: Verdict) -> Outcome:
        """Go on from where the trial has led, which is the good state and a few steps."""
        good = self.way_back.snapshots.good_or_first()
        # Where the knob had been turned up since, going back to the old value is the change that a rollback needs.
        num_cuts = self.num_rollbacks_in_row + (not self._has_moved())
        self._run.set_hyperparams(self.way_back.cut_by(self._backoff**num_cuts))
        self.num_rollbacks_in_row += 1
        discarded = self.way_back.num_lost(self._trial_start)
        self.way_back.note_restore(step)
        self._rise = []
        if verdict.cause is Cause.BOTH:
            self.monitor.reset(median(self._again[-3:]))
            self._recent = []
            self.way_back.capture(step)
        else:
            self.monitor.reset(good.loss)
        applied = self._run.get_hyperparams()
        reason = reasons.stayed_back(verdict.reason, good, applied, self.num_rollbacks_in_row)
        return self._outcome(Action.ROLLBACK, discarded, reason, verdict)

    def _return(self, step: int, verdict: Verdict) -> Outcome:
        """Go back to the suspect state, which was not to blame; where the data have changed, that has to show yet."""
        snapshots, good = self.way_back.snapshots, self.way_back.snapshots.good_or_first().hyperparams
        suspect = snapshots.restore_from(SUSPECT).hyperparams
        if verdict.cause is Cause.DATA:
            if "lr" in good:  # an lr that was raised just before has not been proven in the new world
                self._run.set_hyperparams({"lr": min(good["lr"], suspect["lr"])})
            self._rival, self._since_return = median(self._again[-3:]), []
        return self._stay(step, verdict, num_discarded=len(self._again))

    def _stay(self, step: int, verdict: Verdict, num_discarded: int) -> Outcome:
        finite = [loss for loss in self._rise[-3:] if math.isfinite(loss)]
        if verdict.cause is Cause.DATA:
            self._anchor(median(finite) if finite else math.nan, step)
        else:
            self.monitor.reset(math.nan)
            self._rise = []
        return self._outcome(Action.RESTORE_SUSPECT, num_discarded, reasons.returned(verdict.reason), verdict)

    def _check_return(self, loss: float, step: int) -> Outcome | None:
        """See whether the state that was returned to comes down to where the good one had come in the trial."""
        self._since_return.append(loss)
        if len(self._since_return) < _PROBATION or self._attribution is None or self._rival is None:
            return None
        later = self._since_return[_PROBATION // 2 :]
        rival = Baseline(self._rival, noise_of(self._since_return), self._scale)
        self._rival = None
        if not self._attribution.is_raised(later, rival):
            return None
        self._in_force = self._run.get_hyperparams()
        verdict = self._attribution.revise(rival, later)
        outcome = self._roll_back(loss, step, verdict)
        self.monitor.reset(rival.level)
        return outcome

    def _outcome(self, action: Action, discarded: int, reason: str, verdict: Verdict | None = None) -> Outcome:
        if verdict is None:
            return Outcome(action, self._in_force, discarded, reason)
        return Outcome(action, self._in_force, discarded, reason, verdict.cause, verdict.evidence)

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit, snapshots included."""
        parts = {"monitor": self.monitor.state_dict(), "way_back": self.way_back.state_dict()}
        return {**super().state_dict(), **parts, "batches": list(self._batches), "ring": list(self._ring)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, or raise ValueError and stay as it was."""
        check_keys(type(self).__name__, state_dict, (*self.state_names, "monitor", "way_back", "batches", "ring"))
        before = self.monitor.state_dict()
        try:
            self.monitor.load_state_dict(state_dict["monitor"])
            self.way_back.load_state_dict(state_dict["way_back"])
        except BaseException:  # all or nothing: a caller that goes on after this goes on as before
            self.monitor.load_state_dict(before)
            raise
        super().load_state_dict({name: state_dict[name] for name in self.state_names})
        self._batches, self._ring = list(state_dict["batches"]), list(state_dict["ring"])
