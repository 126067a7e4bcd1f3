"""Saved states that were cut, edited, or are somebody else's: a ValueError and nothing loaded, or all of it."""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotunenet import AutoTuneNet, Float, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import CONTROLLERS
from autotunenet.hpo import RandomSearch
from autotunenet.monitors import MONITORS
from autotunenet.state import PlainState

SPACE = SearchSpace({"lr": Float(1e-6, 10.0, log=True)})
KINDS = ["whole", *CONTROLLERS]
MISSING = object()
JUNK = st.sampled_from([MISSING, None, "x", b"x", True, math.nan, 1e308, [], {}, ["x"], {"a": 1}, [[1]] * 3, object])
FOREIGN = [None, [], "state", 3, {}, {"state": {}, "param_groups": []}, {1: 2}, {"_num_steps": 3}, {None: None}]


def make(kind):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if kind == "whole":
        return model, optimizer, AutoTuneNet(model, optimizer, 100)
    run = TorchRun(model, optimizer, names=SPACE)
    return model, optimizer, Tuner(run, SPACE, controller=CONTROLLERS[kind](), interval=5, snapshot_every=10)


def train(model, optimizer, tuner, num_steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_steps):
        inputs = torch.randn(8, 2, generator=generator)
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tuner.step(loss)


@cache
def saved(kind):
    """States of a model, of its optimizer and of its tuner in the middle of a training."""
    training = make(kind)
    train(*training, 50)
    return [copy.deepcopy(part.state_dict()) for part in training]


def resumed(kind):
    training = make(kind)
    for part, state in zip(training[:2], saved(kind), strict=False):
        part.load_state_dict(copy.deepcopy(state))
    training[2].state_dict()  # looks around, and sees that lr was written
    return training


def same(one, other):
    """Whether two states are equal, NaN and tensors included."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return repr(one) == repr(other)  # NaN equals itself then


def load(training, state):
    """Load a state; where it is refused, everything has stayed as it was. Return whether it was taken."""
    before = training[2].state_dict()
    try:
        training[2].load_state_dict(state)
    except ValueError:
        assert same(before, training[2].state_dict())
        return False
    return True


def places(state, path=()):
    """The places of a state, down to two levels into its parts; below stand numbers of one part alone."""
    if path:
        yield path
    if isinstance(state, dict) and len(path) < 4:
        for key, value in state.items():
            yield from places(value, (*path, key))


def put(state, path, junk):
    state = copy.deepcopy(state)
    holder = state
    for key in path[:-1]:
        holder = holder[key]
    if junk is MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = junk
    return state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", FOREIGN, ids=repr)
def test_a_foreign_state_is_refused(kind, state):
    assert not load(resumed(kind), state)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_another_tuner_is_refused_and_ones_own_is_not(kind):
    for other in KINDS:
        if other in ("whole", kind) or kind == "whole":
            assert load(resumed(kind), saved(other)[2]) == (other == kind)


@pytest.mark.parametrize("kind", ["whole", "heuristic", "bayesian"])
@given(data=st.data(), junk=JUNK)
@settings(max_examples=150)
def test_what_is_missing_or_of_another_kind_is_refused(kind, data, junk):
    state = saved(kind)[2]
    place = data.draw(st.sampled_from([path for path in places(state) if path[0] != "step_losses"]))
    training = resumed(kind)
    if load(training, put(state, place, junk)):
        assert junk is not MISSING or place[0] == "recovery"
        assert math.isfinite(training[2].run.get_hyperparams()["lr"])


PLAIN = {name: part for name, part in [*CONTROLLERS.items(), *MONITORS.items()] if name != "worst_of"}


@pytest.mark.parametrize("name", PLAIN)
@given(junk=JUNK, data=st.data())
@settings(max_examples=25)
def test_parts_alone_refuse_what_is_none_of_theirs(name, junk, data):
    part = PLAIN[name]()
    assert isinstance(part, PlainState)
    before = part.state_dict()
    if not part.state_names:
        return
    key = data.draw(st.sampled_from(part.state_names))
    try:
        part.load_state_dict(put(before, (key,), junk))
    except ValueError:
        assert same(before, part.state_dict())
    else:
        assert junk is not MISSING


@pytest.mark.parametrize("trials", [None, 3, "x", [None], [3], [{"number": 0}]], ids=repr)
def test_a_search_refuses_trials_that_are_none(trials):
    search = RandomSearch(SPACE)
    search.tell(search.ask().number, 1.0)
    before = search.trials
    with pytest.raises((TypeError, ValueError, AttributeError)):
        search.load_trials(trials)
    assert search.trials == before
