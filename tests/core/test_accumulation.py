"""One optimizer step out of several calls: accumulated gradients, and steps that a gradient scaler has skipped."""

import copy
import logging
import math
import pickle

import pytest
import torch
from doubles import NumberRun, new_tuner
from plain_loops import Loop, batch, muon_and_adamw, new_model, sgd, warm_up_and_cosine
from torch import nn

from autotunenet import AutoTuneNet
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.step_losses import MAX_HELD, StepLosses
from autotunenet.testing import same

# -- which calls make a step -----------------------------------------------------------------------------------------


class Stepper(NumberRun):
    """A run that has stepped as it is told."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = [False, *answers]

    def took_step(self):
        return self.answers.pop(0)


def take(steps, loss, batch=None):
    return steps.take(loss, batch, steps.took_step())


def taken(losses, answers):
    steps = StepLosses(Stepper(*answers))
    return [take(steps, loss) for loss in losses]


def test_the_loss_of_a_step_is_the_mean_of_its_calls():
    assert taken([1, 2, 3, 4, 5], [True, False, True, False, True]) == [(1, None), None, (2.5, None), None, (4.5, None)]


def test_a_loss_that_is_no_number_does_not_wait():
    first, *rest = taken([1.0, 2.0, math.inf, 3.0, 4.0], [True, False, False, False, True])
    assert (first, rest) == ((1.0, None), [None, (math.inf, None), None, (3.5, None)])


def test_where_steps_cannot_be_seen_every_call_is_one():
    assert taken([1, 2], [None, None]) == [(1, None), (2, None)]
    steps = StepLosses(NumberRun())
    assert [take(steps, 1), take(steps, 2)] == [(1, None), (2, None)]


def test_a_call_before_the_first_step_counts_so_that_no_loss_comes_two_steps_late():
    assert taken([1, 2, 3], [False, True, True]) == [(1, None), (2, None), (3, None)]


def test_a_batch_goes_with_its_step_where_it_was_all_of_it():
    steps = StepLosses(Stepper(True, False, True, True))
    assert [take(steps, 1, "a"), take(steps, 2, "b"), take(steps, 4, "c"), take(steps, 5, "d")] == [
        (1, "a"),
        None,
        (3, None),
        (5, "d"),
    ]


def test_without_a_step_for_long_every_call_is_one_until_there_is_a_step(caplog):
    num = MAX_HELD + 3
    steps = StepLosses(Stepper(True, *[False] * num, True, *[False] * 2 * MAX_HELD))
    first = [take(steps, 1.0) for _ in range(num + 1)]
    assert [i for i, loss in enumerate(first) if loss] == [0, MAX_HELD, MAX_HELD + 1, MAX_HELD + 2, MAX_HELD + 3]
    assert "no optimizer step was seen in 128 calls" in caplog.text
    assert take(steps, 1.0)
    assert [i for i in range(2 * MAX_HELD) if take(steps, 1.0)] == [2 * MAX_HELD - 1]


def test_its_state_goes_on_in_the_middle_of_a_step():
    steps = StepLosses(Stepper(True, False, False))
    take(steps, 1.0)
    take(steps, 2.0)
    resumed = StepLosses(Stepper(True))
    resumed.load_state_dict(copy.deepcopy(steps.state_dict()))
    assert take(resumed, 4.0) == (3.0, None)


def test_a_tuner_of_its_own_parts_counts_every_call_unless_it_is_told():
    for accumulation, num in ((False, 4), (True, 2)):
        tuner, _ = new_tuner(run=Stepper(*[False] * 9), accumulation=accumulation)
        for loss in (1.0, 1.0, 1.0, math.nan):
            tuner.step(loss)
        assert tuner._num_steps == num


# -- what a run sees -------------------------------------------------------------------------------------------------


def watched(make=lambda p: torch.optim.SGD(p, lr=0.1)):
    model = new_model()
    run = TorchRun(model, make(model.parameters()))
    assert run.took_step() is False
    nn.functional.mse_loss(model(batch(0)[0]), batch(0)[1]).backward()
    return run


def test_steps_are_seen_until_the_run_is_closed_or_gone():
    run = watched()
    run.optimizer.step()
    run.optimizer.step()
    assert [run.took_step(), run.took_step()] == [True, False]
    assert len(run.optimizer._optimizer_step_post_hooks) == 1
    run.close()
    assert not run.optimizer._optimizer_step_post_hooks
    run = watched()
    optimizer = run.optimizer
    del run
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))], ids=["copy", "pickle"])
def test_a_copy_watches_its_own_optimizer(clone):
    run = watched()
    other = clone(run)
    other.optimizer.step()
    assert (run.took_step(), other.took_step()) == (False, True)


def test_a_step_that_was_not_told_yet_is_in_the_state():
    run = watched()
    run.optimizer.step()
    resumed = watched()
    resumed.load_state_dict(run.state_dict())
    assert [resumed.took_step(), resumed.took_step()] == [True, False]


class TwoHalves(torch.optim.SGD):
    """An optimizer with two methods in place of `step`, as for sharpness-aware steps."""

    def first_half(self):
        self.second_half()

    @torch.no_grad()
    def second_half(self):
        for param in self.param_groups[0]["params"]:
            param.sub_(self.param_groups[0]["lr"] * param.grad)


def test_steps_past_the_hooks_are_known_by_the_weights():
    run = watched(lambda p: TwoHalves(p, lr=0.1))
    run.optimizer.first_half()
    assert run.took_step() is None
    assert run.took_step() is False  # nothing has changed


def test_a_training_whose_steps_no_hook_sees_is_tuned_all_the_same():
    """The launch's lr is written into the groups, for nobody can lend it."""
    model = new_model()
    optimizer = TwoHalves(model.parameters(), lr=1e-5)
    tuner = AutoTuneNet(model, optimizer, 120)
    for i in range(120):
        inputs, targets = batch(i)
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.first_half()
        tuner.step(loss)
    assert tuner._num_steps == 120
    assert loss.item() < 1.0  # of 2.7


