"""What several processes decide on: here each is a thread, with a run made of one number."""

import math
import threading

import pytest
from doubles import UNSTABLE, NumberRun, Scripted, actions, new_tuner
from trials import ALARM, Harm, Inspected, alarms

from autotunenet import Action, Float, SearchSpace
from autotunenet.attribution import Attribution
from autotunenet.types import Cause, SharedRun

NAN = math.nan


class Meeting:
    """Brings together what the threads exchange."""

    def __init__(self, num):
        self.rows = [None] * num
        self.barrier = threading.Barrier(num, timeout=20)

    def exchange(self, place, values):
        self.rows[place] = list(values)
        self.barrier.wait()
        rows = list(self.rows)
        self.barrier.wait()
        return rows


class Shared:
    """The half of a run that knows the others; ranks are counted from 4."""

    meeting, place, num_exchanges = None, 0, 0

    @property
    def ranks(self):
        return tuple(range(4, 4 + len(self.meeting.rows)))

    def exchange(self, values):
        self.num_exchanges += 1
        return self.meeting.exchange(self.place, values)


class SharedNumber(Shared, NumberRun):
    pass


class SharedInspected(Shared, Inspected):
    pass


class SharedHarm(Shared, Harm):
    pass


def ranks(num=2, kind=SharedNumber, controllers=(), **kwargs):
    """Return as many tuners over runs that belong together; and the runs."""
    meeting = Meeting(num)
    runs = [kind(1.0) for _ in range(num)]
    for place, run in enumerate(runs):
        run.meeting, run.place = meeting, place
    controllers = controllers or [Scripted() for _ in runs]
    tuners = [
        new_tuner(run=run, controller=controller, **kwargs)[0]
        for run, controller in zip(runs, controllers, strict=True)
    ]
    return tuners, runs


