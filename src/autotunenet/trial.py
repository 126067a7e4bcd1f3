"""WHOSE FAULT WAS IT? The trial after an alarm: the good state trains again, and what it gives tells.

alarm -> begin: the suspect state is set aside
           with stored batches: an exact twin, judged at once, or raced where the data have changed
           else: the good state is restored, with its own values, and watched for a few steps
      -> Finding: the verdict, and the state that is live now
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from statistics import median
from typing import Any

from autotunenet.agreement import Topic, holds_on_all_ranks
from autotunenet.attribution import MOVED, TURNED_UP, TURNED_UP_SHARE, Attribution, Baseline, Verdict
from autotunenet.replaying import Reenactment, Replay
from autotunenet.state import PlainState, check_keys
from autotunenet.types import Cause, Hyperparams, InspectableRun, TrainingRun
from autotunenet.way_back import SUSPECT, TWIN, WayBack

_NUM_CLEAR = 2
"""Losses that are enough where the data have changed beyond doubt and no knob has moved."""

_RACE = 24
"""Batches of a race between suspect and twin: a confident network needs as many to learn that labels are wrong."""

MAX_GAP = 4
"""Losses that are not finite while the weights are, which are passed over: the signal is broken, not the network."""


class Live(Enum):
    """The state that a trial has ended with."""

    SUSPECT = "suspect"  # the one at the alarm
    GOOD_AND_ON = "good and on"  # the good one and what it has trained since, or its twin
    SPOILT = "spoilt"  # the good one has broken again: it has to be restored once more


@dataclass(frozen=True, slots=True)
class Finding:
    """What a trial has found out.

    Attributes:
        verdict: Whose fault it was.
        live: Which state is live now.
        level: Loss that the good state has come to on the batches of the trial; NaN where none is known.
    """

    verdict: Verdict
    live: Live
    level: float = math.nan


@dataclass(frozen=True, slots=True)
class Case:
    """What is known at an alarm.

    Attributes:
        step: Its number.
        before: What the good state had given.
        rise: Losses since they began to rise, oldest first, at least one.
        values: What the good state is to train with.
        raised: The lr in force over the good state's.
    """

    step: int
    before: Baseline
    rise: Sequence[float]
    values: Hyperparams
    raised: float

    @property
    def has_moved(self) -> bool:
        """Whether the knob had been moved up since the good state."""
        return self.raised > MOVED

    @property
    def is_turned_up(self) -> bool:
        """Whether it had been turned up by so much that it is suspected first."""
        return self.raised >= TURNED_UP


class Trial(PlainState):
    """Finds out whose fault an alarm was.

    Args:
        run: The training.
        way_back: With a good state.
        attribution: Judges.
        replay: Trains one stored batch; None: judge in line.
    """

    state_names = ("_again", "_num_unseen")

    def __init__(
        self, run: TrainingRun, way_back: WayBack, attribution: Attribution, replay: Replay | None = None
    ) -> None:
        self._run, self._way_back, self._attribution = run, way_back, attribution
        self._twin = Reenactment(run, way_back, replay, attribution) if replay else None
        self._case: Case | None = None
        self._again: list[float] = []  # losses of the good state, or of the twin in a race
        self._batches: list[Any] = []  # what they came from
        self._num_unseen = 0  # losses that were not finite while the weights were

    @property
    def is_on(self) -> bool:
        """Whether the good state is being watched."""
        return self._case is not None

    @property
    def wants_batches(self) -> bool:
        """Whether there may be a twin."""
        return self._twin is not None

    @property
    def _is_race(self) -> bool:
        return self._way_back.snapshots.has(TWIN)

    def is_dubious(self, case: Case) -> bool:
        """Whether a knob that was turned up without an alarm is to be looked at; a twin needs no rise for that."""
        if self._twin and self._way_back.batches_since_good():
            return True
        return self._attribution.is_raised(case.rise, case.before, share=TURNED_UP_SHARE)

    def begin(self, case: Case) -> Finding | None:
        """Set the suspect aside; return the finding, or None where the good state has to be watched first."""
        way_back = self._way_back
        batches = way_back.batches_since_good() if self._twin else None
        way_back.discard()
        way_back.capture(case.step, SUSPECT)
        self._case, self._again, self._batches, self._num_unseen = case, [], [], 0
        if self._twin and batches:
            finding = self._reenact(self._twin, case, batches)
            return self._end(finding) if finding else None
        way_back.restore(case.step)
        self._run.set_hyperparams(case.values)
        return None

    def update(self, loss: float, step: int, batch: Any = None) -> Finding | None:
        """Take note of a loss of the trial; return the finding once there is one.

        Raises:
            RuntimeError: If no trial is on.
        """
        if self._case is None:
            raise RuntimeError("no trial is on; begin() one first")
        case, attribution = self._case, self._attribution
        if not math.isfinite(loss) and self._num_unseen < MAX_GAP and has_finite_weights(self._run):
            self._num_unseen += 1  # a gap in the signal says nothing
            return None
        self._again.append(loss)
        if self._is_race and self._twin:
            self._batches += [] if batch is None else [batch]
            return self._end(self._race(self._twin, case, step)) if len(self._again) >= _RACE else None
        if attribution.is_hopeless(self._again, case.before):
            return self._end(Finding(self._judge(case), Live.SPOILT))
        if len(self._again) >= attribution.num_steps or self._is_clear(case):
            return self._end(self._conclude(case, step))
        return None

    # -- in line -----------------------------------------------------------------------------------------------------

    def _is_clear(self, case: Case) -> bool:
        """Whether every loss of the good state is bad, from its very first, and no knob has moved."""
        enough = len(self._again) >= _NUM_CLEAR and not case.has_moved and math.isfinite(case.rise[-1])
        return enough and self._attribution.is_raised([min(self._again)], case.before)

    def _judge(self, case: Case) -> Verdict:
        return self._attribution.judge(case.before, suspect=case.rise, again=self._again, raised=case.raised)

    def _conclude(self, case: Case, step: int) -> Finding:
        verdict, level = self._judge(case), median(self._again[-3:])
        if verdict.cause in (Cause.KNOB, Cause.BOTH):
            return Finding(verdict, Live.GOOD_AND_ON, level)
        self._way_back.restore(step, SUSPECT)
        return Finding(verdict, Live.SUSPECT, level)

    # -- with a twin -------------------------------------------------------------------------------------------------

    def _reenact(self, twin: Reenactment, case: Case, batches: Sequence[Any]) -> Finding | None:
        """Judge by an exact twin. None: the data have changed, and only a race can tell whether the knob did harm."""
        num_since_onset = min(len(case.rise) + self._way_back.num_unheard, len(batches))
        verdict = twin.judge(case.before, batches, num_since_onset, case.values, case.step, raised=case.raised)
        changed = verdict.cause in (Cause.DATA, Cause.BOTH)
        if changed and case.has_moved and self._is_sound(TWIN, case.step):
            return None
        if changed or verdict.cause is Cause.NOISE:  # a knob that nobody turned up is not to blame
            verdict = replace(verdict, cause=Cause.DATA) if changed else verdict
            return Finding(verdict, Live.SUSPECT if self._is_sound(SUSPECT, case.step) else Live.SPOILT)
        if verdict.twin_is_better and self._is_sound(TWIN, case.step):
            return Finding(verdict, Live.GOOD_AND_ON, verdict.evidence["twin_loss"])
        return Finding(verdict, Live.SPOILT)

    def _race(self, twin: Reenactment, case: Case, step: int) -> Finding:
        """Compare suspect and twin on the batches since; whichever goes on has trained on all of them."""
        level = median(self._again[-3:])
        self._way_back.capture(step, TWIN)
        verdict = twin.race(case.before, self._batches, self._again, step, raised=case.raised)
        if verdict.cause is not Cause.BOTH and has_finite_weights(self._run, unless_it_says=True):
            return Finding(verdict, Live.SUSPECT)
        if self._is_sound(TWIN, step):
            return Finding(replace(verdict, cause=Cause.BOTH), Live.GOOD_AND_ON, level)
        return Finding(replace(verdict, cause=Cause.DATA), Live.SPOILT)

    def _is_sound(self, slot: str, step: int) -> bool:
        """Put a state back; return whether its weights are numbers: what wrecks one state may wreck the other."""
        self._way_back.restore(step, slot)
        return has_finite_weights(self._run, unless_it_says=True)

    def _end(self, finding: Finding) -> Finding:
        self._case, self._again, self._batches = None, [], []
        self._way_back.discard(SUSPECT)
        self._way_back.discard(TWIN)
        self._way_back.snapshots.release()  # alarms are rare, and states are large
        return finding

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the case and the losses so far."""
        case = {} if self._case is None else {**asdict(self._case), "rise": list(self._case.rise)}
        return {**super().state_dict(), "case": case, "batches": list(self._batches)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ValueError if it is none of this class."""
        check_keys(type(self).__name__, state_dict, (*self.state_names, "case", "batches"))
        super().load_state_dict({name: state_dict[name] for name in self.state_names})
        case = state_dict["case"]
        self._case = Case(**{**case, "before": Baseline(**case["before"])}) if case else None
        self._batches = list(state_dict["batches"])


def has_finite_weights(run: TrainingRun, *, unless_it_says: bool = False) -> bool:
    """Whether all weights of a run are finite, in every process; of one that cannot tell, `unless_it_says`."""
    if not isinstance(run, InspectableRun):
        return unless_it_says
    return holds_on_all_ranks(run, Topic.WEIGHTS, run.has_finite_weights())