def test_steps_that_a_graph_may_replay_are_not_counted():
    model = new_model()
    run = TorchRun(model, torch.optim.Adam(model.parameters(), capturable=True))  # its step needs an accelerator
    assert run.took_step() is None


def test_an_optimizer_without_hooks_tells_nothing():
    run = watched()
    run.optimizers[0].__dict__.pop("_optimizer_step_pre_hooks")
    bare = TorchRun(run.model, run.optimizer)
    assert bare.took_step() is None


# -- accumulated gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every_batch", [False, True])
@pytest.mark.parametrize("lr", [1e-4, 3.0])
def test_accumulated_steps_from_a_wrong_lr(lr, every_batch):
    loop = Loop(lambda model: sgd(model, lr), num_micro=4, every_batch=every_batch).run()
    assert loop.loss() < 0.5
    assert loop.launch.is_done
    # The very first call counts by itself.
    assert loop.tuner._num_steps == len(loop.used) + every_batch == 160 + every_batch


def test_telling_every_batch_is_as_good_as_telling_the_mean():
    mean, each = (Loop(num_micro=4, every_batch=every_batch).run(60) for every_batch in (False, True))
    assert each.launch.peak == mean.launch.peak
    assert each.losses[-1] == pytest.approx(mean.losses[-1], rel=0.3)


def test_weights_that_break_between_accumulated_steps_come_back():
    loop = Loop(num_micro=4, every_batch=True, launch=False).run(70)
    with torch.no_grad():
        loop.model[0].weight.fill_(float("nan"))
    with pytest.raises(AssertionError):  # the loop's own: it expects no decision between two steps
        loop.run(80, start=70)
    assert loop.tuner.history[-1].action.value in ("probe", "rollback")
    loop.every_batch = False
    assert math.isfinite(loop.run(100, start=71).loss())


def test_a_replay_steps_for_the_tuner_and_not_for_the_loop():
    loop = Loop(launch=False, attribution=True, snapshot_every=10, proof_steps=5)
    told = []

    def replay(i):
        loss = loop.gradients(i)
        loop.optimizers[0].step()
        loop.optimizers[0].zero_grad()
        return loss

    def step(i, scale=1.0):
        loss = loop.gradients(i)
        loop.optimizers[0].step()
        loop.optimizers[0].zero_grad()
        told.append(loop.tuner.step(scale * loss, i))

    loop.tuner.close()
    loop.tuner = AutoTuneNet(loop.model, loop.optimizers[0], launch=False, replay=replay, snapshot_every=10)
    for i in range(60):
        step(i)
    for i in range(60, 64):
        step(i, scale=1e3)  # an alarm, and its replay
    assert any(decision and decision.health.value == "unstable" for decision in told[60:])
    num = loop.tuner._num_steps
    assert loop.tuner.step(1.0) is None
    assert loop.tuner._num_steps == num  # the loop has made no step since


class AdaptiveClip:
    """Clips at 1.5 times what the norm of the gradient was on average, as ZClip does with its own rule."""

    def __init__(self, model):
        self.model, self.average = model, None

    def __call__(self, *_):
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), math.inf))
        self.average = norm if self.average is None else 0.9 * self.average + 0.1 * norm
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.5 * self.average)


CLIPS = {
    "norm": lambda model: lambda *_: nn.utils.clip_grad_norm_(model.parameters(), 1.0) and None,
    "value": lambda model: lambda *_: nn.utils.clip_grad_value_(model.parameters(), 0.1),
    "adaptive": AdaptiveClip,
}


@pytest.mark.parametrize("clip", CLIPS)
def test_clipped_gradients(clip):
    loop = Loop(lambda model: sgd(model, 10.0))
    loop.optimizers[0].register_step_pre_hook(CLIPS[clip](loop.model))
    assert loop.run().loss() < 0.6


