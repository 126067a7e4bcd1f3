"""WHOSE FAULT WAS IT? Was it the data or a knob that made the loss rise: verdicts from a few losses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from autotunenet.types import Cause


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whose fault a rise of the loss was.

    Attributes:
        cause: The verdict.
        evidence: The numbers it rests on, by name, in units of the loss unless the name says otherwise.
        reason: The same in words.
        twin_is_better: Whether a twin with the old values was found to be clearly better than the suspect, or as good
            as one whose knob had been turned up.
    """

    cause: Cause
    evidence: Mapping[str, float]
    reason: str
    twin_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of the good state.

    Attributes:
        level: Loss that it had given.
        noise: Standard deviation of single losses there, 0 or more.
        scale: Magnitude of the first loss of the training.
    """

    level: float
    noise: float
    scale: float


class Attribution:
    """Judges in line: the suspect state was set aside, the last good one is training again with its own values.

    Three things are known: the level that the good state had given, the losses that the suspect state gave from the
    onset of the rise, and the first losses of the good state on the batches that came next.

    * The good state's losses are as they were, but the suspect's are not: what was done since is to blame, a knob.
    * Both are as they were: single losses stood out, the state is sound. Noise.
    * The good state gives bad losses too, before any update could have harmed it: the data have changed. If the suspect
      has come down no further than the good state in as many steps, nothing is lost by going back to it; if it is
      clearly worse, a knob has harmed it as well.

    Medians are compared, for a batch may stand out by itself.

    Args:
        num_steps: Losses of the good state that are looked at, at least 3.
        rtol: Relative rise that counts, above 0.
        num_errors: And as many standard errors of the median, above 0.
        atol: And this share of the first loss's magnitude, 0 or more: near zero, factors mean nothing.

    Raises:
        ValueError: If an argument is out of its range.

    >>> attribution = Attribution()
    >>> before = Baseline(level=0.2, noise=0.02, scale=2.3)
    >>> verdict = attribution.judge(before, suspect=[2.1, 2.4], again=[0.2, 0.21, 0.19] * 2, raised=10.0)
    >>> verdict.cause
    <Cause.KNOB: 'knob'>
    """

    def __init__(self, *, num_steps: int = 6, rtol: float = 0.25, num_errors: float = 4.0, atol: float = 0.01) -> None:
        if num_steps < 3:
            raise ValueError(f"Attribution: num_steps must be at least 3, for a median; got {num_steps}")
        for name, value in {"rtol": rtol, "num_errors": num_errors}.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"Attribution: {name} must be a finite number above 0, got {value}")
        if not (math.isfinite(atol) and atol >= 0):
            raise ValueError(f"Attribution: atol must be a finite number, 0 or more, got {atol}")
        self.num_steps, self.rtol, self.num_errors, self.atol = num_steps, rtol, num_errors, atol

    def is_raised(self, losses: Sequence[float], before: Baseline, *, share: float = 1.0) -> bool:
        """Whether losses stand above a level by more than noise explains. One that is not finite counts as infinite.

        Args:
            losses: At least one.
            before: The level, and its noise.
            share: Of the margin that is asked for, above 0.
        """
        # The median's standard error is sqrt(pi / 2) = 1.25 times that of the mean.
        error = 1.25 * before.noise / math.sqrt(len(losses))
        margin = max(self.rtol * abs(before.level), self.num_errors * error, self.atol * abs(before.scale))
        return _median(losses) > before.level + share * margin

    def is_hopeless(self, again: Sequence[float], before: Baseline) -> bool:
        """Whether the good state broke again in the trial itself, though its first loss was as it had been."""
        if not math.isfinite(again[-1]):
            return True  # in the very first loss it is the data, see `judge`
        if len(again) < 3 or self.is_raised(again[:1], before):
            return False
        # The smaller of two, for one may stand out by itself.
        return self.is_raised([min(again[-2:])], replace(before, level=max(again[0], before.level)))

    def _climbs(self, again: Sequence[float], before: Baseline) -> bool:
        """Whether the good state began as it had been and has risen from there: its updates harm it, no new data."""
        if len(again) < 6 or self.is_raised(again[:1], before):
            return False
        return self.is_raised(again[len(again) // 2 :], replace(before, level=max(again[0], before.level)))

    def judge(self, before: Baseline, *, suspect: Sequence[float], again: Sequence[float], raised: float) -> Verdict:
        """Return the verdict.

        Args:
            before: What the good state had given.
            suspect: The last losses before the alarm, oldest first, from the onset of the rise; at least one.
            again: Losses of the good state since it was restored; the first was computed on exactly that state.
            raised: How many times its old value the knob is. One that nobody has turned up is not to blame for new
                data. One that was turned up, by `TURNED_UP` or more, has the burden of proof: half of the margin is
                enough to blame it, and on new data the old values go on unless the others are clearly better.
        """
        level, bad, now = before.level, _median(suspect), _median(again)
        evidence = {"loss_before": level, "suspect_loss": bad, "loss_again": now, "noise": before.noise}
        if not math.isfinite(again[0]):
            text = f"The state that had given {level:.4g} gives {again[0]:.4g} before any update: it is the data"
            return Verdict(Cause.DATA, evidence, text)
        if self.is_hopeless(again, before) or self._climbs(again, before):
            text = f"began with {again[0]:.4g} and broke again, to {again[-1]:.4g}: it is the updates, not the data"
            return Verdict(Cause.KNOB, evidence, f"The state that had given {level:.4g} {text}")
        if self.is_raised(again, before):
            return self._judge_new_data(before, suspect, again, evidence, raised)
        broken = not math.isfinite(suspect[-1])
        if broken or self.is_raised(suspect, before, share=TURNED_UP_SHARE if raised >= TURNED_UP else 1.0):
            text = f"gave {now:.4g} again on new batches, the changed one {bad:.4g}: it was the knob, not the data"
            return Verdict(Cause.KNOB, evidence, f"The state that had given {level:.4g} {text}")
        text = (
            f"Before the alarm it was {bad:.4g} in the median, at the good state {level:.4g}: noise, no lasting change"
        )
        return Verdict(Cause.NOISE, evidence, text)

    def _judge_new_data(
        self,
        before: Baseline,
        suspect: Sequence[float],
        again: Sequence[float],
        evidence: Mapping[str, float],
        raised: float,
    ) -> Verdict:
        """The data have changed; was it a knob as well?"""
        bad, now = evidence["suspect_loss"], evidence["loss_again"]
        seen = f"The state that had given {before.level:.4g} gave {now:.4g} on new batches"
        broken, has_moved = not math.isfinite(suspect[-1]), raised > MOVED
        if broken or (has_moved and self._is_worse(suspect, again, before)):
            text = f"{seen}, and the changed one {bad:.4g}, which is worse still: the data and the knob"
            return Verdict(Cause.BOTH, evidence, text)
        if raised >= TURNED_UP and not self._is_worse(again, suspect, before):
            text = f"{seen}, and the changed one {bad:.4g}: {_NO_GOOD[Cause.BOTH]}"
            return Verdict(Cause.BOTH, evidence, text)
        return Verdict(Cause.DATA, evidence, f"{seen} too: it was the data, not the knob")

    def judge_twin(
        self,
        before: Baseline,
        *,
        at_good: Sequence[float],
        path: Sequence[float],
        twin: Sequence[float],
        suspect: Sequence[float],
        raised: float,
        data_changed: bool | None = None,
    ) -> Verdict:
        """Return the verdict where a twin has trained on the suspect's own batches with the old values.

        The knob has done harm where the mean paired difference is more than three standard errors and a tenth of the
        twin's mean loss. Where it has not, but the twin breaks as well on data that have not changed, it is the updates
        that break the run, with the old values as with the new.

        Args:
            before: What the good state had given.
            at_good: Losses of the good state itself on the batches since the rise began. Where they are bad, the data
                have changed.
            path: Losses of the twin on its way through the same batches. Where they are bad on data that have not
                changed, it is the updates.
            twin: Losses of the twin, batch by batch.
            suspect: Losses of the suspect on the same batches.
            raised: How many times its old value the knob is. One that nobody has turned up is not to blame for new
                data. Where it was turned up the twin goes on, which has trained on as much, unless the suspect is
                better beyond three standard errors, on new data by a tenth as well.
            data_changed: Whether the data have changed, where that is known; None: `at_good` tells.
        """
        differences = [a - b for a, b in zip(suspect, twin, strict=True)]
        mean_twin, mean = _mean(twin), _mean(differences)
        error = math.sqrt(_mean([(d - mean) * (d - mean) for d in differences]) / max(1, len(differences) - 1))
        floor = max(_PAIRED_RTOL * abs(mean_twin), self.atol * abs(before.scale))
        broken = not math.isfinite(_mean(suspect))
        margin = max(_PAIRED_ERRORS * error, floor)
        turned_up, twin_is_sound = raised >= TURNED_UP, not self.is_raised(path, before)
        is_worse = (broken and math.isfinite(mean_twin)) or mean > margin
        is_draw = turned_up and not is_worse and mean >= -_PAIRED_ERRORS * error
        hurt = is_worse or (is_draw and twin_is_sound)
        # A sound state that gives no number on a batch has met a broken one; no median may hide that.
        if data_changed is None:
            data_changed = self.is_raised(at_good, before) or not all(map(math.isfinite, at_good))
        if data_changed:
            blamed = raised > MOVED and (hurt or (turned_up and mean > -margin))
            cause = Cause.BOTH if blamed else Cause.DATA
        else:
            unstable = broken or not twin_is_sound or self.is_raised(suspect, before)
            cause = Cause.KNOB if hurt or unstable else Cause.NOISE
        evidence = {
            "loss_before": before.level,
            "loss_again": _median(at_good),
            "twin_loss": mean_twin,
            "suspect_loss": _mean(suspect),
            "mean_difference": mean,
            "standard_error": error,
        }
        text = (
            f"The state that had given {before.level:.4g} gives {_median(at_good):.4g} on the new batches; trained on "
            f"the same {len(twin)} batches the changed one gives {_mean(suspect):.4g}, its twin with the old values "
            f"{mean_twin:.4g} (difference {mean:.3g}, standard error {error:.3g}): "
            + (_NO_GOOD if not is_worse and ((is_draw and hurt) or cause is Cause.BOTH) else _WORDS)[cause]
        )
        return Verdict(cause, evidence, text, twin_is_better=hurt)

    def revise(self, rival: Baseline, losses: Sequence[float]) -> Verdict:
        """Return the verdict on a state that was returned to and has not come down to `rival` since."""
        bad = _median(losses)
        text = (
            f"Back at the changed state the loss stayed at {bad:.4g}, where the good one had come down to "
            f"{rival.level:.4g} on the changed data: {_WORDS[Cause.BOTH]}"
        )
        return Verdict(Cause.BOTH, {"suspect_loss": bad, "loss_again": rival.level, "noise": rival.noise}, text)

    def _is_worse(self, suspect: Sequence[float], again: Sequence[float], before: Baseline) -> bool:
        """Whether the suspect is worse than the good state in as many steps after the change of the data."""
        same_time = min(len(suspect), len(again))
        later = slice((same_time - 1) // 2, same_time)  # the later half, when both have had time to adapt
        rival = Baseline(_median(again[later]), max(before.noise, noise_of(again)), before.scale)
        return self.is_raised(suspect[later], rival)


_PAIRED_ERRORS = 3.0
"""Standard errors that a mean paired difference has to exceed."""

_PAIRED_RTOL = 0.1
"""And the share of the twin's mean loss."""

