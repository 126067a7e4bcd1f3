"""Multipliers on a plan: still under noise, moved by evidence, never above what broke the run."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotunenet.controllers import Bayesian, Cruise
from autotunenet.testing import check_controller, same

NAN, INF = math.nan, math.inf


class Loop:
    """The tuner's half: intervals of ten steps at whatever was proposed, under a law for the loss.

    Unless the test says otherwise no noise keeps the controller from trying.
    """

    def __init__(self, law, initial=None, **kwargs):
        self.law = law
        self.controller = Bayesian(**{"prior": Cruise(land=False), "noise_limit": INF, **kwargs})
        self.values = dict(self.controller.start(initial or {"lr": 0.1}))
        self.step, self.seen = 0, []

    def interval(self):
        self.step += 10
        metric = self.law(self.values, self.step)
        self.seen.append((dict(self.values), metric))
        self.controller.observe(metric, self.step)
        proposed = self.controller.propose(self.values)
        if math.isfinite(metric):
            self.values.update(proposed)
        else:  # a rollback: to the plan's lr, cut in half
            self.values["lr"] *= 0.5
            self.controller.follow(self.values)
        return proposed

    def run(self, num):
        for _ in range(num):
            self.interval()
        return self

    @property
    def decades(self):
        """The incumbent."""
        return self.controller._incumbent[0]


def decay(rate, noise=0.0, seed=0):
    """A loss that falls by `rate(values)` an interval, relatively."""
    rng = np.random.default_rng(seed)
    loss = 1.0

    def law(values, step):
        nonlocal loss
        loss *= math.exp(-rate(values))
        return loss * (1 + noise * float(rng.standard_normal()))

    return law


def better_at(best):
    """A pace that peaks at `best` and falls by half at three times or a third of it."""
    return lambda values: 0.1 * math.exp(-0.5 * (math.log10(values["lr"] / best) / 0.4) ** 2)


# -- holding ---------------------------------------------------------------------------------------------------------


def share_of_false_moves(num, noise):
    """The loss knows nothing of lr: an incumbent that moves in 100 intervals is a false move."""
    loops = (Loop(decay(lambda values: 0.01, noise, seed), noise_limit=1.0).run(100) for seed in range(num))
    return sum(loop.decades != 0.0 for loop in loops) / num


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_it_holds_the_plan_under_pure_noise(noise):
    assert share_of_false_moves(80, noise) <= 0.1


def test_the_first_intervals_are_the_plans():
    """Twelve rewards are needed, and the first interval has none."""
    loop = Loop(decay(better_at(0.3), 0.001))
    assert [loop.interval() for _ in range(12)] == [{"lr": 0.1}] * 12
    assert loop.interval() != {"lr": 0.1}


@pytest.mark.parametrize("best", [0.02, 0.4])
def test_the_defaults_try_something_where_noise_is_small(best):
    loop = Loop(decay(better_at(best), 0.001), noise_limit=1.0).run(100)
    assert any(values["lr"] != 0.1 for values, _ in loop.seen)


def test_a_point_is_kept_until_it_has_a_reward():
    """The first interval after a change is left out, so no point is ever left after one interval."""
    loop = Loop(decay(better_at(0.3))).run(60)
    lrs = [values["lr"] for values, _ in loop.seen]
    changes = [i for i in range(1, len(lrs)) if lrs[i] != lrs[i - 1]]
    assert len(changes) > 5
    assert min(np.diff(changes)) >= 2


def test_while_the_plan_lands_nothing_is_tried():
    plan = Cruise(total_steps=1000, hold=0.5)
    loop = Loop(decay(better_at(0.3)), prior=plan).run(100)
    landing = [values["lr"] for values, _ in loop.seen[52:]]
    expected = [0.1 * 10**loop.decades * max(0.0, (1000 - 10 * i) / 500) for i in range(52, 100)]
    assert landing == pytest.approx(expected, abs=1e-12)


# -- moving ----------------------------------------------------------------------------------------------------------


def test_it_moves_to_a_clearly_better_lr_above():
    moved = [Loop(decay(better_at(0.3)), seed=seed).run(80).decades for seed in range(3)]
    assert min(moved) >= 0.25
    assert max(moved) <= 0.6


def test_it_moves_to_a_clearly_better_lr_below():
    assert -0.6 <= Loop(decay(better_at(0.03))).run(80).decades <= -0.15  # a cut needs more confidence than a raise


def test_it_stays_near_a_plan_that_is_best():
    assert abs(Loop(decay(better_at(0.1))).run(80).decades) <= 0.15


def test_it_gains_by_it():
    plain = decay(better_at(0.3))
    for i in range(80):
        loss = plain({"lr": 0.1}, i)
    assert Loop(decay(better_at(0.3))).run(80).seen[-1][1] < loss**1.15


@given(seed=st.integers(0, 1000), best=st.sampled_from([1e-3, 0.03, 0.1, 0.3, 10.0]))
def test_it_never_leaves_its_reach(seed, best):
    loop = Loop(decay(better_at(best), 0.001, seed), seed=seed).run(60)
    decades = [math.log10(values["lr"] / 0.1) for values, _ in loop.seen]
    assert max(map(abs, decades)) <= 0.6 + 1e-9


def test_the_reason_says_the_move():
    loop = Loop(decay(better_at(0.3)))
    reasons = []
    for _ in range(80):
        loop.interval()
        reasons.append(loop.controller.reason)
    said = [reason for reason in reasons if reason]
    assert said
    assert all(reason.startswith("Better than the plan with probability 0.9") or "1.00" in reason for reason in said)
    assert "lr x " in said[-1]


# -- breaking --------------------------------------------------------------------------------------------------------


def breaks_above(limit, best, seed=0):
    law = decay(better_at(best), seed=seed)
    return lambda values, step: law(values, step) if values["lr"] <= limit else INF


def test_a_value_that_broke_the_run_is_not_reached_again():
    """In units of lr, not of a plan that every rollback scales."""
    for limit in (0.11, 0.13, 0.2):
        loop = Loop(breaks_above(limit, best=0.4)).run(200)
        broken = [values["lr"] for values, metric in loop.seen if metric == INF]
        assert broken
        first = next(i for i, (_, metric) in enumerate(loop.seen) if metric == INF)
        assert max(values["lr"] for values, _ in loop.seen[first + 1 :]) < broken[0]


@pytest.mark.parametrize("names", [("lr",), ("lr", "momentum")])
def test_candidates_stay_a_step_below_what_broke_the_run(names):
    controller = Bayesian(names, step_size=0.15)
    controller._limit = 0.1
    assert max(point[0] for point in controller._candidates()) <= 0.1 - 0.15 + 1e-12


def test_after_a_break_the_incumbent_is_not_above_the_plan():
    loop = Loop(decay(better_at(0.3))).run(80)
    assert loop.decades > 0
    loop.controller.observe(INF, loop.step + 1)
    assert loop.decades <= 0


def test_a_break_of_the_plan_itself_sets_no_limit():
    loop = Loop(lambda values, step: INF if step == 30 else 1.0).run(10)
    assert loop.controller._limit == INF


# -- follow and forget -----------------------------------------------------------------------------------------------


@given(st.floats(1e-6, 10.0), st.integers(0, 60))
def test_follow_meets_the_lr_in_force(lr, num):
    loop = Loop(decay(better_at(0.3))).run(num)
    loop.controller.follow({"lr": lr})
    assert loop.controller.propose({"lr": lr}) == {"lr": pytest.approx(lr)}


def test_after_a_rollback_the_interval_is_not_credited():
    loop = Loop(decay(better_at(0.3))).run(20)
    num = len(loop.controller._gp)
    loop.controller.follow(loop.values)
    loop.interval()
    assert len(loop.controller._gp) == num


def test_forget_drops_all_evidence():
    loop = Loop(decay(better_at(0.3))).run(80)
    loop.controller._limit = 0.3
    loop.controller.forget(loop.step)
    assert len(loop.controller._gp) == 0
    assert loop.decades == 0.0
    assert loop.controller._limit == INF
    assert loop.controller.prior._anchor == loop.step


def test_after_forget_it_goes_back_to_the_plan():
    loop = Loop(decay(better_at(0.3))).run(80)
    loop.controller.forget(loop.step)
    loop.law, loop.controller.noise_limit = decay(lambda values: 0.01, 0.3), 1.0  # nothing to be learned any more
    loop.run(30)
    assert loop.values["lr"] == pytest.approx(0.1)


def test_while_the_plan_warms_up_nothing_is_credited():
    loop = Loop(decay(better_at(0.3)), prior=Cruise(land=False)).run(80)
    loop.controller.forget(loop.step)
    assert loop.controller.rewarm(loop.values) == {"lr": pytest.approx(0.05)}
    while loop.controller.prior.is_warming_up:
        loop.interval()
        assert len(loop.controller._gp) <= (not loop.controller.prior.is_warming_up)
    loop.run(20)
    assert len(loop.controller._gp) >= 18


# -- other hyperparameters -------------------------------------------------------------------------------------------


def test_momentum_is_scaled_by_its_distance_from_one():
    names, initial = ("momentum", "lr", "weight_decay"), {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    loop = Loop(decay(lambda values: 0.1 * values["lr"]), initial, names=names)
    loop.controller._point = [0.3, 0.2, -0.1]  # lr comes first
    loop.controller._num_since_change = -10
    proposed = loop.controller.propose(initial)
    assert proposed == pytest.approx(
        {"lr": 0.1 * 10**0.3, "momentum": 1 - 0.1 / 10**0.2, "weight_decay": 0.01 * 10**-0.1}
    )


@given(st.integers(0, 100))
def test_momentum_stays_a_momentum(seed):
    initial = {"lr": 0.1, "momentum": 0.2, "weight_decay": 0.0}
    loop = Loop(decay(lambda values: 0.1 * values["momentum"], 0.001, seed), initial, names=tuple(initial), seed=seed)
    loop.run(40)
    assert all(0 <= values["momentum"] < 1 and values["weight_decay"] == 0.0 for values, _ in loop.seen)


# -- resume and arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("lr",), ("lr", "momentum")])
def test_resume_is_exact(names):
    initial = {"lr": 0.1, "momentum": 0.9}

    def metric(values, i):
        return INF if i == 33 else math.exp(-0.02 * i * (1 + math.log10(values["lr"] * 20)))

    def play(controller, current, steps):
        for i in steps:
            controller.observe(metric(current, i), 10 * i)
            current = {**current, **controller.propose(current)}
            if i == 33:
                controller.follow(current)
            if i == 41:
                controller.forget(10 * i)
                controller.rewarm(current)
        return current

    straight = Bayesian(names)
    current = dict(straight.start(initial))
    states = []
    for i in range(60):
        states.append((straight.state_dict(), dict(current)))
        current = play(straight, current, [i])
    for cut, (state, values) in enumerate(states):
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        resumed = Bayesian(names)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        assert play(resumed, values, range(cut, 60)) == current, cut
        assert same(resumed.state_dict(), straight.state_dict()), cut


def test_the_same_seed_gives_the_same_proposals_and_another_one_others():
    def lrs(seed):
        loop = Loop(decay(better_at(0.3)), {"lr": 0.1, "momentum": 0.9}, names=("lr", "momentum"), seed=seed).run(40)
        return [values for values, _ in loop.seen]

    assert lrs(0) == lrs(0)
    assert lrs(0) != lrs(1)


def test_a_state_that_is_none_is_refused_and_nothing_is_loaded():
    loop = Loop(decay(better_at(0.3))).run(20)
    before = loop.controller.state_dict()
    for broken in ({}, {k: v for k, v in before.items() if k != "gp"}, {**before, "more": 1}):
        with pytest.raises(ValueError, match="no state of Bayesian"):
            loop.controller.load_state_dict(broken)
        assert same(loop.controller.state_dict(), before)


def test_huge_and_odd_metrics_are_no_error():
    odd = [1e200, -1e200, 1e308, -1e308, 0.0, 1e-300, NAN, INF, -INF, 1.0]
    loop = Loop(lambda values, step: odd[step // 10 % len(odd)], prior=Cruise(total_steps=10**6)).run(80)
    assert all(math.isfinite(values["lr"]) and values["lr"] > 0 for values, _ in loop.seen)


@pytest.mark.parametrize("kwargs", [{}, {"names": ("lr", "momentum", "weight_decay")}])
def test_it_keeps_the_contract(kwargs):
    check_controller(lambda: Bayesian(**kwargs))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"names": ("momentum",)}, "lr must be among the names"),
        ({"step_size": 0.0}, "0 < step_size <= reach must hold"),
        ({"step_size": 0.7}, "0 < step_size <= reach must hold"),
        ({"step_size": NAN}, "0 < step_size <= reach must hold"),
        ({"confidence": 0.5}, r"confidences must lie in \(0.5, 1\)"),
        ({"cut_confidence": 1.0}, r"confidences must lie in \(0.5, 1\)"),
        ({"noise_limit": 0.0}, "noise_limit must be above 0"),
        ({"noise_limit": NAN}, "noise_limit must be above 0"),
    ],
)
def test_arguments_are_checked(kwargs, words):
    with pytest.raises(ValueError, match=f"Bayesian: .*{words}"):
        Bayesian(**kwargs)
