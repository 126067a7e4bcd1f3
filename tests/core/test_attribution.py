"""Whose fault was it: verdicts from synthetic losses, for every cause and at every level."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet.attribution import Attribution, Baseline, noise_of
from autotunenet.types import Cause

NAN, INF = math.nan, math.inf
A_LITTLE = 1.5  # moved, but not turned up: neither blamed at once nor free of blame
LEVELS = [2.0, 0.2, 1e-3, -3.0, 1e6]
SCALE_OF = {2.0: 2.3, 0.2: 2.3, 1e-3: 2.3, -3.0: 1.0, 1e6: 1e7}


BEFORE = Baseline(1.0, 0.05, 2.3)


OLD, NEW = (1.0,) * 6, (9.0,) * 6
"""Losses of the good state on data as they were, and on data that have changed."""


def judge_twin(before=BEFORE, *, suspect, twin=OLD, at_good=OLD, path=None):
    path = twin if path is None else path
    return Attribution().judge_twin(before, at_good=at_good, path=path, twin=twin, suspect=suspect, raised=A_LITTLE)


class World:
    """Losses of the good state and of the suspect one, in a world that may have changed.

    `change` and `harm` are rises in units of what counts as one; a good state adapts to a change at `pace`.
    """

    def __init__(self, level, noise, seed):
        self.level, self.rng = level, np.random.default_rng(seed)
        self.sigma = noise * abs(level)
        self.before = Baseline(level, self.sigma, SCALE_OF[level])
        self.unit = max(0.25 * abs(level), 4 * 1.25 * self.sigma / math.sqrt(2), 0.01 * SCALE_OF[level])

    def losses(self, num, *rises, pace=1.0):
        clean = [self.level + self.unit * sum(rises) * pace**i for i in range(num)]
        return [float(loss + self.sigma * self.rng.standard_normal()) for loss in clean]


def verdicts(judge, num=200):
    """The verdicts in `num` worlds, over all levels and noises up to 10 %."""
    found = []
    for seed in range(num):
        for level in LEVELS:
            found.append(judge(World(level, noise=(0.0, 0.02, 0.1)[seed % 3], seed=seed)))
    return found


def share(found, cause):
    return sum(verdict.cause is cause for verdict in found) / len(found)


# -- clear cases -----------------------------------------------------------------------------------------------------

CLEAR = {
    Cause.KNOB: {"suspect": (4.0,), "again": ()},
    Cause.DATA: {"suspect": (4.0,), "again": (4.0,)},
    Cause.BOTH: {"suspect": (4.0, 20.0), "again": (4.0,)},
    Cause.NOISE: {"suspect": (), "again": ()},
}


@pytest.mark.parametrize("num_suspect", [2, 4, 12])
@pytest.mark.parametrize("cause", CLEAR)
def test_clear_cases_in_line(cause, num_suspect):
    case = CLEAR[cause]

    def judge(world):
        suspect, again = world.losses(num_suspect, *case["suspect"]), world.losses(6, *case["again"])
        return Attribution().judge(world.before, raised=A_LITTLE, suspect=suspect, again=again)

    assert share(verdicts(judge), cause) >= 0.97


TWIN = {
    Cause.KNOB: {"at_good": (), "path": (), "twin": (), "suspect": (4.0,)},
    Cause.DATA: {"at_good": (4.0,), "path": (4.0,), "twin": (4.0,), "suspect": (4.0,)},
    Cause.BOTH: {"at_good": (4.0,), "path": (4.0,), "twin": (4.0,), "suspect": (4.0, 20.0)},
    Cause.NOISE: {"at_good": (), "path": (), "twin": (), "suspect": ()},
}


@pytest.mark.parametrize("cause", TWIN)
def test_clear_cases_with_a_twin(cause):
    case = TWIN[cause]

    def judge(world):
        # The same batches: most of the noise is common.
        common = [0.9 * world.sigma * float(world.rng.standard_normal()) for _ in range(6)]
        runs = {}
        for name, rises in case.items():
            level = world.level + world.unit * sum(rises)
            own = [0.1 * (loss - level) for loss in world.losses(6, *rises)]
            runs[name] = [level + x + y for x, y in zip(common, own, strict=True)]
        return Attribution().judge_twin(world.before, raised=A_LITTLE, **runs)

    assert share(verdicts(judge), cause) >= 0.97


@given(
    level=st.sampled_from(LEVELS),
    noise=st.floats(0.0, 0.1),
    rise=st.floats(3.0, 1e4),
    num=st.integers(1, 30),
    pace=st.floats(0.8, 1.0),
)
def test_a_change_of_the_data_that_both_adapt_to_is_no_knob(level, noise, rise, num, pace):
    """Both states meet the new data at the same loss, and come down at the same pace: nothing speaks for a knob."""
    world = World(level, 0.0, 0)
    suspect, again = world.losses(num, rise, pace=pace), world.losses(6, rise, pace=pace)
    before = Baseline(level, noise * abs(level), SCALE_OF[level])
    verdict = Attribution().judge(before, raised=A_LITTLE, suspect=suspect, again=again)
    if Attribution().is_raised(again, before):
        assert verdict.cause is Cause.DATA


@given(
    level=st.sampled_from(LEVELS),
    rise=st.floats(4.0, 1e6),
    num=st.integers(2, 30),
    factor=st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]),
)
@pytest.mark.parametrize("cause", CLEAR)
def test_the_unit_of_the_loss_does_not_matter(cause, level, rise, num, factor):
    world = World(level, 0.0, 0)
    rises = {name: tuple(rise / 4 * x for x in given) for name, given in CLEAR[cause].items()}
    causes = []
    for unit in (1.0, factor):
        before = Baseline(level * unit, 0.0, SCALE_OF[level] * unit)
        suspect = [unit * loss for loss in world.losses(num, *rises["suspect"])]
        again = [unit * loss for loss in world.losses(6, *rises["again"])]
        causes.append(Attribution().judge(before, raised=A_LITTLE, suspect=suspect, again=again).cause)
    assert causes == [cause, cause]


def test_only_what_both_have_come_to_counts():
    """The suspect met the change worse than the good state, and has caught up."""
    suspect = [90.0, 90.0, 90.0, 5.0, 5.0, 5.0, 5.0, 5.0]
    judge = Attribution().judge
    assert judge(BEFORE, raised=A_LITTLE, suspect=suspect, again=[9.0, 9.0, 9.0, 5.0, 5.0, 5.0]).cause is Cause.DATA
    assert judge(BEFORE, raised=A_LITTLE, suspect=suspect[:4], again=[9.0, 9.0, 9.0, 5.0, 5.0, 5.0]).cause is Cause.BOTH


def test_single_losses_that_stand_out_change_nothing():
    before = Baseline(1.0, 0.05, 2.3)
    for odd in (9.0, INF, NAN):
        verdict = Attribution().judge(
            before, raised=A_LITTLE, suspect=[1.0, 1.02, odd, 0.98], again=[1.0, odd, 1.0, 1.03, 0.97, 1.0]
        )
        assert verdict.cause is Cause.NOISE


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_suspect_that_gives_no_numbers_is_a_knob(bad):
    verdict = Attribution().judge(Baseline(1.0, 0.05, 2.3), raised=A_LITTLE, suspect=[bad], again=[1.0] * 6)
    assert verdict.cause is Cause.KNOB
    assert verdict.evidence["suspect_loss"] == INF
    twin = judge_twin(suspect=[1.0, 1.0, bad, bad], twin=[1.0] * 4)
    assert twin.cause is Cause.KNOB


@pytest.mark.parametrize(("level", "quiet", "raised"), [(1.0, 1.249, 1.251), (-4.0, -3.01, -2.99), (0.0, 0.0, 1e-9)])
def test_what_counts_as_a_rise_without_noise(level, quiet, raised):
    attribution = Attribution(atol=0.0)
    assert not attribution.is_raised([quiet] * 5, Baseline(level, 0.0, 1.0))
    assert attribution.is_raised([raised] * 5, Baseline(level, 0.0, 1.0))


def test_the_margin_of_noise_is_four_standard_errors_of_the_median():
    before = Baseline(1.0, 0.8, 1.0)
    margin = 4 * 1.25 * 0.8 / math.sqrt(4)
    attribution = Attribution()
    assert not attribution.is_raised([1 + margin - 1e-6] * 4, before)
    assert attribution.is_raised([1 + margin + 1e-6] * 4, before)
    assert not attribution.is_raised([1 + margin + 1e-6], before)  # one loss says less than four


def test_pure_noise_hardly_ever_looks_like_a_rise():
    rng = np.random.default_rng(0)
    before = Baseline(1.0, 0.3, 2.3)
    found = [
        Attribution().judge(
            before, raised=A_LITTLE, suspect=1 + 0.3 * rng.standard_normal(4), again=1 + 0.3 * rng.standard_normal(6)
        )
        for _ in range(2000)
    ]
    assert share(found, Cause.NOISE) >= 0.99


# -- hopeless --------------------------------------------------------------------------------------------------------


def test_a_good_state_that_breaks_again_is_hopeless_and_the_knob():
    before = Baseline(0.2, 0.01, 2.3)
    attribution = Attribution()
    assert not attribution.is_hopeless([0.2], before)
    assert not attribution.is_hopeless([0.2, 9.0], before)  # two are no median
    assert attribution.is_hopeless([0.2, 0.9, 3.0], before)
    verdict = attribution.judge(before, raised=A_LITTLE, suspect=[5.0], again=[0.2, 0.9, 3.0])
    assert verdict.cause is Cause.KNOB
    assert "began with 0.2 and broke again, to 3" in verdict.reason


def test_new_data_from_the_first_loss_on_are_not_hopeless():
    attribution = Attribution()
    assert not attribution.is_hopeless([3.0, 3.1, 3.0, 3.2], Baseline(0.2, 0.01, 2.3))
    assert not attribution.is_hopeless([0.2, 0.21, 0.22, 0.2], Baseline(0.2, 0.01, 2.3))


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_good_state_whose_updates_lead_to_no_number_is_hopeless_at_once(bad):
    before = Baseline(0.2, 0.01, 2.3)
    assert Attribution().is_hopeless([0.2, bad], before)
    assert Attribution().judge(before, raised=A_LITTLE, suspect=[bad], again=[0.2, bad]).cause is Cause.KNOB


@pytest.mark.parametrize("bad", [NAN, INF])
def test_no_number_from_the_very_state_that_was_good_is_the_data(bad):
    """Its first loss comes before any update: no knob can have done that."""
    verdict = Attribution().judge(Baseline(0.2, 0.01, 2.3), raised=A_LITTLE, suspect=[bad], again=[bad])
    assert verdict.cause is Cause.DATA


# -- a return that is revised ------------------------------------------------------------------------------------------


def test_a_revised_verdict_is_both_and_says_its_numbers():
    verdict = Attribution().revise(Baseline(0.5, 0.02, 2.3), [2.0, 2.2, 2.1])
    assert verdict.cause is Cause.BOTH
    assert verdict.evidence == {"suspect_loss": 2.1, "loss_again": 0.5, "noise": 0.02}
    assert "stayed at 2.1" in verdict.reason
    assert "come down to 0.5" in verdict.reason


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cause", "words"), [
    (Cause.KNOB, "it was the knob, not the data"), (Cause.DATA, "it was the data, not the knob"),
    (Cause.BOTH, "the data and the knob"), (Cause.NOISE, "noise, no lasting change"),
])  # fmt: skip
def test_the_sentence_says_the_numbers_and_the_verdict(cause, words):
    world = World(0.2, 0.0, 0)
    runs = {name: world.losses(6, *rises) for name, rises in CLEAR[cause].items()}
    line = Attribution().judge(world.before, raised=A_LITTLE, **runs)
    case = {name: world.losses(6, *rises) for name, rises in TWIN[cause].items()}
    pairs = Attribution().judge_twin(world.before, raised=A_LITTLE, **case)
    paired = ("suspect_loss", "twin_loss", "loss_again", "mean_difference", "standard_error")
    for verdict, names in ((line, ("suspect_loss",)), (pairs, paired)):
        assert verdict.cause is cause
        assert words in verdict.reason
        said = {float(x) for x in re.findall(r"-?\d+\.?\d*(?:e[-+]?\d+)?", verdict.reason)}
        for name in ("loss_before", *names):
            digits = "{:.3g}" if name in ("mean_difference", "standard_error") else "{:.4g}"
            assert float(digits.format(verdict.evidence[name])) in said, (name, verdict.reason)
    assert line.evidence.keys() == {"loss_before", "suspect_loss", "loss_again", "noise"}
    assert all(type(value) is float for value in (*line.evidence.values(), *pairs.evidence.values()))


# -- a twin on the same batches ---------------------------------------------------------------------------------------


def test_a_twin_needs_three_errors_and_a_tenth():
    assert judge_twin(suspect=[1.09] * 6).cause is Cause.NOISE
    assert judge_twin(suspect=[1.11] * 6).cause is Cause.KNOB
    wide = [1.0 + 0.6 * x for x in (-1, 1, -1, 1, 1, 1)]  # mean 0.2, error 0.24
    verdict = judge_twin(at_good=NEW, suspect=wide)
    assert verdict.cause is Cause.DATA
    assert judge_twin(at_good=NEW, suspect=[x + 0.4 for x in wide]).cause is Cause.DATA  # 0.6 is 2.4 errors
    assert judge_twin(at_good=NEW, suspect=[x + 0.6 for x in wide]).cause is Cause.BOTH  # 0.8 is 3.2 errors
    assert verdict.evidence["standard_error"] == pytest.approx(np.std(wide, ddof=1) / math.sqrt(6))
    assert verdict.evidence["mean_difference"] == pytest.approx(0.2)


def test_near_zero_a_hundredth_of_the_first_loss_is_needed():
    before = Baseline(0.0, 0.0, 2.0)
    zero = [0.0] * 6
    assert judge_twin(before, suspect=[0.019] * 6, twin=zero, at_good=zero).cause is Cause.NOISE
    assert judge_twin(before, suspect=[0.021] * 6, twin=zero, at_good=zero).cause is Cause.KNOB


def test_a_suspect_that_is_better_than_its_twin_is_not_to_blame():
    assert judge_twin(suspect=[0.5] * 6).cause is Cause.NOISE
    assert judge_twin(suspect=[1.0] * 6, twin=[3.0] * 6, at_good=[3.0] * 6).cause is Cause.DATA


def test_where_the_twin_breaks_as_well_on_old_data_it_is_the_updates():
    assert judge_twin(suspect=[9.0] * 6, twin=[9.0] * 6).cause is Cause.KNOB
    assert judge_twin(suspect=[NAN] * 6, twin=[NAN] * 6).cause is Cause.KNOB
    assert judge_twin(suspect=[NAN] * 6, twin=[NAN] * 6, path=OLD).cause is Cause.KNOB


def test_a_twin_that_broke_on_its_way_and_has_recovered_tells_that_it_is_the_updates():
    assert judge_twin(suspect=OLD, path=NEW).cause is Cause.KNOB
    assert judge_twin(suspect=OLD, path=NEW, at_good=NEW).cause is Cause.DATA


@pytest.mark.parametrize("bad", [NAN, INF])
def test_on_changed_data_that_break_both_the_knob_is_not_to_blame(bad):
    assert judge_twin(suspect=[bad] * 6, twin=[bad] * 6, at_good=NEW).cause is Cause.DATA
    assert judge_twin(suspect=[bad] * 6, twin=NEW, at_good=NEW).cause is Cause.BOTH


def test_a_twin_with_other_batches_is_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        judge_twin(suspect=[1.0], twin=[1.0, 1.0])


# -- noise and arguments ----------------------------------------------------------------------------------------------


def test_noise_is_the_standard_deviation_of_single_losses():
    rng = np.random.default_rng(0)
    assert noise_of(list(5 - 0.001 * np.arange(4000) + 0.3 * rng.standard_normal(4000))) == pytest.approx(0.3, rel=0.05)
    assert noise_of([]) == noise_of([1.0]) == noise_of([NAN, 1.0, INF]) == 0.0


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_steps": 2}, "num_steps must be at least 3"),
        *[({name: value}, f"{name} must be a finite number above 0, got {value}")
          for name in ("rtol", "num_errors") for value in (0.0, -1.0, NAN, INF)],
        *[({"atol": value}, "atol must be a finite number, 0 or more") for value in (-1e-9, NAN, INF)],
    ],
)  # fmt: skip
def test_arguments_are_checked(kwargs, words):
    with pytest.raises(ValueError, match=f"Attribution: {words}"):
        Attribution(**kwargs)


# -- the burden of proof -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "bad", "now", "cause"),
    [
        (1.0, 4.0, 2.0, Cause.DATA),  # nobody has turned it up
        (1.5, 4.0, 2.0, Cause.BOTH),
        (1.5, 2.0, 2.0, Cause.DATA),
        (2.0, 2.0, 2.0, Cause.BOTH),  # no better
        (30.0, 2.0, 4.0, Cause.DATA),  # better
        (1.0, 0.24, 0.2, Cause.NOISE),
        (2.0, 0.24, 0.2, Cause.KNOB),  # half of the margin
        (1.0, NAN, 2.0, Cause.BOTH),
    ],
)
def test_who_has_turned_the_knob_up_has_to_show_that_it_was_right(raised, bad, now, cause):
    verdict = Attribution().judge(Baseline(0.2, 0.001, 2.3), suspect=[bad] * 3, again=[now] * 6, raised=raised)
    assert verdict.cause is cause


@pytest.mark.parametrize(("raised", "cause"), [(1.5, Cause.DATA), (2.0, Cause.BOTH)])
def test_a_race_that_ends_level_goes_to_the_old_values_where_the_knob_was_turned_up(raised, cause):
    rows = {"at_good": [2.0] * 4, "path": [2.0] * 4, "twin": [2.0] * 4, "suspect": [2.01, 1.99, 2.0, 2.0]}
    verdict = Attribution().judge_twin(Baseline(0.2, 0.001, 2.3), **rows, raised=raised)
    assert (verdict.cause, verdict.twin_is_better) == (cause, False)
    assert ("has done no good" in verdict.reason) is (cause is Cause.BOTH)


@pytest.mark.parametrize(
    ("raised", "bad", "cause", "words"),
    [
        (1.5, 0.2, Cause.NOISE, "noise, no lasting change"),
        (2.0, 0.2, Cause.KNOB, "the knob was turned up and has done no good"),  # a draw
        (2.0, 0.19, Cause.NOISE, "noise, no lasting change"),  # better
        (2.0, 0.4, Cause.KNOB, "it was the knob, not the data"),  # worse
    ],
)
def test_in_a_draw_the_twin_goes_on_where_the_knob_was_turned_up(raised, bad, cause, words):
    rows = {"at_good": [0.2] * 4, "path": [0.2] * 4, "twin": [0.2] * 4, "suspect": [bad] * 4}
    verdict = Attribution().judge_twin(Baseline(0.2, 0.001, 2.3), **rows, raised=raised)
    assert (verdict.cause, verdict.twin_is_better) == (cause, cause is Cause.KNOB)
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("again", "cause"),
    [
        ([0.2, 0.21, 0.3, 0.31, 0.32, 0.33], Cause.KNOB),  # begins as it was, and its updates harm it
        ([0.3, 0.31, 0.3, 0.31, 0.32, 0.33], Cause.DATA),  # bad from its very first loss
        ([0.2, 0.2, 0.2, 0.2, 0.2, 0.3], Cause.NOISE),  # one stands out
        ([0.2, 0.21, 0.22, 0.23, 0.24, 0.24], Cause.NOISE),  # within the margin
    ],
)
def test_a_good_state_that_climbs_again_is_harmed_by_its_updates(again, cause):
    verdict = Attribution().judge(Baseline(0.2, 0.001, 2.3), suspect=[0.21] * 3, again=again, raised=1.0)
    assert verdict.cause is cause
    assert ("it is the updates" in verdict.reason) is (cause is Cause.KNOB)


def test_where_it_is_known_that_the_data_changed_no_single_loss_says_otherwise():
    rows = {"at_good": [0.2], "path": [0.2] * 4, "twin": [0.2] * 4, "suspect": [0.4] * 4}
    for known, cause in ((None, Cause.KNOB), (True, Cause.BOTH), (False, Cause.KNOB)):
        verdict = Attribution().judge_twin(Baseline(0.2, 0.001, 2.3), **rows, raised=1.5, data_changed=known)
        assert verdict.cause is cause


def test_better_by_less_than_three_standard_errors_is_a_draw():
    rows = {"at_good": [0.2] * 4, "path": [0.2] * 4, "twin": [0.2] * 4}
    for suspect, cause in (([0.19, 0.2, 0.21, 0.18], Cause.KNOB), ([0.19, 0.18, 0.19, 0.18], Cause.NOISE)):
        verdict = Attribution().judge_twin(Baseline(0.2, 0.001, 2.3), **rows, suspect=suspect, raised=2.0)
        assert verdict.cause is cause


def test_a_twin_does_not_blame_a_knob_that_nobody_turned_up_for_new_data_and_says_so():
    rows = {"at_good": [2.0] * 4, "path": [2.0] * 4, "twin": [2.0] * 4, "suspect": [4.0] * 4}
    for raised, cause in ((1.0, Cause.DATA), (1.5, Cause.BOTH)):
        verdict = Attribution().judge_twin(Baseline(0.2, 0.001, 2.3), **rows, raised=raised)
        assert verdict.cause is cause
        assert ("not the knob" in verdict.reason) is (cause is Cause.DATA)