MOVED = 1.2
"""A knob counts as moved at this many times its old value."""

TURNED_UP = 2.0
"""And as turned up, so that the burden of proof is its own, at this many times."""

TURNED_UP_SHARE = 0.5
"""Share of the margin that is enough to blame a knob that has been turned up."""

_NO_GOOD = {
    Cause.KNOB: "the knob was turned up and has done no good, so it has to go back",
    Cause.BOTH: "the data have changed, and the knob that was turned up has done no good",
}

_WORDS = {
    Cause.KNOB: "it was the knob, not the data",
    Cause.DATA: "it was the data, not the knob",
    Cause.BOTH: "the data and the knob",
    Cause.NOISE: "noise, no lasting change",
}


def noise_of(losses: Sequence[float]) -> float:
    """Return the standard deviation of single losses around a smooth course, robustly: from median differences.

    >>> noise_of([1.0, 1.0, 9.0, 1.0, 1.0, 1.0])
    0.0
    """
    steps = [abs(b - a) for a, b in itertools.pairwise(losses) if math.isfinite(b - a)]
    # For normal noise the median of |difference of two| is 0.954 standard deviations.
    return median(steps) / 0.954 if steps else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _median(losses: Sequence[float]) -> float:
    return median(loss if math.isfinite(loss) else math.inf for loss in losses)
