"""Losses on an accelerator: nobody waits for them, and a verdict that comes late still finds a clean state."""

from __future__ import annotations

import io
import math

import pytest
import torch
from doubles import UNSTABLE, NumberRun, Verdicts, new_tuner
from hypothesis import given
from hypothesis import strategies as st
from plain_loops import batch, new_model
from torch.utils._python_dispatch import TorchDispatchMode

from autotunenet import Action, AutoTuneNet
from autotunenet.adapters import _late
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.late_losses import LateLosses

NUM_STEPS = 260


class Far:
    """A loss on a device: reading it makes the host wait, which is counted."""

    waits = 0

    def __init__(self, value):
        self._value = value

    def item(self):
        Far.waits += 1
        return self._value


class Promise:
    """A copy under way; it has arrived once the device is `lag` steps further."""

    def __init__(self, run, value):
        self.run, self._value, self.sent = run, value, run.num_sent

    def value(self):
        assert self.run.may_wait or self.run.num_sent - self.sent >= self.run.lag, (
            "the host would wait for a loss that has just been sent"
        )
        return self._value


class FarRun(TorchRun):
    """A run whose losses are sent for as those of a GPU are."""

    lag = 2
    num_sent = 0
    may_wait = False

    def send_for(self, loss):
        self.num_sent += 1
        return Promise(self, loss._value)


class Training:
    """A regression, whose losses are far away."""

    def __init__(self, monkeypatch=None, *, lag=2, lr=0.05, **options):
        self.model = new_model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        if monkeypatch is not None:
            monkeypatch.setattr("autotunenet.adapters.pytorch.TorchRun", FarRun)
        self.tuner = AutoTuneNet(self.model, self.optimizer, NUM_STEPS, lag=lag, **options)
        self.tuner.run.lag = lag
        self.waits = []

    def run(self, first, last, disturb=lambda step, training: None):
        for i in range(first, last):
            disturb(i, self)
            inputs, targets = batch(i)
            loss = (self.model(inputs) - targets).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            before, Far.waits = Far.waits, 0
            self.tuner.step(Far(loss.item()))
            self.waits.append(Far.waits)
            Far.waits = before
        return self


def launched(training):
    """Number of steps of the launch."""
    return next(i for i, d in enumerate(training.waits) if not any(training.waits[i:]))


# -- nobody waits ----------------------------------------------------------------------------------------------------


def test_after_the_launch_no_loss_is_waited_for(monkeypatch):
    training = Training(monkeypatch).run(0, NUM_STEPS)
    assert 0 < launched(training) <= 120
    assert len(training.tuner.history) > 40
    assert training.tuner.run.num_sent == NUM_STEPS - launched(training)


class Reads(TorchDispatchMode):
    """Notes what would make a host wait for a device: numbers that are taken out of the training's tensors."""

    WAITING = ("_local_scalar_dense", "is_nonzero", "equal.default", "eq.", "nonzero")

    def __init__(self, training):
        super().__init__()
        held = [*training.model.parameters(), *(group["lr"] for group in training.optimizer.param_groups)]
        held += [value for state in training.optimizer.state.values() for value in state.values()]
        self.places = {tensor.data_ptr() for tensor in held if isinstance(tensor, torch.Tensor)}
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(word in str(func) for word in self.WAITING) and args[0].data_ptr() in self.places:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tensor_lr", [False, True])
def test_neither_snapshots_nor_controls_take_a_number_out_of_a_tensor(tensor_lr, monkeypatch):
    """The whole of the tuner's work after the launch, watched from inside torch."""
    monkeypatch.setattr("autotunenet.adapters._groups.is_far", lambda tensor: True)
    training = Training(monkeypatch, lr=torch.tensor(0.05) if tensor_lr else 0.05)
    tuner = training.tuner
    training.run(0, 130)
    reads, step = Reads(training), tuner.step

    def watched(loss):
        with reads:
            return step(loss)

    tuner.step = watched
    snapshots = tuner._snapshots.good.step
    training.run(130, NUM_STEPS)
    assert tuner._snapshots.good.step > snapshots, "no snapshot was taken meanwhile, and the test says little"
    assert {d.action for d in list(tuner.history)[-10:]} & {Action.ADAPT}, "lr was never written"
    assert reads.found == []


