"""Conclusions follow from the numbers by the stated rules: every verdict of every rule, worked out by hand."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import asked, cells, run

from autotunenet_bench.config.experiment import ConclusionName
from autotunenet_bench.metrics.performance import TARGET_SHARE
from autotunenet_bench.metrics.stability import FAILURE_FRACTION
from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.conclusions import CONCLUSIONS, Verdict, conclude
from autotunenet_bench.report.conclusions.matches import MARGIN
from autotunenet_bench.report.conclusions.words import caution_of, claim_of, claims_by_cell, limits_of, ratio_of
from autotunenet_bench.statistics import Claim
from autotunenet_bench.statistics.claims import MIN_PAIRS

NAN = math.nan
TEN = range(10)


def verdict_of(groups, conclusion, *against, **more):
    finding, _ = conclude(groups, asked(conclusion, *against), **more)
    return finding.verdict


def test_every_rule_of_a_config_is_there_and_says_when_it_says_what():
    assert set(CONCLUSIONS) == set(get_args(ConclusionName))
    assert all(rule.words and not rule.words.endswith(".") for rule in CONCLUSIONS.values())


# -- the numbers behind ------------------------------------------------------------------------------------------------


def test_ratios_are_geometric_means_over_pairs_and_over_the_seeds_of_a_cell():
    groups = cells({"calm": {"ours": [0.2, 0.1], "fixed": [0.4, 0.4]}, "storm": {"ours": [0.8], "fixed": [0.4]}})
    # ln ratios: -ln 2, -2 ln 2 and ln 2; their mean is -2/3 ln 2
    (match,) = conclude(groups, asked("best_of", "fixed"))[1]
    assert match.ratio == pytest.approx(2 ** (-2 / 3))
    assert match.ratios == {("images", "calm"): pytest.approx(2**-1.5), ("images", "storm"): pytest.approx(2.0)}
    assert list(match.better_in) == [("images", "calm")]
    assert list(match.worse_in) == [("images", "storm")]
    assert match.interval[0] < match.ratio < match.interval[1]


@pytest.mark.parametrize("lost", [NAN, math.inf, 1.8, 1e9])
def test_a_lost_run_counts_as_the_loss_that_it_began_with(lost):
    (match,) = conclude(cells({"calm": {"ours": [lost], "fixed": [0.5]}}), asked("best_of", "fixed"))[1]
    assert match.ratio == pytest.approx(4.0)
    assert match.lost_alone == 1


def test_the_very_same_runs_are_evidence_once():
    def world(regime, ours="same"):
        names = {"ours": (0.2, ours), "fixed": (0.4, "same")}
        return [
            run(name, loss, seed, regime=regime, weights=f"{name} {weights} {seed}")
            for name, (loss, weights) in names.items()
            for seed in range(5)
        ]

    alone = conclude(aggregate(world("calm")), asked("best_of", "fixed"))[1][0]
    twice = conclude(aggregate(world("calm") + world("noise that nobody minds")), asked("best_of", "fixed"))[1][0]
    assert twice.comparison == alone.comparison
    assert (twice.num_same, len(twice.ratios), twice.claim) == (5, 1, Claim.NOTHING)
    assert ratio_of(twice).endswith(
        "5 more pairs are the very same runs as some of these, weight for weight, and add nothing."
    )
    # Where one of the two did otherwise, it is another pair.
    other = conclude(aggregate(world("calm") + world("storm", "other")), asked("best_of", "fixed"))[1][0]
    assert (other.num_same, other.comparison.num_pairs) == (0, 10)


# -- does it do harm? --------------------------------------------------------------------------------------------------


HARM = {
    "win": ({"calm": {"ours": [0.2] * 10, "fixed": [0.4] * 10}}, Verdict.YES),
    "level": ({"calm": {"ours": [0.416] * 10, "fixed": [0.4] * 10}}, Verdict.YES),  # 1.04
    "loss": ({"calm": {"ours": [0.424] * 10, "fixed": [0.4] * 10}}, Verdict.NO),  # 1.06
    "mixed": ({"calm": {"ours": [0.2], "fixed": [0.4]}, "storm": {"ours": [0.48], "fixed": [0.4]}}, Verdict.PARTLY),
    "lost alone": ({"calm": {"ours": [0.1] * 9 + [NAN], "fixed": [0.4] * 10}}, Verdict.NO),
    "lost both": ({"calm": {"ours": [0.4] * 9 + [NAN], "fixed": [0.4] * 9 + [NAN]}}, Verdict.YES),
    "saved": ({"calm": {"ours": [0.4] * 10, "fixed": [0.4] * 9 + [NAN]}}, Verdict.YES),
}


@pytest.mark.parametrize(("losses", "expected"), HARM.values(), ids=HARM)
def test_harm(losses, expected):
    assert verdict_of(cells(losses), "do_no_harm", "fixed") is expected


def test_harm_is_told_as_plainly_as_its_absence():
    losses = {"calm": {"ours": [0.5] * 10, "fixed": [0.4] * 10}}
    finding, (match,) = conclude(cells(losses), asked("do_no_harm", "fixed"))
    assert finding.answer == "ours did harm: 1.25 times the loss of fixed"
    assert finding.reasons[0].endswith("level in 0, worse in 1: images under calm (1.25).")
    assert finding.reasons[1] == "The interval reaches above 1.05: a mean harm of more than 5 % is within it."
    assert match.claim is Claim.MEANINGFULLY_WORSE
    assert claim_of(match).startswith(
        "ours against fixed: meaningfully worse may be claimed (better in 0 % of the pairs"
    )


def test_harm_against_one_of_several_is_harm():
    groups = cells({"calm": {"ours": [0.4] * 10, "fixed": [0.8] * 10, "cosine": [0.3] * 10}})
    assert verdict_of(groups, "do_no_harm", "fixed") is Verdict.YES
    assert verdict_of(groups, "do_no_harm", "fixed", "cosine") is Verdict.NO


# -- is it the best? ---------------------------------------------------------------------------------------------------


BEST = {
    "win": ({"ours": [0.2] * 10, "fixed": [0.4] * 10, "cosine": [0.3] * 10}, Verdict.YES),
    "level": ({"ours": [0.2] * 10, "fixed": [0.4] * 10, "cosine": [0.204] * 10}, Verdict.PARTLY),
    "loss": ({"ours": [0.2] * 10, "fixed": [0.4] * 10, "cosine": [0.1] * 10}, Verdict.NO),
}


@pytest.mark.parametrize(("losses", "expected"), BEST.values(), ids=BEST)
def test_best(losses, expected):
    assert verdict_of(cells({"calm": losses}), "best_of", "fixed", "cosine") is expected


def test_the_one_that_was_better_is_named_with_its_number():
    finding, _ = conclude(cells({"calm": BEST["loss"][0]}), asked("best_of", "fixed", "cosine"))
    assert finding.answer == "ours was worse than cosine (2 times its loss)"


# -- is it better in each task? ----------------------------------------------------------------------------------------


EACH = {
    "win": ({"ours": [0.2] * 10}, {"ours": [0.2] * 10}, Verdict.YES),
    "one of two": ({"ours": [0.2] * 10}, {"ours": [0.4] * 10}, Verdict.PARTLY),
    "level in both": ({"ours": [0.39] * 10}, {"ours": [0.41] * 10}, Verdict.NO),
    "much better over all, behind in one": ({"ours": [0.01] * 10}, {"ours": [0.5] * 10}, Verdict.PARTLY),
}


@pytest.mark.parametrize(("calm", "storm", "expected"), EACH.values(), ids=EACH)
def test_each_task(calm, storm, expected):
    both = cells({"calm": {**calm, "fixed": [0.4] * 10}, "storm": {**storm, "fixed": [0.4] * 10}})
    assert verdict_of(both, "each_task", "fixed") is expected


def test_each_task_needs_to_be_better_than_every_other_and_says_where_it_is():
    losses = {"calm": {"ours": [0.2] * 6, "a": [0.4] * 6, "b": [0.1] * 6}}
    losses["storm"] = {"ours": [0.2] * 6, "a": [0.4] * 6, "b": [0.4] * 6}
    finding, matches = conclude(cells(losses), asked("each_task", "a", "b"))
    assert finding.answer == (
        "ours was better than each of a and b, by more than 5 %, in 1 of 2 cells (images under storm), and worse than "
        "one of them in 1 of 2 cells (images under calm)"
    )
    assert finding.reasons[0] == (
        "images under calm: the final validation loss of ours was 0.5 times that of a and 2 times that of b."
    )
    # Four comparisons of single cells, of six pairs each: 4 x 2 / 2^6 = 0.125.
    told = [comparison for match in matches for comparison in match.cells.values()]
    assert [(one.num_pairs, one.num_comparisons, one.p_holm) for one in told] == [(6, 4, 0.125)] * 4
    assert claims_by_cell(matches) == [
        "In 4 of 4 comparisons of single cells no difference may be claimed (lowest p = 0.125 after Holm's correction "
        "over 4).",
        "Of single cells: nothing can be claimed: the smallest two-sided p of 6 pairs is 2/2^6 = 0.0312, and after "
        "Holm's correction over 4 comparisons 0.125.",
    ]


def test_each_task_does_not_hide_a_defeat_behind_the_loss_that_lost_runs_count_as():
    """Both are above 0.9 of the loss before training and so count as that; one of them ended at twice the other."""
    losses = {"calm": {"ours": [3.8] * 6, "a": [1.9] * 6}, "storm": {"ours": [0.2] * 6, "a": [0.4] * 6}}
    finding, matches = conclude(cells(losses), asked("each_task", "a"))
    assert matches[0].ratios[("images", "calm")] == pytest.approx(1.0)
    assert finding.answer.endswith("and worse than it in 1 of 2 cells (images under calm)")
    assert finding.reasons[0] == (
        "images under calm: the final validation loss of ours was 1 times that of a. Not held to the loss that lost "
        "runs began with, it was 2 times that of a."
    )


def test_a_claim_of_a_single_cell_is_told_with_its_numbers():
    losses = {"calm": {"ours": [0.2] * 10, "a": [0.4] * 10}, "storm": {"ours": [0.2] * 10, "a": [0.2] * 10}}
    _, matches = conclude(cells(losses), asked("each_task", "a"))
    said = claims_by_cell(matches)
    assert said[0] == (
        "ours against a in images under calm: meaningfully better may be claimed (better in 100 % of the pairs, "
        "p = 0.00391 after Holm's correction over 2 comparisons)."
    )
    assert said[1].startswith("In 1 of 2 comparisons of single cells no difference may be claimed (lowest p = 1 ")
    assert caution_of(matches) == ""
    # Of rules that are not about cells, nothing is said of them.
    assert claims_by_cell(conclude(cells(losses), asked("best_of", "a"))[1]) == []


# -- several subjects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("second", "expected"), [(0.2, Verdict.YES), (0.4, Verdict.PARTLY), (0.8, Verdict.PARTLY)])
def test_of_several_subjects_one_alone_is_no_yes(second, expected):
    losses = {"calm": {"ours": [0.2] * 10, "second": [second] * 10, "fixed": [0.4] * 10}}
    finding, matches = conclude(cells(losses), asked("best_of", "fixed", also=("second",)))
    assert finding.verdict is expected
    assert finding.answer.startswith("ours was better than fixed, by more than 5 % (yes); second was ")
    assert [(match.subject, match.other, match.comparison.num_comparisons) for match in matches] == [
        ("ours", "fixed", 2),
        ("second", "fixed", 2),
    ]


def test_a_run_that_a_second_subject_misses_is_named():
    runs = [run(name, 0.2) for name in ("ours", "fixed")] + [run("second", 0.2, finished=False)]
    finding, matches = conclude(aggregate(runs), asked("best_of", "fixed", also=("second",)))
    assert (finding.verdict, matches) == (Verdict.OPEN, [])
    assert finding.reasons[0] == "second: 1 of 1 run has not finished."


def test_where_nothing_may_be_claimed_one_sentence_says_it():
    few = conclude(cells({"calm": {"ours": [0.2] * 3, "fixed": [0.4] * 3}}), asked("best_of", "fixed"))[1]
    assert caution_of(few).startswith("Nothing can be claimed: 3 pairs are fewer than 6")
    level = conclude(cells({"calm": {"ours": [0.4] * 12, "fixed": [0.4] * 12}}), asked("best_of", "fixed"))[1]
    assert caution_of(level) == "Of other seeds nothing may be claimed: no comparison passes the rule."
    assert caution_of([]) == ""


def test_the_limits_name_the_seeds_that_ran_and_the_pairs_that_were_the_same():
    def world(regime, num_same):
        return [
            run(name, loss, seed, regime=regime, weights=f"{name} {regime if seed >= num_same else 'calm'} {seed}")
            for name, loss in (("ours", 0.2), ("fixed", 0.4))
            for seed in range(5)
        ]

    (match,) = conclude(aggregate(world("calm", 0) + world("storm", 1)), asked("best_of", "fixed"))[1]
    assert (match.num_same, match.num_run, match.comparison.num_seeds) == (1, 5, 4)
    assert match.limits.startswith(
        "5 seeds, of which a cell keeps 4 because 1 pair was the very same runs as others, are fewer than 10: of 9 "
    )


# -- does it survive? --------------------------------------------------------------------------------------------------


SURVIVAL = {
    "win": ({"ours": [0.9, 1.0], "fixed": [NAN, NAN]}, Verdict.YES),
    "mixed": ({"ours": [0.9, 1.2], "fixed": [1.2, NAN]}, Verdict.PARTLY),
    "loss": ({"ours": [NAN, 0.5], "fixed": [0.5, 0.5]}, Verdict.NO),
    "none recovers": ({"ours": [NAN, NAN], "fixed": [NAN, NAN]}, Verdict.NO),
    "no test": ({"ours": [0.5, 0.5], "fixed": [0.5, 0.5]}, Verdict.YES),
}


@pytest.mark.parametrize(("losses", "expected"), SURVIVAL.values(), ids=SURVIVAL)
def test_survival(losses, expected):
    assert verdict_of(cells({"storm": losses}), "survives", "fixed") is expected


def test_survival_tells_of_lost_runs_of_blown_up_ones_and_of_a_test_that_was_none():
    groups = cells({"storm": SURVIVAL["mixed"][0]}, train_loss=100.0)
    finding, _ = conclude(groups, asked("survives", "fixed"))
    assert finding.answer == "1 of 2 runs of ours ended at or below 50 % of the first loss, and 0 of fixed"
    assert finding.reasons[0].startswith("ours: 1 of 2 runs (9 to 91 %) learnt, 0 of 2 runs (0 to 66 %) lost.")
    assert finding.reasons[1].startswith("fixed: 0 of 2 runs (0 to 66 %) learnt, 1 of 2 runs (9 to 91 %) lost.")
    assert "Training blew up in 2 of 2 runs of ours; 1 of them recovered." in finding.reasons
    easy, _ = conclude(cells({"storm": SURVIVAL["no test"][0]}), asked("survives", "fixed"))
    assert easy.reasons[-1] == "fixed lost no run either, so that these runs are no hard test."


# -- at equal budget? --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spent", "is_equal"), [(100, True), (105, True), (106, False), (95, False), (50, False)])
def test_losses_compare_at_equal_budgets_only(spent, is_equal):
    runs = [run("ours", 0.2, seed) for seed in TEN] + [run("search", 0.4, seed, passes=spent) for seed in TEN]
    finding, _ = conclude(aggregate(runs), asked("equal_budget", "search"))
    assert finding.verdict is (Verdict.YES if is_equal else Verdict.OPEN)
    assert f"search spent {spent} training passes a run in the mean, with 0 restarts." in finding.reasons
    assert is_equal == finding.answer.startswith("at equal budget ours was better than search")


def test_at_equal_budget_a_loss_is_a_loss():
    groups = cells({"calm": {"ours": [0.4] * 10, "search": [0.2] * 10}})
    assert verdict_of(groups, "equal_budget", "search") is Verdict.NO


# -- what is not there, and what can not be claimed --------------------------------------------------------------------


EVERY = pytest.mark.parametrize("conclusion", list(CONCLUSIONS))


@EVERY
def test_nothing_is_concluded_while_a_run_is_missing(conclusion):
    whole = [run(name, 0.2, seed) for name in ("ours", "fixed") for seed in TEN]
    assert verdict_of(aggregate(whole), conclusion, "fixed") is not Verdict.OPEN
    cases = {
        "ours: 1 of 10 runs has not finished.": [*whole[1:], run("ours", 0.2, finished=False)],
        "images under calm: fixed has no run of seed 9.": whole[:-1],
        "images under calm: fixed has no run of seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.": whole[:10],
        "images under calm: a loss is not above 0, or was not finite before training, so that no ratio can be taken.": [
            *whole[1:],
            run("ours", -0.1),
        ],
        "There is no run.": [],
    }
    for reason, runs in cases.items():
        finding, matches = conclude(aggregate(runs), asked(conclusion, "fixed"))
        assert (finding.verdict, matches) == (Verdict.OPEN, [])
        assert reason in finding.reasons
    untraced, _ = conclude(aggregate(whole), asked(conclusion, "fixed"), num_untraced=2)
    assert untraced.verdict is Verdict.OPEN
    assert untraced.reasons == ("2 runs of the suite have left nothing to read.",)


@EVERY
def test_a_loss_of_a_model_that_knows_nothing_must_be_finite(conclusion):
    runs = [run(name, 0.2, initial=math.inf) for name in ("ours", "fixed")]
    assert verdict_of(aggregate(runs), conclusion, "fixed") is Verdict.OPEN


def test_an_unfinished_run_of_somebody_else_does_not_matter():
    runs = [run(name, 0.2) for name in ("ours", "fixed")] + [run("other", 0.2, finished=False)]
    assert verdict_of(aggregate(runs), "do_no_harm", "fixed") is Verdict.YES


def test_two_configurations_under_one_name_are_not_compared_nor_is_a_seed_that_is_there_twice():
    runs = [run(name, 0.2, seed) for name in ("ours", "fixed") for seed in (0, 1)]
    other = replace(runs[-1], spec={**runs[-1].spec, "controller": {"name": "fixed", "warmup": 3}})
    cases = {
        "fixed: runs of this name differ in more than their seed.": [*runs[:-1], other],
        "images under calm: fixed has a seed twice.": [*runs, runs[-1]],
    }
    for reason, some in cases.items():
        finding, _ = conclude(aggregate(some), asked("do_no_harm", "fixed"))
        assert (finding.verdict, finding.reasons) == (Verdict.OPEN, (reason,))


@pytest.mark.parametrize(
    ("num_seeds", "words"),
    [(1, "Nothing can be claimed"), (5, "Nothing can be claimed"), (6, "6 seeds are fewer"), (10, "")],
)
def test_with_too_few_seeds_a_win_is_no_claim(num_seeds, words):
    losses = {"calm": {"ours": [0.2] * num_seeds, "fixed": [0.4] * num_seeds}}
    finding, matches = conclude(cells(losses), asked("best_of", "fixed"))
    assert finding.verdict is Verdict.YES  # of these runs
    assert (matches[0].claim is Claim.NOTHING) == (num_seeds < 6)
    assert " ".join(limits_of(matches)).startswith(words)
    assert bool(limits_of(matches)) == bool(words)


def test_p_values_are_corrected_for_the_number_of_comparisons():
    groups = cells({"calm": {"ours": [0.2] * 6, "fixed": [0.4] * 6, "cosine": [0.4] * 6}})
    _, matches = conclude(groups, asked("best_of", "fixed", "cosine"))
    assert [match.comparison.p_holm for match in matches] == [4 / 2**6, 4 / 2**6]
    assert all(match.claim is Claim.NOTHING for match in matches)
    assert "after Holm's correction over 2 comparisons" in claim_of(matches[0])


LOSSES = st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.01, 3.0)), min_size=1, max_size=8)
OPPOSITE = {Verdict.YES: Verdict.NO, Verdict.NO: Verdict.YES, Verdict.PARTLY: Verdict.PARTLY}


@given(LOSSES)
def test_who_is_asked_about_decides_nothing(pairs):
    groups = cells({"calm": {"a": [one for one, _ in pairs], "b": [other for _, other in pairs]}})
    first, (ours,) = conclude(groups, asked("best_of", "b", subject="a"))
    second, (theirs,) = conclude(groups, asked("best_of", "a", subject="b"))
    assert ours.ratio == pytest.approx(1 / theirs.ratio)
    if not any(math.isclose(ours.ratio, edge, rel_tol=1e-9) for edge in (1.05, 1 / 1.05)):
        assert first.verdict is OPPOSITE[second.verdict]


@given(LOSSES, st.sampled_from(list(CONCLUSIONS)))
def test_names_decide_nothing(pairs, conclusion):
    columns = [one for one, _ in pairs], [other for _, other in pairs]
    verdicts = {
        conclude(cells({"x": {a: columns[0], b: columns[1]}}), asked(conclusion, b, subject=a))[0].verdict
        for a, b in (("autotunenet", "fixed"), ("fixed", "autotunenet"), ("q", "p"))
    }
    assert len(verdicts) == 1


def test_the_page_about_the_rules_has_them_all_and_their_thresholds():
    page = (Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", page.partition("| rule | yes |")[2], re.MULTILINE)
    assert [name for name, _ in rows] == list(CONCLUSIONS)
    assert f"Ratios from 1/{MARGIN:g} to {MARGIN:g} are level" in page
    assert f"at least {FAILURE_FRACTION:g} of that before training" in page
    assert TARGET_SHARE == 0.5
    assert "ends at or below half of that" in page
    assert MIN_PAIRS == 6
    assert "With fewer than six pairs" in page
