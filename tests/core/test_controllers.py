"""How to change: the rules of the members, by hand-worked sequences. Schedules and Plateau: see tests/golden."""

import math

import numpy as np
import pytest

from autotunenet.controllers import SCHEDULES, Heuristic, Plateau, RandomWalk, Schedule

NAN, INF = math.nan, math.inf


def factors(controller, metrics, initial=1.0):
    """Return the factors on lr, one a metric, where every proposal is put in force."""
    lr = controller.start({"lr": initial})["lr"]
    found = []
    for step, metric in enumerate(metrics, start=1):
        controller.observe(metric, step)
        wanted = controller.propose({"lr": lr})["lr"]
        found.append(wanted / lr)
        lr = wanted
    return found


RULES = {"raise_factor": 2.0, "cut_factor": 0.5, "max_ratio": 1e6, "min_ratio": 1e-6, "rtol": 0.01}


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        # Falls: from the second in a row on, each one raises.
        ([10, 9, 8, 7], [1, 1, 2, 2]),
        # A rise cuts at once, and the counting starts anew.
        ([10, 9, 8, 9, 8, 7], [1, 1, 2, 0.5, 1, 2]),
        # Stalls: two in a row cut; then the count starts anew.
        ([10, 10, 10, 10, 10], [1, 1, 0.5, 1, 0.5]),
        # Within rtol in either direction is a stall.
        ([10, 9.95, 10.04], [1, 1, 0.5]),
        ([10, 10.05, 9.96], [1, 1, 0.5]),
        # A fall ends the stalls.
        ([10, 10, 9, 9, 9], [1, 1, 1, 1, 0.5]),
        # Not finite: cut at once; the next metric has nothing to be compared with.
        ([10, NAN, 5, 4, 3], [1, 0.5, 1, 1, 2]),
        ([10, NAN, 5, 5, 5], [1, 0.5, 1, 1, 0.5]),
        ([NAN, INF, -INF], [0.5, 0.5, 0.5]),
        # Negative metrics, as mode "max" gives: a share of the magnitude, and lower is still better.
        ([-0.5, -0.6, -0.7], [1, 1, 2]),
        ([-0.7, -0.6], [1, 0.5]),
        ([0.0, 0.0, 0.0], [1, 1, 0.5]),
    ],
)
def test_heuristic(metrics, expected):
    assert factors(Heuristic(**RULES), metrics) == expected


def test_heuristic_patience():
    patient = Heuristic(**RULES, raise_patience=3, rise_patience=2, stall_patience=4)
    assert factors(patient, [10, 9, 8, 7, 6]) == [1, 1, 1, 2, 2]
    patient = Heuristic(**RULES, rise_patience=2, stall_patience=4)
    assert factors(patient, [5, 6, 7, 8, 8, 8, 8]) == [1, 1, 0.5, 1, 1, 1, 0.5]


def test_heuristic_stays_within_its_ratios_of_the_users_lr():
    up = Heuristic(raise_factor=3.0, raise_patience=1, max_ratio=10.0)
    assert np.prod(factors(up, [0.9**t for t in range(20)])) == pytest.approx(10.0)
    down = Heuristic(cut_factor=0.3, min_ratio=0.01)
    assert np.prod(factors(down, [NAN] * 20)) == pytest.approx(0.01)


def test_heuristic_does_not_pull_what_a_rollback_put_beyond_its_bounds():
    controller = Heuristic(raise_factor=2.0, raise_patience=1, min_ratio=0.1, max_ratio=2.0)
    controller.start({"lr": 1.0})
    controller.observe(NAN, 1)
    assert controller.propose({"lr": 0.001}) == {"lr": 0.001}
    controller.observe(1.0, 2)
    controller.observe(0.5, 3)
    assert controller.propose({"lr": 5.0}) == {"lr": 5.0}
    assert controller.propose({"lr": 0.001}) == {"lr": 0.002}


