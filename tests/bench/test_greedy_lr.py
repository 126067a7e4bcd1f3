"""GreedyLR: that it is the package's, on the lr in force."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from transformers.optimization import GreedyLR

from autotunenet import Float, SearchSpace
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.types import Horizon

HORIZON = Horizon(num_epochs=4, steps_per_epoch=10)
SPACE = SearchSpace({"lr": Float(1e-3, 1.0, log=True)})
METRICS = [5.0, 4.0, 3.0, 2.0, 2.0, 2.0, math.nan, 2.5, 1.0, 0.9, math.inf, 0.8, 0.7, 0.6] * 3


def make(**fields):
    return CONTROLLERS["greedy_lr"](**fields).build(HORIZON, SPACE, seed=0)


def play(controller, metrics, lr=0.1):
    controller.start({"lr": lr})
    lrs = []
    for step, metric in enumerate(metrics, start=1):
        controller.observe(metric, step)
        lr = controller.propose({"lr": lr})["lr"]
        lrs.append(lr)
    return lrs


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"factor": 0.5, "patience": 0}, {"factor": 0.5, "patience": 0}),
        ({"smoothing": 3}, {"smooth": True, "window_size": 3}),
        ({"cooldown_units": 2, "warmup_units": 1}, {"cooldown": 2, "warmup": 1}),
        ({"threshold": 0.5}, {"threshold": 0.5}),
        ({"min_lr": 0.08, "max_lr": 0.12}, {"min_lr": 0.08, "max_lr": 0.12}),
        (
            {"min_lr": 0.09, "factor": 0.5, "patience": 0, "reset_after": 1},
            {"min_lr": 0.09, "factor": 0.5, "patience": 0, "reset_start": 1},
        ),
    ],
    ids=repr,
)
def test_it_is_the_package_s(fields, options):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = GreedyLR(optimizer, **{"patience": 1, "min_lr": 1e-3, "max_lr": 1.0, **options})
    expected = []
    for metric in METRICS:
        scheduler.step(metric)
        expected.append(optimizer.param_groups[0]["lr"])
    found = play(make(**fields), METRICS)
    assert found == expected
    assert len(set(found)) > 1


def test_it_goes_on_from_the_lr_in_force():
    controller = make(patience=0, factor=0.5)
    controller.start({"lr": 0.1})
    controller.observe(1.0, 1)
    assert controller.propose({"lr": 0.01}) == {"lr": 0.02}


def test_a_reset_goes_back_to_the_lr_of_the_start():
    lrs = play(make(patience=0, factor=0.5, min_lr=0.09, reset_after=1), [1.0, 2.0, 2.0], lr=0.1)
    assert lrs[-1] == 0.1  # raised, cut, cut to 0.09, which is the smallest: begun anew


@pytest.mark.parametrize("fields", [{}, {"smoothing": 3}], ids=repr)
def test_it_resumes_from_a_file(fields, tmp_path):
    whole = play(make(**fields), METRICS)
    for cut in (1, 7, 20):
        live = make(**fields)
        play(live, METRICS[:cut])
        torch.save(live.state_dict(), tmp_path / "state.pt")
        resumed = make(**fields)
        resumed.start({"lr": 0.1})
        resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        lr, rest = whole[cut - 1], []
        for step, metric in enumerate(METRICS[cut:], start=cut + 1):
            resumed.observe(metric, step)
            lr = resumed.propose({"lr": lr})["lr"]
            rest.append(lr)
        assert rest == whole[cut:]


def test_the_unit_of_time_is_an_epoch_or_a_step():
    assert CONTROLLERS["greedy_lr"]().interval is None
    assert CONTROLLERS["greedy_lr"](per="step").interval == 1
    assert "observe" in CONTROLLERS["greedy_lr"](per="step").idle_keys()


def test_what_cannot_be_is_said(monkeypatch):
    with pytest.raises(ValueError, match=r"min_lr must lie below max_lr, got 0\.5 and 0\.1"):
        make(min_lr=0.5, max_lr=0.1)
    monkeypatch.setitem(sys.modules, "transformers.optimization", types.ModuleType("old"))
    with pytest.raises(ValueError, match=r"needs transformers 5\.4 or newer.*autotunenet\[peers\]"):
        make()
