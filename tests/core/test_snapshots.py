"""The way back: two slots over one set of buffers, with a run made of plain numbers."""

import copy
import math

import pytest
from doubles import NumberRun, new_tuner

from autotunenet.snapshots import SCOPES, SnapshotBuffer


@pytest.fixture
def run():
    return NumberRun()


def commit(snapshots, run, weight, loss=1.0, step=1):
    run.weight = weight
    snapshots.capture(step)
    snapshots.commit(loss)


def test_restore_brings_back_weights_and_hyperparameters_as_often_as_asked(run):
    snapshots = SnapshotBuffer(run)
    commit(snapshots, run, 7.0, loss=0.5, step=3)
    for broken in (math.nan, 1e30):
        run.weight = broken
        run.set_hyperparams({"lr": 99.0})
        good = snapshots.restore()
        assert (run.weight, run.hyperparams) == (7.0, {"lr": 0.1})
        assert (good.step, good.loss, good.hyperparams) == (3, 0.5, {"lr": 0.1})


def test_a_candidate_is_not_gone_back_to_once_something_is_good(run):
    snapshots = SnapshotBuffer(run)
    commit(snapshots, run, 1.0)
    run.weight = math.nan  # ruined by the very step after which it is captured
    snapshots.capture(step=2)
    snapshots.restore()
    assert run.weight == 1.0
    assert snapshots.candidate is None


def test_where_nothing_was_committed_the_candidate_is_all_there_is(run):
    run.weight = 5.0
    snapshots = SnapshotBuffer(run)
    snapshots.capture(step=0)
    for _ in range(2):
        run.weight = 6.0
        assert math.isnan(snapshots.restore().loss)
        assert run.weight == 5.0
    run.weight = 8.0
    snapshots.capture(step=4)  # must not be written over the state that is good now
    run.weight = 9.0
    snapshots.restore()
    assert run.weight == 5.0


def test_the_good_state_is_never_overwritten_by_a_capture(run):
    snapshots = SnapshotBuffer(run)
    commit(snapshots, run, 1.0)
    for weight in (2.0, 3.0, 4.0):
        run.weight = weight
        snapshots.capture(step=int(weight))
    assert snapshots.good.buffers == {"weight": [1.0]}
    assert snapshots.candidate.buffers == {"weight": [4.0]}


def test_two_sets_of_buffers_serve_for_ever(run):
    snapshots = SnapshotBuffer(run)
    for step in range(50):
        run.weight = float(step)
        snapshots.capture(step)
        if step % 5 == 4:
            snapshots.discard()
        elif step % 3 == 0:
            snapshots.commit(1.0)
        elif step % 7 == 6:
            snapshots.restore()
    assert len(run.allocated) == 2


def test_a_candidate_that_is_discarded_leaves_the_good_one(run):
    snapshots = SnapshotBuffer(run)
    commit(snapshots, run, 1.0)
    snapshots.capture(step=2)
    snapshots.discard()
    snapshots.discard()
    assert (snapshots.candidate, snapshots.good.step) == (None, 1)
    with pytest.raises(RuntimeError, match="call capture"):
        snapshots.commit(1.0)


def test_scope_hyperparameters_leaves_the_weights(run):
    snapshots = SnapshotBuffer(run, "hyperparameters")
    commit(snapshots, run, 1.0)
    run.weight, run.hyperparams = 2.0, {"lr": 3.0}
    assert snapshots.restore().buffers is None
    assert (run.weight, run.hyperparams, run.allocated) == (2.0, {"lr": 0.1}, [])


def test_scope_none_keeps_nothing(run):
    snapshots = SnapshotBuffer(run, "none")
    snapshots.capture(step=0)
    assert (snapshots.candidate, run.allocated) == (None, [])
    with pytest.raises(RuntimeError, match="nothing to go back to"):
        snapshots.restore()


