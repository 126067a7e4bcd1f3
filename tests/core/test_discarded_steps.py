"""The history says how many optimizer steps were thrown away: exactly those that were."""

import pytest
from doubles import NumberRun, new_tuner
from trials import ALARM, NAN, Hearing, Trial

from autotunenet import Float, SearchSpace
from autotunenet.launch import Launch

KNOB = [9.0] * 3 + [1.0] * 6 + [1.0] * 5
DATA = [9.0] * 3 + [9.0] * 6 + [9.0] * 5
DATA_AND_KNOB = [90.0] * 3 + [1.0] * 11
NOISE = [1.05] * 3 + [1.0] * 6 + [1.0] * 5
HOPELESS = [9.0, 9.0, 9.0, 1.0, 1.0, NAN] + [1.0] * 8
STAYS_BAD = [9.0, 9.0, 9.0, 9.0, 8.0, 8.0, 7.0, 7.0, 7.0] + [9.5] * 12 + [7.0] * 5


@pytest.mark.parametrize(
    "episodes",
    [
        [KNOB],
        [DATA],
        [NOISE],
        [HOPELESS],
        [HOPELESS, HOPELESS],
        [HOPELESS, KNOB],
        [KNOB, KNOB],
        [KNOB, HOPELESS],
        [NOISE, KNOB],
        [DATA, DATA_AND_KNOB],
        [STAYS_BAD],
    ],
)
def test_discarded_steps_add_up_to_the_steps_really_lost(episodes):
    steps, at = [], ALARM
    for episode in episodes:
        steps.append(at)
        at += len(episode)
    trial = Trial(*steps)
    trial.feed(*[1.0] * (ALARM - 3))
    for episode in episodes:
        trial.feed(*episode)
    assert trial.recorded == trial.lost > 0


def launched(losses, num, **kwargs):
    run = NumberRun(0.0)
    space = SearchSpace({"lr": Float(1e-12, 1e12, log=True)})
    tuner, _ = new_tuner(run=run, launch=Launch(), space=space, interval=10, **kwargs)
    for _ in range(num):
        loss = losses(run.hyperparams["lr"])
        run.weight += 1
        tuner.step(loss)
    return tuner, num - run.weight, sum(d.discarded_steps for d in tuner.history)


def test_the_steps_that_a_launch_takes_back_add_up():
    tuner, lost, recorded = launched(lambda lr: 1.0 if lr < 1.0 else NAN, 80)
    assert tuner._launching.launch.is_done
    assert recorded == lost > 0


def test_a_restart_does_not_count_the_calibration():
    _, lost, recorded = launched(lambda lr: 1.0 if lr < 3 else 0.95 if lr < 1000 else 10.0, 100)
    assert recorded == lost > 0


def test_a_launch_tells_the_controller_its_answer_once():
    controller = Hearing()
    tuner, _, _ = launched(lambda lr: 1.0 if lr < 1.0 else NAN, 100, controller=controller)
    assert [dict(*values) for values in controller.called("follow")] == [{"lr": tuner._launching.launch.peak}]
