"""WHAT TO DO WHEN IT BREAKS: keep a way back, find out whose fault it was, go back or stay.

loss -> monitor.update -> healthy: keep the way back
                       -> UNSTABLE: a trial tells whose fault it was, and its finding is carried out:
                            the knob: go on from the good state, with lr as it was there, or backed off (compounding)
                            the data: go on from where the alarm was, judge from its level on
                            both:     go on from the good state, judge from its new level on
                            noise:    go on as if nothing had been
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from autotunenet import reasons
from autotunenet.attribution import MOVED, Attribution, Baseline, Verdict, noise_of
from autotunenet.monitors import Monitor
from autotunenet.replaying import Replay
from autotunenet.state import PlainState, check_keys
from autotunenet.trial import MAX_GAP, Case, Finding, Live, Trial, has_finite_weights
from autotunenet.types import Action, Cause, Health, Hyperparams, Outcome, TrainingRun
from autotunenet.way_back import WayBack

_MEMORY = 32
"""Losses that are remembered, for levels and noise."""

_MIN_RISE = 3
"""Losses in a row that are not healthy which an alarm needs, so that there is something to judge."""

_PROBATION = 12
"""Losses after a return to the suspect state in which it has to come down to where the good one had come."""


class Recovery(PlainState):
    """Watches the losses of a run, and brings it back when it breaks. The arguments are those of `Tuner`."""

    state_names = (
        "num_rollbacks_in_row",
        "_num_futile_in_row",
        "_just_restored",
        "_has_broken_data",
        "is_holding",
        "_scale",
        "_recent",
        "_rise",
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
        # Only where weights are restored there is a good state to watch.
        self._trial = Trial(run, way_back, attribution, replay) if attribution and self._scope == "full" else None
        self._max_futile, self._max_rollbacks = max_futile, max_rollbacks
        self.num_rollbacks_in_row = 0
        self._num_futile_in_row = 0
        self._just_restored = False
        self._has_broken_data = False  # the good state gave no number, and nothing healthy has come since
        self.is_holding = False  # too many rollbacks in a row: nobody raises anything until a state is proven
        self._scale = 0.0  # magnitude of the first loss
        self._recent: list[float] = []  # stable losses
        self._rise: list[float] = []  # losses since the last stable one
        self._rival: float | None = None  # level that a state which was returned to has to reach
        self._since_return: list[float] = []  # its losses
        self._in_force: Hyperparams = {}  # at the last alarm

    @property
    def is_on_trial(self) -> bool:
        """Whether the good state is being watched to find out whose fault an alarm was."""
        return self._trial is not None and self._trial.is_on

    @property
    def wants_batches(self) -> bool:
        """Whether batches are to be remembered, for a twin."""
        return self._trial is not None and self._trial.wants_batches

    @property
    def _scope(self) -> str:
        return self.way_back.snapshots.scope

    def anchor_scale(self, loss: float, step: int) -> None:
        """Tell what the training began with, which the monitors measure everything by."""
        self.monitor.update(loss, step)
        self._scale = abs(loss)

    def begin(self, loss: float, step: int) -> None:
        """Trust the live state, and forget what was before; `loss` is what it is known to give."""
        self.way_back.trust(step, loss)
        self.monitor.reset(loss)
        self._forget()
        self.is_holding = False

    def watch(self, loss: float, step: int, applied: Hyperparams, batch: Any = None) -> tuple[Health, Outcome | None]:
        """Judge a step, and do what has to be done about it.

        Args:
            loss: Of this step.
            step: Its number, from 1.
            applied: What the tuner had put in force.
            batch: What the loss came from, to be replayed.
        """
        if self._trial and self._trial.is_on:
            finding = self._trial.update(loss, step, batch)
            return Health.SUSPECT, self._carry_out(finding, loss, step) if finding else None
        health = self.monitor.update(loss, step)
        self._note(loss, health)
        if health is Health.UNSTABLE and self._scope != "none":
            if self._is_confirmed(loss):
                return health, self._respond(loss, step)
            health = Health.SUSPECT
        if self._rival is not None:
            return health, self._check_return(loss, step)
        if self.way_back.keep(loss, step, health, applied):
            self.num_rollbacks_in_row = self._num_futile_in_row = 0
            self.is_holding = False
        return health, None

    def question(self, losses: Sequence[float], step: int, applied: Hyperparams) -> Outcome | None:
        """Look at a run whose lr somebody else has turned up: it takes less of a rise then to begin a trial.

        Args:
            losses: The latest, at least one; no alarm has come from them.
            step: Number of the step now.
            applied: What the tuner had put in force.
        """
        good = self.way_back.snapshots.good
        if not (self._trial and good and math.isfinite(good.loss)) or self._rival is not None:
            return None
        now, rise = self._run.get_hyperparams(), list(losses[-_MIN_RISE:])
        case = self._case(step, now, rise)
        is_foreign = now.get("lr", 0.0) > applied.get("lr", math.inf)
        if not (is_foreign and case.is_turned_up and self._trial.is_dubious(case)):
            return None
        self._in_force, self._rise = now, rise
        return self._put_on_trial(self._trial, case, rise[-1])

    def _note(self, loss: float, health: Health) -> None:
        self._scale = self._scale or (abs(loss) if math.isfinite(loss) else 0.0)
        if health is Health.STABLE:
            self._recent.append(loss)
            del self._recent[:-_MEMORY]
            self._rise, self._has_broken_data = [], False
        else:
            self._rise.append(loss)
            del self._rise[:-_MEMORY]
        if self._just_restored:
            # This loss was computed on exactly the restored state. If that is bad already, the state is not to blame.
            self._num_futile_in_row = 0 if health is Health.STABLE else self._num_futile_in_row + 1
            self._just_restored = False

    def _is_confirmed(self, loss: float) -> bool:
        """Whether an alarm is more than single losses that stand out, which a verdict could not be built on."""
        if self._trial is None:
            return True
        if not math.isfinite(loss) and not has_finite_weights(self._run):
            return True
        return len(self._rise) >= (_MIN_RISE if math.isfinite(loss) else MAX_GAP)

    # -- an alarm ----------------------------------------------------------------------------------------------------

    def _respond(self, loss: float, step: int) -> Outcome | None:
        self._in_force, self._rival = self._run.get_hyperparams(), None
        if self._has_broken_data and not math.isfinite(loss):  # that has been said already
            self._restore_with(self._in_force, step)
            return None
        # Weights are not restored and the values are at their bounds: a rollback would change nothing.
        powerless = self._scope == "hyperparameters" and self._is_backed_off()
        exhausted = self.num_rollbacks_in_row >= self._max_rollbacks
        if (powerless or exhausted) and not math.isfinite(loss):
            return self._stand_still(loss, step)
        futile = powerless or exhausted or self._num_futile_in_row >= self._max_futile
        if futile and math.isfinite(loss):
            return self._accept(loss, step)
        good = self.way_back.snapshots.good
        if self._trial and good and math.isfinite(good.loss) and not futile:
            # Where there is a number again, those in between that are none were a gap in the signal.
            rise = [value for value in self._rise if math.isfinite(value)] if math.isfinite(loss) else self._rise
            return self._put_on_trial(self._trial, self._case(step, self._in_force, rise or [loss]), loss)
        return self._roll_back(loss, step)

    def _stand_still(self, loss: float, step: int) -> Outcome | None:
        """Not a number again, and everything has been tried: undo the step, and say so once."""
        self.way_back.drop_candidate()
        if self._scope == "full":
            careful = self.way_back.cut_by(self._backoff**self.num_rollbacks_in_row)
            self.way_back.restore(step)
            self._run.set_hyperparams(careful)
        if self.is_holding or self.num_rollbacks_in_row < self._max_rollbacks:
            return None
        self.is_holding = True
        reason = reasons.standstill(loss, self._run.get_hyperparams(), self.num_rollbacks_in_row)
        return self._outcome(Action.HOLD, step, reason)

    def _roll_back(self, loss: float, step: int, verdict: Verdict | None = None) -> Outcome:
        """Go back to the good state with lr cut: something has to change, or the same wall comes again."""
        target = self.way_back.cut_by(self._backoff ** (self.num_rollbacks_in_row + 1))
        snapshot = self.way_back.restore(step)
        self._run.set_hyperparams(target)
        self.num_rollbacks_in_row += 1
        self.monitor.reset(snapshot.loss)
        self._just_restored, self._rise = True, []
        applied = self._run.get_hyperparams()
        reason = reasons.rollback(loss, snapshot, applied, self.way_back.snapshots.scope, self.num_rollbacks_in_row)
        why = f"{verdict.reason}. " if verdict else ""
        return self._outcome(Action.ROLLBACK, step, why + reason, verdict)

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
        return self._outcome(Action.ACCEPT, step, reason)

    def _anchor(self, loss: float, step: int) -> None:
        """Judge from this level on, with the live state as the next candidate."""
        self.monitor.reset(loss)
        self._forget()
        self.way_back.capture(step)

    def _forget(self) -> None:
        self.num_rollbacks_in_row = self._num_futile_in_row = 0
        self._recent, self._rise, self._rival = [], [], None

    # -- whose fault was it? -----------------------------------------------------------------------------------------

    def _case(self, step: int, in_force: Hyperparams, rise: Sequence[float]) -> Case:
        good = self.way_back.snapshots.good_or_first()
        values = self.way_back.cut_by(self._backoff**self.num_rollbacks_in_row)  # its own, or what rollbacks have left
        before = Baseline(good.loss, noise_of(self._recent), self._scale)
        return Case(step, before, list(rise), values, self._raised(in_force))

    def _raised(self, in_force: Hyperparams) -> float:
        """How many times the good state's lr the one in force is."""
        good = self.way_back.snapshots.good_or_first().hyperparams
        name = "lr" if "lr" in good else next(iter(good))
        return in_force[name] / good[name] if good[name] else 1.0

    def _put_on_trial(self, trial: Trial, case: Case, loss: float) -> Outcome:
        finding = trial.begin(case)
        if finding:
            return self._carry_out(finding, loss, case.step)
        # What the alarm costs is known once the trial is over: the suspect may come back.
        reason = reasons.alarm(loss, self.way_back.snapshots.good_or_first())
        return Outcome(Action.PROBE, self._in_force, 0, reason)

    def _carry_out(self, finding: Finding, loss: float, step: int) -> Outcome:
        if finding.live is Live.SPOILT:
            at_once = finding.verdict.cause is Cause.DATA
            return self._undo(loss, step, finding.verdict) if at_once else self._roll_back(loss, step, finding.verdict)
        return self._return(step, finding) if finding.live is Live.SUSPECT else self._stay_back(step, finding)

    def _undo(self, loss: float, step: int, verdict: Verdict) -> Outcome:
        """The good state itself gives no number, before any update: the data are broken, and lr is not to blame."""
        good = self.way_back.snapshots.good_or_first()
        # What was in force at the alarm, which may be less than at the good state: a landing goes on.
        self._restore_with(
            {k: min(v, good.hyperparams[k]) if k == "lr" else v for k, v in self._in_force.items()}, step
        )
        self._has_broken_data = True
        reason = reasons.broken_data(loss, good, self._in_force, self._run.get_hyperparams())
        return self._outcome(Action.ROLLBACK, step, reason, verdict)

    def _restore_with(self, values: Hyperparams, step: int) -> None:
        good = self.way_back.restore(step)
        self._run.set_hyperparams(values)
        self.monitor.reset(good.loss)
        self._rise = []

    def _stay_back(self, step: int, finding: Finding) -> Outcome:
        """Go on from where the trial has led, which is the good state and a few steps."""
        good, verdict = self.way_back.snapshots.good_or_first(), finding.verdict
        # Where the knob had been turned up since, going back to the old value is the change that a rollback needs.
        has_moved = self._raised(self._in_force) > MOVED
        self._run.set_hyperparams(self.way_back.cut_by(self._backoff ** (self.num_rollbacks_in_row + (not has_moved))))
        self.num_rollbacks_in_row += 1
        self._rise = []
        if verdict.cause is Cause.BOTH:
            self.monitor.reset(finding.level)
            self._recent = []
            self.way_back.capture(step)
        else:
            self.monitor.reset(good.loss)
        applied = self._run.get_hyperparams()
        reason = reasons.stayed_back(verdict.reason, good, applied, self.num_rollbacks_in_row)
        return self._outcome(Action.ROLLBACK, step, reason, verdict)

    def _return(self, step: int, finding: Finding) -> Outcome:
        """Go on from the suspect state, which was not to blame; where the data have changed, that has to show yet."""
        good, verdict = self.way_back.snapshots.good_or_first().hyperparams, finding.verdict
        finite = [loss for loss in self._rise[-3:] if math.isfinite(loss)]
        if verdict.cause is not Cause.DATA:
            self.monitor.reset(math.nan)
            self._rise = []
        else:
            if "lr" in good:  # an lr that was raised just before has not been proven in the new world
                self._run.set_hyperparams({"lr": min(good["lr"], self._run.get_hyperparams()["lr"])})
            self._anchor(median(finite) if finite else math.nan, step)
            # A knob that nobody has turned up is not to blame for new data: then there is nothing to be proven.
            is_open = self._raised(self._in_force) > MOVED and math.isfinite(finding.level)
            self._rival, self._since_return = (finding.level if is_open else None), []
        return self._outcome(Action.RESTORE_SUSPECT, step, reasons.returned(verdict.reason), verdict)

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

    def _outcome(self, action: Action, step: int, reason: str, verdict: Verdict | None = None) -> Outcome:
        discarded = self.way_back.settle(step)
        if verdict is None:
            return Outcome(action, self._in_force, discarded, reason)
        return Outcome(action, self._in_force, discarded, reason, verdict.cause, verdict.evidence)

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit, snapshots included."""
        parts = {"monitor": self.monitor.state_dict(), "way_back": self.way_back.state_dict()}
        return {**super().state_dict(), **parts, "trial": self._trial.state_dict() if self._trial else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, or raise ValueError and stay as it was."""
        check_keys(type(self).__name__, state_dict, (*self.state_names, "monitor", "way_back", "trial"))
        if bool(state_dict["trial"]) != bool(self._trial):
            raise ValueError("this is no state of this Tuner: one of the two has an attribution, the other has none")
        own = {name: state_dict[name] for name in self.state_names}
        self.check_plain(own)
        before = self.monitor.state_dict(), self._trial.state_dict() if self._trial else {}
        try:
            self.monitor.load_state_dict(state_dict["monitor"])
            if self._trial:
                self._trial.load_state_dict(state_dict["trial"])
            self.way_back.load_state_dict(state_dict["way_back"])
        except BaseException:  # all or nothing: a caller that goes on after this goes on as before
            self.monitor.load_state_dict(before[0])
            if self._trial:
                self._trial.load_state_dict(before[1])
            raise
        super().load_state_dict(own)
