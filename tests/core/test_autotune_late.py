"""What comes after the tuner, or before it again: a scheduler, a second tuner, a close, a resume."""

import copy
import functools
import gc
import io
import itertools
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as sched

from autotunenet import AutoTuneNet, Float, SearchSpace
from autotunenet.launch import Launch
from autotunenet.testing import same

NUM_STEPS, LR = 240, 0.05

SCHEDULERS = {
    "cosine": lambda o: sched.CosineAnnealingLR(o, NUM_STEPS),
    "cosine to a floor": lambda o: sched.CosineAnnealingLR(o, NUM_STEPS, eta_min=1e-3),
    "lambda": lambda o: sched.LambdaLR(o, lambda i: min(1.0, i / 30) / (1 + i / 100)),
    "one cycle": lambda o: sched.OneCycleLR(o, LR, NUM_STEPS + 1, cycle_momentum=False),
    "plateau": lambda o: sched.ReduceLROnPlateau(o, factor=0.5, patience=20),
}


class Recorder(torch.optim.SGD):
    """Notes what the first group holds while the step computes."""

    def step(self, closure=None):
        self.used.append(float(self.param_groups[0]["lr"]))
        return super().step(closure)


class Training:
    """A regression with SGD and momentum. `order` says when the scheduler is made: before or after the tuner."""

    def __init__(self, name=None, order="before", lr=LR, *, tuned=True, total=NUM_STEPS, **kwargs):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(256, 6, generator=generator)
        self.targets = torch.sin(self.inputs).sum(1, keepdim=True)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
        self.optimizer = Recorder(self.model.parameters(), lr=lr, momentum=0.9)
        make = SCHEDULERS.get(name, lambda o: None)
        self.scheduler = make(self.optimizer) if order == "before" else None
        self.tuner = AutoTuneNet(self.model, self.optimizer, total, **kwargs) if tuned else None
        self.scheduler = make(self.optimizer) if order == "after" else self.scheduler
        self.shown, self.used = [], []  # lr in the groups between steps; in steps
        self.optimizer.used = self.used

    @property
    def lr(self):
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, i):
        batch = torch.randint(256, (32,), generator=torch.Generator().manual_seed(i))
        loss = nn.functional.mse_loss(self.model(self.inputs[batch]), self.targets[batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.tuner:
            self.tuner.step(loss)
        if isinstance(self.scheduler, sched.ReduceLROnPlateau):
            self.scheduler.step(loss.item())
        elif self.scheduler:
            self.scheduler.step()
        self.shown.append(self.lr)
        return loss.item()

    def run(self, num_steps=NUM_STEPS, start=0):
        self.losses = [self.step(i) for i in range(start, num_steps)]
        return self

    def loss(self):
        with torch.no_grad():
            return float(nn.functional.mse_loss(self.model(self.inputs), self.targets))

    def history(self):
        return [decision.to_record() for decision in self.tuner.history]


# -- a scheduler that is made after the tuner ------------------------------------------------------------------------


@pytest.mark.parametrize("modulate", [None, True])
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "one cycle"])
def test_a_scheduler_made_after_the_tuner_is_as_one_made_before(name, modulate):
    before, after = (Training(name, order, modulate=modulate).run() for order in ("before", "after"))
    assert same(after.history(), before.history())
    assert (after.shown, after.used, after.losses) == (before.shown, before.used, before.losses)
    assert after.loss() < 0.5


def test_one_cycle_made_after_the_tuner_plays_on_and_its_top_is_what_the_launch_found():
    """Not bit for bit as before: a OneCycleLR made before leaves the launch a base far below the user's lr."""
    after, twin = Training("one cycle", "after").run(), Training("one cycle", tuned=False).run()
    assert after.shown == twin.shown
    found = after.tuner._launching.launch.peak
    num = after.tuner._launching.launch._num_steps
    assert max(after.used[num:]) <= 2.1 * found  # the controller may double it once
    assert after.loss() < 0.5


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "plateau"])
@pytest.mark.parametrize("total", [None, NUM_STEPS])
def test_a_schedule_takes_the_place_of_the_landing_whenever_it_is_made(name, total):
    training = Training(name, "after", total=total, bayesian=False).run()
    assert not [d.reason for d in training.tuner.history if "Landing" in d.reason or "has not fallen" in d.reason]
    run = training.tuner._run
    assert run.get_hyperparams()["lr"] * run.schedule_top == pytest.approx(training.tuner._launching.launch.peak)