def test_nothing_to_go_back_to(run):
    with pytest.raises(RuntimeError, match="nothing to go back to"):
        SnapshotBuffer(run).restore()


def test_unknown_scope(run):
    with pytest.raises(ValueError, match="'none', 'hyperparameters', 'full'"):
        SnapshotBuffer(run, "weights")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("with_good", [False, True])
@pytest.mark.parametrize("with_candidate", [False, True])
def test_state_goes_out_and_in_and_shares_nothing(scope, with_good, with_candidate):
    run = NumberRun()
    snapshots = SnapshotBuffer(run, scope)
    if scope != "none":
        if with_good:
            commit(snapshots, run, 1.0, loss=0.25)
        if with_candidate:
            run.weight = 2.0
            snapshots.capture(step=2)
    saved = snapshots.state_dict()
    frozen = copy.deepcopy(saved)

    resumed_run = NumberRun(9.0)
    resumed = SnapshotBuffer(resumed_run, scope)
    resumed.load_state_dict(saved)
    assert repr(resumed.state_dict()) == repr(frozen)  # repr: the loss of a candidate is NaN
    for each, its_run in ((snapshots, run), (resumed, resumed_run)):
        its_run.weight = -1.0
        for step in (3, 4):
            each.capture(step)
            if scope != "none":
                each.commit(1.0)
    assert repr(saved) == repr(frozen)


def test_a_state_of_another_scope_is_refused(run):
    with pytest.raises(ValueError, match=r"scope 'none'.*'full'"):
        SnapshotBuffer(run).load_state_dict(SnapshotBuffer(run, "none").state_dict())
    with pytest.raises(ValueError, match="no state of SnapshotBuffer"):
        SnapshotBuffer(run).load_state_dict({"scope": "full"})


def test_the_state_of_another_run_is_refused_by_a_run_that_can_tell(run):
    class Picky(NumberRun):
        def check_buffers(self, buffers):
            if buffers["weight"][0] > 5:
                raise ValueError("too heavy")

    heavy, light = SnapshotBuffer(run), SnapshotBuffer(Picky())
    commit(heavy, run, 7.0)
    commit(light, light._run, 2.0)
    before = light.state_dict()
    with pytest.raises(ValueError, match="too heavy"):
        light.load_state_dict(heavy.state_dict())
    assert light.state_dict() == before
    commit(heavy, run, 3.0)
    light.load_state_dict(heavy.state_dict())
    assert light.restore().buffers == {"weight": [3.0]}


# -- what they may cost ----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("autotunenet.snapshots.time.perf_counter", lambda: self.now)


def test_a_budget_lets_copies_take_a_share_of_the_time_and_no_more(monkeypatch):
    clock = Clock(monkeypatch)

    class SlowRun(NumberRun):
        def copy_into(self, buffers):
            clock.now += 2.0
            return super().copy_into(buffers)

    run = SlowRun()
    tuner, _ = new_tuner(run=run, snapshot_every=5, proof_steps=1, snapshot_budget=0.01)
    taken = []
    for step in range(1, 1001):
        clock.now += 1.0
        before = tuner._way_back._last_snapshot_step
        tuner.step(1.0)
        taken += [step] if tuner._way_back._last_snapshot_step != before else []
    assert taken == [200, 400, 600, 800, 1000]  # two seconds each, in two hundred


def test_without_a_budget_the_clock_has_no_say(monkeypatch):
    clock = Clock(monkeypatch)
    tuner, _ = new_tuner(snapshot_every=5, proof_steps=1)
    for _ in range(12):
        clock.now -= 100.0
        tuner.step(1.0)
    assert tuner._snapshots.good.step == 10 or tuner._snapshots.candidate.step == 10


@pytest.mark.parametrize("share", [0, -0.1, 1.5, math.nan])
def test_a_budget_is_a_share(share):
    with pytest.raises(ValueError, match=r"snapshot_budget must lie in \(0, 1\]"):
        new_tuner(snapshot_budget=share)
