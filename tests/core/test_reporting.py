"""A tuner tells its sinks everything, and a sink cannot harm a training."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from autotunenet import Action, AutoTuneNet
from autotunenet.reporting import LEVELS


class Recorder:
    def __init__(self):
        self.rows, self.decisions, self.closed = [], [], 0

    def log(self, values, step):
        self.rows.append((step, dict(values)))

    def event(self, decision):
        self.decisions.append(decision)

    def close(self):
        self.closed += 1


class Broken(Recorder):
    def log(self, values, step):
        super().log(values, step)
        raise OSError("no space left on device")


def train(sinks, num_steps=300, lr=50.0, schedule=False):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5) if schedule else None
    tuner = AutoTuneNet(model, optimizer, num_steps, sinks=sinks)
    inputs = torch.eye(4)
    for step in range(num_steps):
        loss = (model(inputs) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        tuner.step(loss)
        if step == 200:
            with torch.no_grad():
                model.weight.fill_(math.nan)
    return model, optimizer, tuner


def test_every_decision_and_its_numbers_arrive():
    sink = Recorder()
    _, optimizer, tuner = train([sink])
    assert sink.decisions == list(tuner.history)
    assert [step for step, _ in sink.rows] == [decision.observation.step for decision in tuner.history]
    last = sink.rows[-1][1]
    assert last == tuner.metrics()
    assert last["autotunenet/lr"] == optimizer.param_groups[0]["lr"]
    assert last["autotunenet/multiplier"] == last["autotunenet/lr"] / 50.0
    assert last["autotunenet/rollbacks"] == sum(d.action is Action.ROLLBACK for d in tuner.history)
    assert last["autotunenet/discarded_steps"] == sum(d.discarded_steps for d in tuner.history) > 0
    assert [row["autotunenet/health"] for _, row in sink.rows] == [LEVELS[d.health.value] for d in tuner.history]
    assert 2.0 in [row["autotunenet/health"] for _, row in sink.rows]


def test_lr_is_what_steps_use_under_a_scheduler_and_the_multiplier_leaves_its_factor_out():
    _, _, tuner = train([], lr=0.5, schedule=True)
    values = tuner.metrics()
    base = tuner.state_dict()["hyperparams"]["lr"]
    assert values["autotunenet/lr"] == pytest.approx(0.5 * base)
    assert values["autotunenet/multiplier"] == pytest.approx(base / 0.5)


def test_a_validation_metric_arrives_as_it_was_given():
    sink = Recorder()
    _, _, tuner = train([sink])
    assert "autotunenet/validation" not in tuner.metrics()
    tuner.observe(torch.tensor(0.25))
    assert sink.rows[-1] == (300, {"autotunenet/validation": 0.25})
    assert tuner.metrics()["autotunenet/validation"] == 0.25


class Resumable(Recorder):
    def __init__(self):
        super().__init__()
        self.resumes = []

    def resumed(self, step, num_reports):
        self.resumes.append((step, num_reports))


def test_sinks_hear_after_which_report_a_training_goes_on():
    before = Recorder()
    model, optimizer, tuner = train([before], num_steps=60)
    tuner.observe(0.5)
    state = tuner.state_dict()
    tuner.close()
    sink, plain = Resumable(), Recorder()
    again = AutoTuneNet(model, optimizer, 60, sinks=[plain, sink])
    again.load_state_dict(state)
    assert sink.resumes == [(60, len(before.rows))]
    with pytest.raises(ValueError, match="no state of"):
        again.load_state_dict({})
    assert len(sink.resumes) == 1
    again.observe(0.25)
    assert len(plain.rows) == len(sink.rows) == 1


def test_a_sink_that_fails_is_left_out_and_the_training_is_the_same(caplog):
    broken, good = Broken(), Recorder()
    with caplog.at_level(logging.ERROR, logger="autotunenet.reporting"):
        model, _, tuner = train([broken, good])
    assert len(broken.rows) == 1
    assert good.decisions == list(tuner.history)
    assert "Broken has failed" in caplog.text
    assert "no space left" in caplog.text
    for here, there in zip(model.parameters(), train([])[0].parameters(), strict=True):
        assert torch.equal(here, there)


def test_closing_the_tuner_closes_the_sinks_once():
    sink = Recorder()
    _, _, tuner = train([sink], num_steps=5)
    tuner.close()
    tuner.close()
    assert sink.closed == 1


def test_counts_go_on_after_a_resume():
    model, optimizer, tuner = train([])
    before, state = tuner.metrics(), tuner.state_dict()
    tuner.close()
    again = AutoTuneNet(model, optimizer, 300)
    again.load_state_dict(state)
    assert again.metrics() == before


@pytest.mark.parametrize("wrong", [Recorder, object(), "wandb"])
def test_what_is_no_sink_is_refused(wrong):
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TypeError, match=r"log\(\), event\(\) and close\(\)"):
        AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.1), sinks=[wrong])
    AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.1)).close()
