"""Trials after an alarm, over runs made of plain numbers."""

import math
from types import SimpleNamespace

from doubles import SUSPECT, UNSTABLE, NumberRun, Scripted, new_tuner

from autotunenet.attribution import Attribution

NAN, INF = math.nan, math.inf
ALARM = 71  # the good state is that of step 50, which ten losses have proven


def alarms(*steps):
    """Verdicts with alarms at these steps; one needs three losses in a row that are not healthy."""
    return {s + i: verdict for s in steps for i, verdict in zip((-2, -1, 0), (SUSPECT, SUSPECT, UNSTABLE), strict=True)}


class Trial:
    """A run whose weight counts the steps that are not lost; a knob turns, or the data do, before an alarm."""

    def __init__(self, *steps, replay=None, scope="full", controller=None, run=None, **kwargs):
        self.run = run or NumberRun(0.0)
        self.replayed = []
        self.controller = controller or Scripted()

        def again(batch):
            self.replayed.append((self.run.weight, self.run.hyperparams["lr"], batch))
            self.run.weight += 1
            return replay(batch)

        self.tuner, _ = new_tuner(
            run=self.run,
            verdicts=alarms(*steps or (ALARM,)),
            scope=scope,
            attribution=Attribution(),
            replay=again if replay else None,
            controller=self.controller,
            **kwargs,
        )
        self.num_steps = 0

    def feed(self, *losses):
        decisions = []
        for loss in losses:
            self.num_steps += 1
            self.run.weight += 1
            decisions.append(self.tuner.step(loss, self.num_steps))
        return decisions

    @property
    def recorded(self):
        return sum(decision.discarded_steps for decision in self.tuner.history)

    @property
    def lost(self):
        return self.num_steps - self.run.weight


class Inspected(NumberRun):
    """Tells a broken network from a broken signal."""

    def has_finite_weights(self):
        return math.isfinite(self.weight)


class Hearing(Scripted):
    def forget(self, step):
        self.calls.append(("forget", step))

    def rewarm(self, current_params):
        self.calls.append(("rewarm", dict(current_params)))
        return {}


class Rewarming(Scripted):
    """Wants a thousandth of lr after a change of the data."""

    def rewarm(self, current_params):
        return {"lr": current_params["lr"] / 1000}


def alarmed(*steps, loss=9.0, lr=None, **kwargs):
    trial = Trial(*steps, **kwargs)
    trial.feed(*[1.0] * (ALARM - 3), loss, loss)
    if lr is not None:
        trial.run.hyperparams["lr"] = lr
    return trial, trial.feed(loss)[0]


class Harm(NumberRun):
    """An update above lr 0.5 does lasting harm; batches are what the data add to a loss of 1."""

    harm = 8.0

    def train(self, batch):
        loss = 1.0 + batch + self.harm * (self.weight >= 1000)
        self.weight += 1 + 1000 * (self.hyperparams["lr"] > 0.5)
        return loss


class FarHarm(Harm):
    """Its losses are on an accelerator, and heard two steps late."""

    def send_for(self, loss):
        return SimpleNamespace(value=lambda: loss)


class Twins:
    def __init__(self, *steps, replay=True, run=None, **kwargs):
        self.run = run or Harm(0.0)
        self.batches = []
        self.replayed, self.lrs = [], []
        self.tuner, _ = new_tuner(
            run=self.run, verdicts=alarms(*steps or (ALARM,)), attribution=Attribution(),
            replay=self.again if replay else None, **kwargs,
        )  # fmt: skip

    def again(self, batch):
        self.replayed.append(batch)
        self.lrs.append(self.run.hyperparams["lr"])
        return self.run.train(batch)

    def feed(self, num, batch=0.0, lr=None):
        if lr is not None:
            self.run.hyperparams["lr"] = lr
        decision = None
        for _ in range(num):
            self.batches.append(batch)
            decision = self.tuner.step(self.run.train(batch), batch)
        return decision