class OnGpu(torch.Tensor):
    """A number that says it lies on a GPU, and notes what is done with it."""

    @staticmethod
    def __new__(cls, value, log):
        return torch.Tensor._make_wrapper_subclass(cls, value.shape, dtype=value.dtype, device="cuda:0")

    def __init__(self, value, log):
        self.inside, self.log = value, log

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        name, (tensor, *_) = func.overloadpacket.__name__, args
        kwargs = kwargs or {}
        if name == "detach":
            return OnGpu(tensor.inside, tensor.log)
        tensor.log.append((name, kwargs.get("non_blocking", False)))
        assert name == "_to_copy", f"{name} was called on a loss"
        return tensor.inside.clone()


class Event:
    def __init__(self, log):
        self.log = log

    def synchronize(self):
        self.log.append("waited")


def test_a_loss_of_a_gpu_is_copied_without_waiting(monkeypatch):
    log = []
    monkeypatch.setattr(_late, "record_event", lambda device: log.append(f"event on {device}") or Event(log))
    loss = OnGpu(torch.tensor(0.5), log)
    pending = _late.send_for(loss)
    assert log == [("_to_copy", True), "event on cuda:0"]
    assert pending.value() == 0.5
    assert log[2:] == ["waited"]


def test_what_is_no_single_number_of_a_gpu_is_not_sent_for():
    assert _late.send_for(torch.tensor(0.5)) is None
    assert _late.send_for(0.5) is None
    assert _late.send_for(OnGpu(torch.ones(2), [])) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_no_step_after_the_launch_synchronises():
    model = new_model().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tuner = AutoTuneNet(model, optimizer, NUM_STEPS)
    for i in range(NUM_STEPS):
        inputs, targets = (part.cuda() for part in batch(i))
        loss = (model(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.cuda.set_sync_debug_mode("error" if i > 130 else "default")
        try:
            tuner.step(loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")


# -- and nothing is lost by it ---------------------------------------------------------------------------------------


def raise_lr(step, training):
    if step == 150:
        for group in training.optimizer.param_groups:
            group["lr"] *= 300


@pytest.mark.parametrize("lag", [0, 1, 2, 5])
def test_a_knob_that_is_turned_up_is_found_and_taken_back(lag, monkeypatch):
    training = Training(monkeypatch, lag=lag).run(0, NUM_STEPS, raise_lr)
    history = list(training.tuner.history)
    alarm = next(d for d in history if d.observation.step > 150 and d.action is Action.PROBE)
    assert alarm.observation.step <= 155 + lag
    taken_back = next(d for d in history if d.action is Action.ROLLBACK)
    assert taken_back.cause.value == "knob"
    final = (training.model(batch(0)[0]) - batch(0)[1]).square().mean()
    calm = Training(monkeypatch, lag=lag).run(0, NUM_STEPS)
    assert final < 1.5 * (calm.model(batch(0)[0]) - batch(0)[1]).square().mean()


@pytest.mark.parametrize("lag", [1, 3])
def test_every_step_is_either_kept_or_told_to_be_discarded(lag, monkeypatch):
    training = Training(monkeypatch, lag=lag).run(0, NUM_STEPS, raise_lr)
    tuner = training.tuner
    discarded = sum(d.discarded_steps for d in tuner.history)
    assert tuner._num_steps == NUM_STEPS
    assert tuner._way_back.age == NUM_STEPS - discarded
    applied = next(iter(training.optimizer.state.values()))
    assert applied["momentum_buffer"].isfinite().all()


@given(lag=st.integers(0, 4), poisoned=st.integers(1, 60), every=st.integers(1, 7), proof=st.integers(1, 5))
def test_a_state_that_is_poisoned_is_never_taken_for_good(lag, poisoned, every, proof):
    """A weight of -1 is a wrecked state; the loss of a step is that of the weight before it."""

    class Sent(NumberRun):
        def send_for(self, loss):
            return Here(loss)

    class Here:
        def __init__(self, value):
            self._value = value

        def value(self):
            return self._value

    run = Sent()
    heard = Heard()
    tuner, *_ = new_tuner(run=run, interval=None, lag=lag, snapshot_every=every, proof_steps=proof, monitor=heard)
    for step in range(1, 80):
        loss = run.weight
        run.weight = -1.0 if step == poisoned or run.weight < 0 else float(step)
        tuner.step(loss)
        good = tuner._snapshots.good
        assert good is None or good.buffers["weight"][0] >= 0, f"poison was taken for good at step {step}"
    assert run.weight >= 0
    assert [d.action for d in tuner.history].count(Action.ROLLBACK) == 1


class Heard(Verdicts):
    """Knows a wrecked state by its loss."""

    def update(self, loss, step):
        return UNSTABLE if loss < 0 else super().update(loss, step)


@pytest.mark.parametrize("cut", [60, 140, 151, 153, 158])
def test_a_resume_with_losses_on_their_way_is_exact(cut, monkeypatch):
    whole = Training(monkeypatch).run(0, NUM_STEPS, raise_lr)
    first = Training(monkeypatch).run(0, cut, raise_lr)
    file = io.BytesIO()
    first.tuner.run.may_wait = True
    parts = {"model": first.model, "optimizer": first.optimizer, "tuner": first.tuner}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = Training(monkeypatch)
    second.model.load_state_dict(saved["model"])
    second.optimizer.load_state_dict(saved["optimizer"])
    second.tuner.load_state_dict(saved["tuner"])
    second.run(cut, NUM_STEPS, raise_lr)
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [d.to_record() for d in second.tuner.history] == [d.to_record() for d in whole.tuner.history]


# -- the queue -------------------------------------------------------------------------------------------------------


def test_a_queue_is_as_long_as_it_was_asked_to_be():
    losses = LateLosses(2)
    promises = [type("Here", (), {"value": lambda self, i=i: float(i)})() for i in range(5)]
    assert [losses.hear(promise) for promise in promises] == [None, None, 0.0, 1.0, 2.0]
    assert losses.state_dict() == {"waiting": [3.0, 4.0]}
    assert losses.hear(promises[0], at_once=True) == 0.0
    assert losses.num_waiting == 0


@pytest.mark.parametrize("waiting", [None, [1], ["1.0"], {}])
def test_foreign_queues_are_refused(waiting):
    losses = LateLosses(2)
    with pytest.raises(ValueError, match="no saved state"):
        losses.load_state_dict({"waiting": waiting})


def test_a_lag_below_zero_is_refused():
    model = new_model()
    with pytest.raises(ValueError, match="lag must be at least 0, got -1"):
        AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.1), 100, lag=-1)


def test_micro_batches_are_averaged_where_they_are_late(monkeypatch):
    """A step of four calls: its loss is the mean of four that were sent for, and it is heard two steps later."""
    training = Training(monkeypatch)
    tuner = training.tuner
    training.run(0, 130)
    heard = []
    watch = tuner._recovery.watch
    monkeypatch.setattr(tuner._recovery, "watch", lambda loss, *rest: heard.append(loss) or watch(loss, *rest))
    level = 1e-3
    for step in range(6):
        for part in range(4):
            if part == 3:
                training.optimizer.step()
            tuner.step(Far(level * (step + part)))
    assert len(heard) == 6
    assert all(math.isclose(a, level * (step + 1.5)) for step, a in zip(range(4), heard[2:], strict=True))


def test_a_queue_that_was_longer_in_the_run_before_is_shortened_at_once():
    losses = LateLosses(lag=0)
    losses.load_state_dict({"waiting": [1.0, 2.0]})
    assert losses.hear(3.0) == 3.0
    assert losses.hear(4.0) == 4.0
