"""Synthetic trainings for the launch, and a drive that does with them what the tuner does."""

import math

import numpy as np

from autotunenet.launch import Launch, Move

NAN, INF = math.nan, math.inf
MAX_STEPS, WINDOW = 110, 12


class Quadratic:
    """SGD with a little gradient noise on 20 curvatures up to 1: best at lr 1, divergent from 2. Loss 1 + `floor`."""

    curvatures = np.geomspace(1e-2, 1.0, 20)

    def __init__(self, noise=0.0, floor=0.0, seed=0):
        self.noise, self.floor = noise, floor
        self.rng = np.random.default_rng(seed)
        self.state = np.ones(20)

    def step(self, lr):
        """Return the loss, then update: a loss belongs to the state before the step that follows it."""
        h = self.curvatures
        with np.errstate(all="ignore"):
            loss = float((h * self.state * self.state).sum() / h.sum()) + self.floor
            self.state = self.state - lr * h * (self.state + 0.05 * self.rng.standard_normal(20))
        return loss * (1 + self.noise * float(self.rng.standard_normal()))


class Law(Quadratic):
    """A loss that falls by 0.1 x lr a step up to lr 1, stands still up to 3, and grows beyond."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.state = 1.0

    def step(self, lr):
        loss = self.state + self.floor
        self.state *= 1 - 0.1 * lr if lr <= 1 else 1.0 if lr <= 3 else min(1 + lr, 100.0)
        return loss * (1 + self.noise * float(self.rng.standard_normal()))


class Breaking:
    """A loss times a factor that depends on lr, which may be NaN: from the next step on, as in a training."""

    def __init__(self, factor):
        self.factor, self.state = factor, 1.0

    def step(self, lr):
        loss = self.state
        self.state *= self.factor(lr)
        return loss


class Given:
    """Losses from a list or a function of lr, whatever is done."""

    state = None

    def __init__(self, losses):
        self.losses = iter(losses) if not callable(losses) else None
        self.law = losses if callable(losses) else None

    def step(self, lr):
        return self.law(lr) if self.law else next(self.losses)


class Drive:
    """Does with a training what the tuner does; checks every move's contract on the way.

    `gaps` are the numbers of the steps, from 1, whose loss the run calls a broken signal: the weights are finite.
    """

    def __init__(self, training, lr=0.1, box=(), gaps=(), **kwargs):
        self.training, self.launch, self.gaps = training, Launch(**kwargs), gaps
        assert self.launch.start(lr, *box) > 0
        self.kept = self.origin = None
        self.num_steps = self.num_discarded = self.since = self.useful = 0
        self.failed, self.lrs, self.reasons, self.answers = [], [], [], []

    def step(self):
        launch, lr = self.launch, self.launch.lr
        self.lrs.append(lr)
        loss = self.training.step(lr)
        was_done = launch.is_done
        move = launch.prove(loss) if was_done else launch.update(loss, is_gap=self.num_steps + 1 in self.gaps)
        self.num_steps += 1
        self.since += 1
        assert math.isfinite(launch.lr)
        assert launch.lr > 0
        if was_done and move is not Move.RESTART:
            return move
        self._follow(move)
        if move is not Move.GO_ON:
            assert launch.reason
            self.reasons.append(launch.reason)
            if " failed: " in launch.reason:
                self.failed.append(lr)
        if launch.is_done:
            assert launch.lr == launch.peak
            self.answers.append(launch.peak)
        return move

    def _follow(self, move):
        if move is Move.KEEP:
            self.kept = self.training.state
            if self.origin is None:
                self.origin = (self.kept,)
            else:
                self.useful += self.since
            self.since = 0
        elif move is Move.RETURN:
            # Nothing to go back to but the very first state before the calibration is over.
            self.training.state = self.training.state if self.kept is None else self.kept
            self.num_discarded, self.since = self.num_discarded + self.since, 0
        elif move is Move.REWIND:
            assert self.origin is not None
            self.training.state = self.origin[0]
            self.num_discarded, self.since = self.num_discarded + self.since, 0
        elif move is Move.RESTART:
            assert self.origin is not None
            self.training.state = self.kept = self.origin[0]
            self.num_discarded += self.since + self.useful
            self.since = self.useful = 0

    def run(self, limit=MAX_STEPS + 2 * WINDOW):
        while not self.launch.is_done:
            assert self.num_steps < limit, f"no end after {limit} steps; last lr {self.launch.lr:.3g}"
            self.step()
        return self.launch.peak
