"""Values that a rollback put in force: plan times multiplier is always what they are."""

import math

import numpy as np
import pytest
from doubles import UNSTABLE, NumberRun, Verdicts
from hypothesis import given
from hypothesis import strategies as st

from autotunenet import Action, Float, SearchSpace, Tuner
from autotunenet.controllers import Bayesian, Cruise
from autotunenet.guards import within

NAN, INF = math.nan, math.inf
ALL = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
COORDINATES = st.tuples(*[st.floats(-0.6, 0.6)] * 3).map(list)


def on_trial(point, incumbent=(0.0, 0.0, 0.0), initial=ALL):
    """A controller with a trial in force, and the values of it."""
    controller = Bayesian(tuple(ALL), prior=Cruise(land=False))
    controller.start(initial)
    controller.observe(1.0, 10)
    controller._point, controller._incumbent = list(point), list(incumbent)
    return controller, controller.propose(initial)


def back_to_the_incumbent(controller, current):
    """What is in force as soon as nothing is tried any more."""
    controller._next_point = lambda: controller._incumbent
    return controller.propose(current)


def roll_back(controller, values, in_force, step=20):
    """As the tuner does it."""
    controller.observe(INF, step)
    controller.propose(in_force)
    controller.follow(values)


@pytest.mark.parametrize("trial", [0.15, -0.15])
def test_after_a_rollback_the_plan_and_not_the_trial_is_in_force(trial):
    """The good state's lr, halved, is the plan's: it is not to be divided by a multiplier that has been taken back."""
    controller, values = on_trial([trial, 0.0, 0.0])
    restored = {**ALL, "lr": 0.05}
    roll_back(controller, restored, values)
    assert controller.prior.planned_lr == pytest.approx(0.05)
    assert back_to_the_incumbent(controller, restored) == pytest.approx(restored)


def test_a_trial_that_broke_does_not_go_on_though_it_has_a_reward():
    controller, values = on_trial([0.15, 0.1, 0.1])
    controller._num_since_change = 5
    roll_back(controller, ALL, values)
    assert controller.propose(ALL) == pytest.approx(ALL)
    assert controller._point == [0.0, 0.0, 0.0]


def test_an_interval_without_a_number_ends_the_trial_where_nothing_is_rolled_back():
    controller, values = on_trial([0.15, 0.1, 0.1])
    controller._num_since_change = 5
    controller.observe(NAN, 20)
    assert controller.propose(values) == pytest.approx(ALL)
    assert controller._limit == 0.15


def test_where_the_values_stay_after_a_break_they_are_the_plans():
    """The tuner stays, with the values of the trial: there is no other plan any more."""
    controller, values = on_trial([0.15, 0.0, 0.0])
    roll_back(controller, values, values)
    assert controller._point[0] == 0.0
    assert controller.prior.planned_lr == pytest.approx(values["lr"])


IN_FORCE = st.fixed_dictionaries(
    {"lr": st.floats(1e-6, 10), "momentum": st.floats(0, 0.999), "weight_decay": st.floats(0, 1)}
)


@given(COORDINATES, COORDINATES, IN_FORCE, st.booleans())
def test_after_follow_plan_times_multipliers_is_what_is_in_force(point, incumbent, in_force, breaks):
    controller, values = on_trial(point, incumbent)
    if breaks:
        roll_back(controller, in_force, values)
    else:
        controller.follow(in_force)
    assert controller.propose(in_force) == pytest.approx(in_force)
    assert controller.prior.planned_lr * 10 ** controller._point[0] == pytest.approx(in_force["lr"])
    assert back_to_the_incumbent(controller, in_force)["lr"] == pytest.approx(in_force["lr"])


def test_others_than_lr_keep_the_users_value_as_their_unit():
    """A good state from an earlier trial is restored: that trial's multipliers are in force, and not a new plan."""
    controller, values = on_trial([0.1, 0.3, -0.2])
    earlier = {"lr": 0.1, "momentum": 1 - 0.1 / 10**0.2, "weight_decay": 0.01 * 10**0.1}
    roll_back(controller, earlier, values)
    assert controller._point == pytest.approx([0.0, 0.2, 0.1])
    assert back_to_the_incumbent(controller, earlier) == pytest.approx(ALL)


@pytest.mark.parametrize(("name", "value"), [("weight_decay", 0.5), ("momentum", 1.0)])
def test_a_value_that_is_no_multiple_of_the_users_is_a_new_unit(name, value):
    initial = {**ALL, "weight_decay": 0.0}
    controller, values = on_trial([0.1, 0.1, 0.1], initial=initial)
    controller.follow({**values, name: value})
    assert controller.propose(values)[name] == value
    assert back_to_the_incumbent(controller, values)[name] == value


def test_a_return_to_the_suspect_state_goes_on_with_its_trial():
    """Same values, to the precision of a float32 tensor: nothing was taken back."""
    controller, values = on_trial([0.15, 0.1, -0.1])
    before = list(controller._point)
    controller.follow({name: float(np.float32(value)) for name, value in values.items()})
    assert controller._point == before
    assert controller.prior.planned_lr == pytest.approx(0.1)


@pytest.mark.parametrize("lr", [0.05, 0.1, 0.12])
def test_what_broke_the_run_is_not_above_the_limit_of_a_plan_that_was_scaled(lr):
    controller, values = on_trial([0.15, 0.0, 0.0])
    roll_back(controller, {**ALL, "lr": lr}, values)
    highest = max(point[0] for point in controller._candidates())
    assert lr * 10**highest <= values["lr"] / 10**0.15 * (1 + 1e-9)


def test_under_a_tuner_the_plan_survives_the_rollbacks():
    """Trials break the run; every rollback restores 0.1, as no good state is younger, and cuts it."""
    run = NumberRun(lr=0.1, weight_decay=0.01)
    controller = Bayesian(("lr", "weight_decay"), prior=Cruise(land=False), noise_limit=INF)
    tuner = Tuner(
        run,
        SearchSpace({name: Float(1e-9, 1e3, log=True) for name in run.hyperparams}),
        controller=controller,
        monitor=Verdicts(dict.fromkeys((300, 301, 455, 700), UNSTABLE)),
        guard=within(SearchSpace({"lr": Float(1e-9, 1e3, log=True)})),
        interval=10,
    )
    loss = 1.0
    actions = []
    for _ in range(1000):
        loss *= math.exp(-0.001 * (1 + run.hyperparams["lr"]))
        decision = tuner.step(loss)
        if decision is None:
            continue
        actions.append(decision.action)
        lr = controller.prior.planned_lr * 10 ** controller._point[0]
        assert run.hyperparams["lr"] == pytest.approx(lr)
        assert run.hyperparams["weight_decay"] == pytest.approx(0.01 * 10 ** controller._point[1])
        if decision.action is Action.ROLLBACK:
            assert controller._point[0] == controller._incumbent[0] <= 0
    assert actions.count(Action.ROLLBACK) == 4
    assert actions.count(Action.ADAPT) > 20