def at_once(*calls):
    """Run each call in a thread of its own; return what each gave, or the error that it raised."""
    results = [None] * len(calls)

    def carry_out(i):
        try:
            results[i] = calls[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=carry_out, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def step(tuners, *losses):
    """Let every rank take one step with its loss; None: it only follows."""
    return at_once(
        *(
            (lambda tuner=tuner, loss=loss: tuner.follow() if loss is None else tuner.step(loss))
            for tuner, loss in zip(tuners, losses, strict=True)
        )
    )


def test_the_mean_of_the_losses_is_judged():
    tuners, runs = ranks(interval=2)
    assert isinstance(runs[0], SharedRun)
    assert step(tuners, 1.0, 3.0) == [None, None]
    decisions = step(tuners, 2.0, 6.0)
    assert decisions[0] == decisions[1] == tuners[0].history[0]
    assert decisions[0].observation.metric == 3.0


class Stepping(SharedNumber):
    """Says of its steps what it is told."""

    answer = True

    def took_step(self):
        return self.answer


def test_ranks_wait_together_for_an_optimizer_step():
    """One that follows has no optimizer step of its own, and one on which none can be seen counts every call."""
    tuners, runs = ranks(3, kind=Stepping, accumulation=True)

    def after(*answers, losses=(1.0, 1.0, 1.0)):
        for run, answer in zip(runs, answers, strict=True):
            run.answer = answer
        assert step(tuners, *losses) == [None] * 3
        num_steps = {tuner._num_steps for tuner in tuners}
        assert len(num_steps) == 1
        return num_steps.pop()

    assert after(True, True, True) == 1
    assert after(False, False, False) == 1
    assert after(True, False, True) == 2
    assert after(False, False, True, losses=(1.0, 1.0, None)) == 2
    assert after(True, True, False, losses=(1.0, 1.0, None)) == 3
    assert after(False, None, False) == 4


@pytest.mark.parametrize("loss", [NAN, math.inf, -math.inf])
def test_a_loss_that_is_no_number_on_one_rank_is_none_on_all(loss):
    tuners, runs = ranks(3, monitor=None, snapshot_every=1, proof_steps=1)
    for _ in range(4):
        step(tuners, 1.0, 1.0, 1.0)
    for run in runs:
        run.weight = 7.0
    decisions = step(tuners, 1.0, loss, 1.0)
    assert [decision.action for decision in decisions] == [Action.ROLLBACK] * 3
    assert [run.weight for run in runs] == [1.0] * 3


def test_weights_that_are_broken_on_one_rank_are_broken():
    """While all weights are finite a loss that is no number is passed over."""
    for broken, num in ((False, 0), (True, 1)):
        tuners, runs = ranks(kind=SharedInspected, monitor=None, attribution=Attribution())
        for _ in range(20):
            step(tuners, 1.0, 1.0)
        runs[1].weight = NAN if broken else 1.0
        step(tuners, NAN, NAN)
        assert [len(tuner.history) for tuner in tuners] == [num, num]


# -- a metric --------------------------------------------------------------------------------------------------------


def test_a_metric_of_one_rank_reaches_all_with_the_next_step():
    controllers = [Scripted({"lr": 0.2}), Scripted({"lr": 0.2})]
    tuners, runs = ranks(controllers=controllers, guard=lambda current, proposed, step: proposed)
    step(tuners, 1.0, 1.0)
    assert tuners[0].observe(0.5) is None
    assert [controller.called("observe") for controller in controllers] == [[], []]
    decisions = step(tuners, 1.0, 1.0)
    assert [decision.observation.metric for decision in decisions] == [0.5, 0.5]
    assert [decision.observation.step for decision in decisions] == [1, 1]  # it is older than the step
    assert [run.hyperparams["lr"] for run in runs] == [0.2, 0.2]
    assert step(tuners, 1.0, 1.0) == [None, None]  # and is heard once


def test_metrics_of_several_ranks_are_averaged_and_of_one_rank_the_last_counts():
    tuners, _ = ranks(3)
    tuners[0].observe(7.0)
    tuners[0].observe(1.0)
    tuners[2].observe(2.0)
    assert step(tuners, 1.0, 1.0, 1.0)[1].observation.metric == 1.5


def test_a_metric_that_waits_is_shown_saved_and_reported_at_the_end():
    class Sink:
        def __init__(self):
            self.logged = []

        def log(self, values, step):
            self.logged.append((dict(values), step))

        def event(self, decision):
            pass

        def close(self):
            pass

    sink = Sink()
    tuners, _ = ranks(interval=5, sinks=[sink])
    step(tuners, 1.0, 1.0)
    tuners[0].observe(0.25)
    assert tuners[0].metrics()["autotunenet/validation"] == 0.25
    assert "autotunenet/validation" not in tuners[1].metrics()
    alone, _ = new_tuner(interval=5)
    alone.load_state_dict(tuners[0].state_dict())
    alone.step(1.0)
    assert alone.metrics()["autotunenet/validation"] == 0.25
    assert sink.logged == []
    tuners[0].close()
    assert sink.logged == [({"autotunenet/validation": 0.25}, 1)]


# -- what controllers and twins add ----------------------------------------------------------------------------------


def test_what_the_first_rank_proposes_is_put_in_force_on_all():
    """Their controllers may differ in the last bit; here by more, for all to see."""
    controllers = [Scripted({"lr": lr}) for lr in (0.12, 0.13)]
    tuners, runs = ranks(controllers=controllers, interval=1)
    decisions = step(tuners, 1.0, 1.0)
    assert decisions[0] == decisions[1]
    assert [run.hyperparams["lr"] for run in runs] == [0.12, 0.12]


def test_many_values_are_agreed_on():
    names = [f"value_{i}" for i in range(10)]

    class Many(SharedNumber):
        def __init__(self, weight):
            super().__init__(weight, **dict.fromkeys(names, 0.5))

    wishes = [{name: first + i / 100 for i, name in enumerate(names)} for first in (0.5, 0.6)]
    space = SearchSpace({name: Float(0.0, 1.0) for name in names})
    controllers = [Scripted(wish) for wish in wishes]
    tuners, runs = ranks(kind=Many, controllers=controllers, interval=1, space=space)
    step(tuners, 1.0, 1.0)
    assert [run.hyperparams for run in runs] == [wishes[0]] * 2


def turned_up(batches):
    """Train two ranks to an alarm after their lr was turned up, each with a loss of its own on its batches."""
    replayed = [[], []]
    meeting, runs, tuners = Meeting(2), [SharedHarm(0.0), SharedHarm(0.0)], []
    for place, run in enumerate(runs):
        run.meeting, run.place = meeting, place

        def again(batch, run=run, place=place):
            replayed[place].append(batch)
            return run.train(batch)

        tuners.append(new_tuner(run=run, verdicts=alarms(ALARM), attribution=Attribution(), replay=again)[0])
    for num in range(1, ALARM + 1):
        for run in runs:
            run.hyperparams["lr"] = 0.8 if num > ALARM - 4 else 0.1
        given = [batches[0](num), batches[1](num)]
        calls = [
            lambda tuner=tuner, run=run, batch=batch: tuner.step(run.train(batch or 0.0), batch)
            for tuner, run, batch in zip(tuners, runs, given, strict=True)
        ]
        decisions = at_once(*calls)
    return decisions, replayed, runs


def test_losses_that_are_replayed_are_averaged():
    decisions, replayed, runs = turned_up([lambda num: 0.25, lambda num: 0.75])
    assert decisions[0] == decisions[1]
    assert (decisions[0].action, decisions[0].cause) == (Action.ROLLBACK, Cause.KNOB)
    assert decisions[0].evidence["twin_loss"] == 1.5
    assert [set(batches) for batches in replayed] == [{0.25}, {0.75}]  # each rank its own
    assert [run.weight for run in runs] == [ALARM, ALARM]


def test_where_one_rank_has_a_batch_less_nobody_replays():
    decisions, replayed, _ = turned_up([lambda num: 0.25, lambda num: None if num == ALARM - 6 else 0.75])
    assert decisions[0] == decisions[1]
    assert decisions[0].action is Action.PROBE  # judged in line
    assert replayed == [[], []]


# -- ranks that do not belong together -------------------------------------------------------------------------------


def test_ranks_that_have_come_apart_are_all_told():
    tuners, runs = ranks()
    step(tuners, 1.0, 1.0)
    runs[1].hyperparams["lr"] = 0.2
    errors = step(tuners, 1.0, 1.0)
    assert [type(error) for error in errors] == [RuntimeError] * 2
    assert "rank 4 is at step 1 with lr 0.1, rank 5 is at step 1 with lr 0.2" in str(errors[0])
    assert str(errors[0]) == str(errors[1])


def test_a_difference_of_rounding_is_none():
    tuners, runs = ranks()
    runs[1].hyperparams["lr"] = math.nextafter(0.1, 1.0)
    assert step(tuners, 1.0, 1.0) == [None, None]


def test_a_rank_that_has_taken_a_step_more_is_found_out():
    tuners, _ = ranks()
    step(tuners, 1.0, 1.0)
    tuners[1].load_state_dict(new_tuner(run=NumberRun(1.0))[0].state_dict())
    errors = step(tuners, 1.0, 1.0)
    assert "rank 4 is at step 1 with lr 0.1, rank 5 is at step 0 with lr 0.1" in str(errors[0])


def test_ranks_that_do_different_things_are_found_out():
    """One is at the end of its interval already, and asks for a proposal while the other takes a step."""
    meeting, runs = Meeting(2), [SharedNumber(1.0), SharedNumber(1.0)]
    for place, run in enumerate(runs):
        run.meeting, run.place = meeting, place
    tuners = [new_tuner(run=run, interval=interval)[0] for run, interval in zip(runs, (1, 2), strict=True)]

    def two_steps(tuner):
        return lambda: [tuner.step(1.0), tuner.step(1.0)]

    errors = at_once(*map(two_steps, tuners))
    assert "rank 4 asks its controller, rank 5 calls tuner.step" in str(errors[0])
    assert str(errors[0]) == str(errors[1])


# -- a rank without batches ------------------------------------------------------------------------------------------


def test_a_rank_that_follows_decides_on_the_losses_of_the_others():
    tuners, runs = ranks(3, verdicts={3: UNSTABLE})
    step(tuners, 1.0, 1.0, 1.0)
    step(tuners, 1.0, None, 3.0)
    for run in runs:
        run.weight = 7.0
    decisions = step(tuners, 1.0, None, 3.0)
    assert decisions[0] == decisions[1] == decisions[2]
    assert [actions(tuner) for tuner in tuners] == [["rollback"]] * 3
    assert [run.weight for run in runs] == [1.0] * 3
    assert [tuner.state_dict()["_num_steps"] for tuner in tuners] == [3] * 3


def test_somebody_has_to_be_followed():
    tuners, _ = ranks()
    assert "one at least" in str(step(tuners, None, None)[0])
    with pytest.raises(RuntimeError, match="nobody to follow"):
        new_tuner()[0].follow()


def test_a_run_that_is_alone_exchanges_nothing():
    run = SharedNumber(1.0)
    run.meeting = Meeting(1)
    tuner, _ = new_tuner(run=run, interval=1)
    tuner.step(1.0)
    tuner.observe(1.0)
    assert run.num_exchanges == 0


def test_a_snapshot_is_taken_when_all_ranks_have_time_for_it():
    tuners, _ = ranks(snapshot_every=5, proof_steps=1, snapshot_budget=0.5)
    ways = [tuner._way_back for tuner in tuners]
    for way in ways:
        way._budget._seconds = 0.0
    ways[1]._budget._seconds = 1e9  # its last copy has taken so long
    taken = []
    for _ in range(20):
        assert step(tuners, 1.0, 1.0) == [None, None]
        taken.append([way._last_snapshot_step for way in ways])
    assert taken == [[0, 0]] * 20
    ways[1]._budget._seconds = 0.0
    step(tuners, 1.0, 1.0)
    assert [way._last_snapshot_step for way in ways] == [21, 21]