@pytest.mark.parametrize(
    "argument",
    [
        {"raise_factor": 0.9},
        {"raise_factor": INF},
        {"cut_factor": 1.0},
        {"cut_factor": 0.0},
        {"raise_patience": 0},
        {"rise_patience": 0},
        {"stall_patience": 0},
        {"rtol": -0.1},
        {"rtol": NAN},
        {"min_ratio": 0.0},
        {"min_ratio": 2.0},
        {"max_ratio": 0.5},
    ],
)
def test_heuristic_refuses(argument):
    with pytest.raises(ValueError, match=f"Heuristic: {next(iter(argument))} must be"):
        Heuristic(**argument)


def test_random_walk_is_log_uniform_seeded_and_blind():
    steps = np.log(factors(RandomWalk(max_step=1.0, seed=3), [1.0] * 4000))
    assert np.abs(steps).max() <= math.log(2.0) * (1 + 1e-9)
    assert abs(steps.mean()) < 0.02
    assert steps.std() == pytest.approx(2 * math.log(2.0) / math.sqrt(12), rel=0.03)
    assert factors(RandomWalk(seed=5), [1.0] * 9) == factors(RandomWalk(seed=5), [NAN] * 9)
    assert factors(RandomWalk(seed=5), [1.0] * 9) != factors(RandomWalk(seed=6), [1.0] * 9)


def test_random_walk_moves_every_value_and_leaves_zero():
    proposed = RandomWalk().propose({"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0})
    assert proposed["weight_decay"] == 0.0
    assert proposed["lr"] / 0.1 != proposed["momentum"] / 0.9


@pytest.mark.parametrize("max_step", [0.0, -1.0, NAN, INF])
def test_random_walk_refuses(max_step):
    with pytest.raises(ValueError, match="max_step must be a finite number above 0"):
        RandomWalk(max_step=max_step)


@pytest.mark.parametrize(
    "argument",
    [
        {"factor": 0.0},
        {"factor": 1.0},
        {"threshold_mode": "relative"},
        {"patience": -1},
        {"threshold": NAN},
        {"cooldown": -1},
        {"min_lr": -0.1},
    ],
)
def test_plateau_refuses(argument):
    with pytest.raises(ValueError, match=f"Plateau: {next(iter(argument))} must"):
        Plateau(**argument)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("step_decay", {"period": 0}),
        ("step_decay", {"period": 2, "gamma": 0.0}),
        ("exponential_decay", {"gamma": -0.5}),
        ("exponential_decay", {"gamma": 0.5, "decay_units": 0}),
        ("cosine", {"total": 0}),
        ("cosine", {"total": NAN}),
        ("one_cycle", {"total": 1}),
        ("one_cycle", {"total": 10, "warmup": 0.0}),
        ("one_cycle", {"total": 10, "warmup": 1.0}),
        ("one_cycle", {"total": 10, "start": 0.0}),
        ("warmup_stable_decay", {"total": 0}),
        ("warmup_stable_decay", {"total": 10, "warmup": 0.6, "decay": 0.6}),
        ("warmup_stable_decay", {"total": 10, "warmup": -0.1}),
    ],
)
def test_schedules_refuse(name, arguments):
    with pytest.raises(ValueError, match="got"):
        SCHEDULES[name](**arguments)


def test_schedule_refuses_units_without_steps():
    with pytest.raises(ValueError, match="steps_per_unit"):
        Schedule(steps_per_unit=0)


def test_schedule_follows_a_rollback_with_the_same_shape():
    controller = Schedule(SCHEDULES["cosine"](total=10))
    controller.start({"lr": 1.0})
    controller.observe(INF, 5)
    controller.follow({"lr": 0.125})  # the plan said 0.5
    controller.observe(1.0, 8)
    quarter = SCHEDULES["cosine"](total=10)(8) / 4
    assert controller.propose({"lr": 0.125})["lr"] == pytest.approx(quarter)
    controller.observe(INF, 10)
    controller.follow({"lr": 0.1})  # nothing can be scaled to meet it where the shape is at zero
    assert controller.propose({"lr": 0.1}) == {"lr": 0.0}