def test_a_closure():
    """L-BFGS evaluates the loss several times a step; the tuner is told what the step returns."""
    model = new_model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1e-3, max_iter=4)
    tuner = AutoTuneNet(model, optimizer, 80)
    inputs, targets = batch(0)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    for _ in range(80):
        loss = optimizer.step(closure)
        tuner.step(loss)
    assert loss.item() < 0.4  # of 2.7
    assert tuner._num_steps == 80


# -- a gradient scaler -----------------------------------------------------------------------------------------------


def too_high():
    """A scale with which a score of steps is skipped before the first is made."""
    return torch.amp.GradScaler("cpu", init_scale=2.0**36)


@pytest.mark.parametrize("lr", [1e-4, 0.05, 10.0])
def test_no_lr_is_said_to_be_tried_by_steps_that_were_skipped(lr):
    loop = Loop(lambda model: sgd(model, lr), scaler=too_high).run(120)
    assert len(loop.used) < 105
    # The very first call, and losses that are no numbers, count by themselves.
    num_more = 1 + sum(not math.isfinite(loss) for loss in loop.losses)
    assert len(loop.used) <= loop.tuner._num_steps <= len(loop.used) + num_more
    trials = [d for d in loop.tuner.history if d.action.value == "probe"]
    assert loop.launch.is_done
    for tried in {trial.observation.hyperparams["lr"] for trial in trials[1:]}:
        assert [tried] in loop.used
    assert loop.loss() < 2.0


def test_while_steps_are_skipped_the_groups_keep_the_users_lr():
    """A launch writes its lr into the groups where steps take no notice of it; no step is not that."""
    loop = Loop(scaler=too_high)
    num = 0
    while not loop.used:
        loop.step(num)
        num += 1
        assert loop.lrs() == [0.05]
    assert num > 15
    assert loop.used[0][0] < 1e-6, "a launch begins by not moving"
    assert loop.run(num + 20, start=num).lrs() == [0.05]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_fused_steps_that_skip_themselves_are_none(kind):
    model, scaler = new_model(), too_high()
    optimizer = kind(model.parameters(), lr=0.01, fused=True)
    run, seen = TorchRun(model, optimizer), []
    run.took_step()
    for i in range(40):
        inputs, targets = batch(i)
        before = model[0].weight.detach().clone()
        with torch.autocast("cpu", torch.float16):
            loss = nn.functional.mse_loss(model(inputs), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        seen.append(run.took_step())
        assert seen[-1] is not torch.equal(model[0].weight, before)
    assert set(seen) == {True, False}


def test_a_loss_that_overflows_for_ever_is_an_alarm_though_no_step_is_made():
    loop = Loop(scaler=lambda: torch.amp.GradScaler("cpu"), launch=False).run(60)
    with torch.no_grad():
        loop.model[2].weight.mul_(1e7)  # finite, and too much for float16
    num = len(loop.used)
    loop.run(75, start=60)
    assert any(d.action.value == "rollback" for d in loop.tuner.history)
    assert loop.run(110, start=75).loss() < 2.0
    assert len(loop.used) > num + 30


def test_a_rollback_takes_the_scale_back_too():
    loop = Loop(scaler=lambda: torch.amp.GradScaler("cpu", init_scale=1024.0), launch=False).run(80)
    scale = loop.scaler.get_scale()
    loop.tuner._snapshots.capture(80)
    loop.scaler.load_state_dict({**loop.scaler.state_dict(), "scale": 2.0})
    loop.tuner._snapshots.commit(1.0)
    loop.tuner._snapshots.restore()
    assert loop.scaler.get_scale() == scale > 2.0


@pytest.mark.parametrize("cut", [4, 22, 45, 100])
def test_a_resume_is_exact_with_all_of_it(cut):
    """Two optimizers with schedules, a scaler that skips at first, accumulation, clipping; also in the launch."""

    def make():
        return Loop(
            muon_and_adamw, warm_up_and_cosine, lambda: torch.amp.GradScaler("cpu", init_scale=2.0**28),
            num_micro=2, every_batch=True, clip=1.0,
        )  # fmt: skip

    straight = make().run(cut)
    saved, num = straight.save(), len(straight.used)
    straight.run(130, start=cut)
    resumed = make().load(saved).run(130, start=cut)
    assert straight.launch.is_done
    assert same(resumed.state(), straight.state())
    assert (resumed.used, resumed.losses) == (straight.used[num:], straight.losses[cut:])
    assert resumed.scaler.state_dict() == straight.scaler.state_dict()


def test_a_scaler_that_is_switched_off_is_no_hindrance():
    loop = Loop(scaler=lambda: torch.amp.GradScaler("cpu", enabled=False)).run(60)
    assert loop.tuner._num_steps == 60


def test_nothing_is_said_of_accumulation(caplog):
    with caplog.at_level(logging.WARNING):
        Loop(num_micro=3, every_batch=True).run(20)
    assert not caplog.records
