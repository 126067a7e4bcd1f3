"""Stand-ins with which a test says exactly what happens."""

import math

from autotunenet import Float, Health, SearchSpace, SnapshotBuffer, Tuner
from autotunenet.controllers import Controller
from autotunenet.monitors import Monitor

STABLE, SUSPECT, UNSTABLE = Health.STABLE, Health.SUSPECT, Health.UNSTABLE


class NumberRun:
    """A run whose whole state is one number; buffers are one-element lists, filled in place."""

    def __init__(self, weight=0.0, **hyperparams):
        self.weight, self.hyperparams = weight, hyperparams or {"lr": 0.1}
        self.allocated = []

    def get_hyperparams(self):
        return dict(self.hyperparams)

    def set_hyperparams(self, hyperparams):
        if unknown := hyperparams.keys() - self.hyperparams.keys():
            raise KeyError(*unknown)
        self.hyperparams.update(hyperparams)

    def copy_into(self, buffers):
        if buffers is None:
            buffers = {"weight": [math.nan]}
            self.allocated.append(buffers)
        buffers["weight"][0] = self.weight
        return buffers

    def copy_from(self, buffers):
        self.weight = buffers["weight"][0]


class Scripted(Controller):
    """Proposes what it was told, in turn, then holds; `calls` is everything it was asked."""

    state_names = ("num",)

    def __init__(self, *proposals, start=None):
        self.proposals, self.first, self.num = proposals, start, 0
        self.calls = []

    def start(self, initial):
        self.calls.append(("start", dict(initial)))
        return self.first or initial

    def observe(self, metric, step):
        self.calls.append(("observe", metric, step))

    def propose(self, current_params):
        self.calls.append(("propose", dict(current_params)))
        self.num += 1
        return self.proposals[self.num - 1] if self.num <= len(self.proposals) else dict(current_params)

    def follow(self, current_params):
        self.calls.append(("follow", dict(current_params)))

    def called(self, method):
        return [call[1:] for call in self.calls if call[0] == method]


class Verdicts(Monitor):
    """Says at each step what it was told, else stable; `resets` is what it was anchored at."""

    def __init__(self, verdicts=()):
        self.verdicts, self.resets = dict(verdicts), []

    def update(self, loss, step):
        return self.verdicts.get(step, STABLE)

    def reset(self, loss):
        self.resets.append(loss)


def new_tuner(*proposals, run=None, verdicts=(), scope="full", **kwargs):
    """Return a tuner over scripted parts, all of which can be given instead."""
    run = run or NumberRun()
    boxes = {"lr": Float(1e-4, 1.0, log=True), "momentum": Float(0.0, 0.99), "weight_decay": Float(0.0, 1.0)}
    space = kwargs.pop("space", None) or SearchSpace({name: boxes[name] for name in run.hyperparams})
    kwargs.setdefault("controller", Scripted(*proposals))
    kwargs.setdefault("monitor", Verdicts(verdicts))
    kwargs.setdefault("snapshots", SnapshotBuffer(run, scope))
    return Tuner(run, space, **kwargs), run


def broken_at(*steps, **kwargs):
    """A tuner with the weight 1.0 in its good state; unstable at the steps given."""
    kwargs.setdefault("run", NumberRun(1.0))
    return new_tuner(verdicts=dict.fromkeys(steps, UNSTABLE), **kwargs)


def feed(tuner, losses):
    return [tuner.step(loss) for loss in losses]


def actions(tuner):
    return [decision.action.value for decision in tuner.history]