def test_a_schedule_that_never_comes_down_is_landed_where_that_is_asked_for():
    flat = functools.partial(sched.LambdaLR, lr_lambda=lambda step: 1.0)
    for land, comes_down in ((True, False), ("always", True)):
        training = Training(tuned=False)
        training.scheduler = flat(training.optimizer)
        training.tuner = AutoTuneNet(training.model, training.optimizer, NUM_STEPS, bayesian=False, land=land)
        training.run()
        assert set(training.shown) == {LR}
        assert (training.used[-1] < 0.1 * training.used[NUM_STEPS // 2]) is comes_down
    with pytest.raises(ValueError, match="land must be True, False or 'always'"):
        Training(land="never")


@pytest.mark.parametrize("in_extras", [False, True])
def test_what_the_launch_found_is_the_top_of_a_cycle_that_is_among_the_extras(in_extras):
    training = Training(tuned=False)
    training.scheduler = sched.CyclicLR(training.optimizer, 1e-3, 5e-2, step_size_up=40, cycle_momentum=False)
    extras = [training.scheduler] if in_extras else []
    training.tuner = AutoTuneNet(training.model, training.optimizer, NUM_STEPS, extras=extras, bayesian=False)
    training.run(150)
    run, launch = training.tuner._run, training.tuner._launching.launch
    top = 50 if in_extras else 1
    assert run.schedule_top == pytest.approx(top)
    if in_extras:
        assert run.get_hyperparams()["lr"] * top == pytest.approx(launch.peak)
        assert max(training.used[launch._num_steps :]) <= launch.peak * (1 + 1e-9)


def test_a_scheduler_that_is_made_in_the_middle_of_a_launch_starts_from_the_users_lr():
    training = Training().run(17)
    assert not training.tuner._launching.launch.is_done
    training.scheduler = sched.CosineAnnealingLR(training.optimizer, NUM_STEPS, eta_min=1e-3)
    assert training.scheduler.base_lrs == [LR]
    assert training.run(NUM_STEPS, start=17).loss() < 0.5
    assert training.tuner._run.has_schedule


# -- what stands in the groups ---------------------------------------------------------------------------------------


def test_the_groups_keep_the_users_lr_in_the_launch_and_hold_the_one_that_was_found_after_it():
    training = Training(lr=1.0, bayesian=False, land=False).run(150)
    launch = training.tuner._launching.launch
    num = next(i for i, lr in enumerate(training.shown) if lr != 1.0)
    assert launch.is_done
    assert num >= 10
    assert len(set(training.used[:num])) >= 3
    assert training.used[0] == pytest.approx(1e-8)
    assert training.shown[num:] == [launch.peak] * (150 - num)


def test_a_training_that_ends_in_the_launch_leaves_the_users_lr():
    training = Training().run(3)
    assert training.used[-1] < LR / 1e6
    training.tuner = None
    gc.collect()
    assert training.lr == LR
    assert not training.optimizer._optimizer_step_post_hooks
    training.run(4, start=3)
    assert training.used[-1] == LR


def test_close_leaves_what_was_found():
    training = Training(bayesian=False, land=False).run(150)
    training.tuner._run.close()
    assert training.lr == training.tuner._launching.launch.peak
    assert training.tuner._run.is_closed


# -- a second tuner --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "cosine"])
@pytest.mark.parametrize("num_steps", [0, 5, 150])
def test_a_second_tuner_is_refused_while_there_is_a_first(num_steps, name):
    training = Training(name, total=400).run(num_steps)
    before = training.lr
    with pytest.raises(ValueError, match=r"this optimizer has a tuner already.* close\(\) that one first"):
        AutoTuneNet(training.model, training.optimizer, 400)
    assert training.lr == before
    training.tuner._run.close()
    again = AutoTuneNet(training.model, training.optimizer, 400)
    assert again._run.users_lr == (LR if num_steps < 10 or name else training.tuner._launching.launch.peak)
    training.tuner = None
    del again
    AutoTuneNet(training.model, training.optimizer, 400)


def test_a_tuner_that_could_not_be_made_leaves_nothing_behind():
    training = Training("cosine", tuned=False)
    for _ in range(2):
        with pytest.raises(ValueError, match="mode must be") as caught:
            AutoTuneNet(training.model, training.optimizer, mode="sideways")
        assert caught.tb is not None  # it keeps the frames alive, and all that is in them
        assert not training.optimizer._optimizer_step_pre_hooks
    AutoTuneNet(training.model, training.optimizer)


# -- resume ----------------------------------------------------------------------------------------------------------


CUTS = (2, 17, 60, 150)


@functools.cache
def straight_run(name, lr):
    """A run to its end, with what a user saves at each of the cuts: parts in a file, and the schedule's state."""
    straight, saved, losses = Training(name, lr=lr), {}, []
    for start, end in itertools.pairwise((0, *CUTS, NUM_STEPS)):
        losses += straight.run(end, start=start).losses
        if end in CUTS:
            file = io.BytesIO()
            parts = {"model": straight.model, "optimizer": straight.optimizer, "tuner": straight.tuner}
            torch.save({k: part.state_dict() for k, part in parts.items()}, file)
            saved[end] = file.getvalue(), straight.scheduler.state_dict() if straight.scheduler else None
    straight.losses = losses
    return straight, saved


@pytest.mark.parametrize("name", [None, "cosine"])
@pytest.mark.parametrize("lr", [1e-4, LR, 1.0])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tuner_first", [False, True])
def test_a_resume_is_exact_whatever_is_loaded_first(tuner_first, cut, lr, name):
    straight, files = straight_run(name, lr)
    file, schedule = files[cut]
    saved = torch.load(io.BytesIO(file), weights_only=True)
    resumed = Training(name, lr=lr, tuned=tuner_first)
    resumed.model.load_state_dict(saved["model"])
    resumed.optimizer.load_state_dict(saved["optimizer"])
    if schedule:
        resumed.scheduler.load_state_dict(copy.deepcopy(schedule))
    resumed.tuner = resumed.tuner or AutoTuneNet(resumed.model, resumed.optimizer, NUM_STEPS)
    resumed.tuner.load_state_dict(saved["tuner"])
    box, expected = resumed.tuner._space["lr"], straight.tuner._space["lr"]
    assert (box, resumed.tuner._space.clip({"lr": 1e30})) == (expected, {"lr": expected.high})
    resumed.run(NUM_STEPS, start=cut)
    assert same(resumed.history(), straight.history())
    assert resumed.losses == straight.losses[cut:]
    assert (resumed.shown, resumed.used) == (straight.shown[cut:], straight.used[cut:])


@pytest.mark.parametrize("num_steps", [0, 8, 120])
def test_the_state_of_another_model_is_refused_and_nothing_is_changed(num_steps):
    training, other = Training().run(num_steps), Training(total=77)
    other.model = nn.Linear(3, 2)
    other.optimizer = torch.optim.Adam(other.model.parameters(), lr=1e-3)
    other.tuner = AutoTuneNet(other.model, other.optimizer, 77)
    straight = Training().run(num_steps)
    before = training.tuner.state_dict()
    with pytest.raises(ValueError, match=r"of another model .*param.* is .*; make both as they were"):
        training.tuner.load_state_dict(other.tuner.state_dict())
    assert same(training.tuner.state_dict(), before)
    assert training.run(NUM_STEPS, start=num_steps).losses == straight.run(NUM_STEPS, start=num_steps).losses


# -- arguments -------------------------------------------------------------------------------------------------------


def test_a_dict_is_made_a_space():
    boxes = {"lr": Float(1e-5, 10.0, log=True)}
    made, given = Training(space=boxes), Training(space=SearchSpace(boxes))
    assert isinstance(made.tuner._space, SearchSpace)
    assert made.run().losses == given.run().losses


def test_parts_may_be_given_as_they_are():
    launch = Launch(window=30)
    training = Training(launch=launch)
    assert training.tuner._launching.launch is launch
    with pytest.raises(ValueError, match="this Launch has begun in another tuner"):
        Training(launch=launch)
    assert Training(launch=False).tuner._launching is None
    assert Training(launch=None).tuner._launching is None


def model_and_optimizer(lr=LR):
    model = nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=lr)


@pytest.mark.parametrize("lr", [math.nan, math.inf, torch.tensor(math.nan)])
def test_an_lr_that_is_no_number_is_named(lr):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    optimizer.param_groups[0]["lr"] = lr
    with pytest.raises(ValueError, match=r"param group 0 has lr (nan|inf), .* a finite number"):
        AutoTuneNet(model, optimizer)


@pytest.mark.parametrize(
    ("kwargs", "kind", "words"),
    [
        ({"total_steps": "400"}, TypeError, "total_steps must be a whole number of steps, or None, got '400'"),
        ({"total_steps": True}, TypeError, "total_steps must be a whole number"),
        ({"total_steps": math.nan}, ValueError, "total_steps must be a whole number of steps, or None, got nan"),
        ({"total_steps": math.inf}, ValueError, "total_steps must be a whole number"),
        ({"interval": 2.5}, ValueError, "interval must be a whole number of steps, or None, got 2.5"),
        ({"interval": "5"}, TypeError, "interval must be a whole number"),
        ({"replay": "x"}, TypeError, "replay must be a function .* got 'x'"),
        ({"space": "lr"}, TypeError, "space must be a SearchSpace, or a dict like .* got 'lr'"),
        ({"space": {"lr": (1e-4, 1.0)}}, TypeError, "dimension 'lr' must be Float"),
        ({"space": {}}, ValueError, "at least one dimension"),
        ({"launch": Launch}, TypeError, "launch must be True, False or an instance of Launch"),
        ({"launch": "no"}, TypeError, "launch must be True, False or an instance of Launch, got 'no'"),
        ({"attribution": 3}, TypeError, "attribution must be True, False or an instance of Attribution, got 3"),
    ],
)
def test_wrong_arguments_are_refused_in_words(kwargs, kind, words):
    with pytest.raises(kind, match=words):
        AutoTuneNet(*model_and_optimizer(), **kwargs)


def test_a_whole_number_may_be_a_float():
    tuner = AutoTuneNet(*model_and_optimizer(), 1e4, interval=25.0)
    assert (tuner._control.interval, type(tuner._control.interval)) == (25, int)


def test_what_is_no_model_or_no_optimizer_is_named():
    model, optimizer = model_and_optimizer()
    for arguments, words in {
        (optimizer, model): "have changed places: the model comes first",
        (model, torch.optim.SGD): "optimizer must be an instance, not the class SGD",
        (nn.Linear, optimizer): "model must be an instance, not the class Linear",
        (model, None): "optimizer must be a torch.optim.Optimizer or .* got NoneType",
        (3, optimizer): "model must be a torch.nn.Module, got int",
    }.items():
        with pytest.raises(TypeError, match=words):
            AutoTuneNet(*arguments)


# -- letting go --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [0, 3, 20, 200])
def test_a_closed_tuner_leaves_the_users_lr_or_the_one_found_and_can_be_followed_by_another(num_steps):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    tuner = AutoTuneNet(model, optimizer)
    inputs = torch.eye(4)
    for _ in range(num_steps):
        loss = (model(inputs) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tuner.step(loss)
    found = tuner._run.get_hyperparams()["lr"] if num_steps == 200 else 0.05
    tuner.close()
    tuner.close()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(found)
    with pytest.raises(RuntimeError, match="this tuner is closed"):
        tuner.step(1.0)
    AutoTuneNet(model, optimizer).close()


def test_a_run_that_cannot_be_closed_gets_the_users_values_back():
    from doubles import NumberRun

    from autotunenet.autotune import make_tuner

    run = NumberRun(0.0, lr=0.1)
    tuner = make_tuner(run, SearchSpace({"lr": Float(1e-6, 1e3, log=True)}))
    tuner.step(1.0)
    assert run.hyperparams["lr"] != 0.1
    tuner.close()
    assert run.hyperparams == {"lr": 0.1}


@pytest.mark.parametrize(("total_steps", "expected"), [(40, True), (400, False)])
def test_a_short_run_has_no_launch(total_steps, expected):
    model = torch.nn.Linear(4, 1)
    tuner = AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.05), total_steps=total_steps)
    assert tuner._launching.launch.is_done is expected
