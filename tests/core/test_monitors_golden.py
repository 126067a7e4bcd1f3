"""The monitors give the verdicts of plain, slow references that recompute everything at every step."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autotunenet import Health
from autotunenet.monitors import MONITORS, NonFinite, Overshoot, Regression, Spike, WorstOf, _recent
from autotunenet.monitors._recent import RecentLosses
from autotunenet.testing import same

STABLE, SUSPECT, UNSTABLE = Health.STABLE, Health.SUSPECT, Health.UNSTABLE


class TieError(Exception):
    """Two numbers that are compared are equal up to rounding: either verdict is right."""


def above(a, b):
    """Whether a > b. Raises where that hangs on the last digits, zeros apart: nothing is rounded there."""
    if a != b and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12):
        raise TieError
    return a > b


class PlainSpike:
    def __init__(self, *, window=128, min_count=64, num_sigmas=6.0, patience=3, span=20, min_rise=1e-3):
        self.window, self.min_count, self.num_sigmas = window, min_count, num_sigmas
        self.patience, self.span, self.min_rise = patience, span, min_rise
        self.scale, self.recent, self.spikes = 0.0, [], []

    def is_spike(self, loss):
        if not math.isfinite(loss):
            return True
        return len(self.recent) >= self.min_count and above(loss, sum(self.mean_and_limit()))

    def mean_and_limit(self):
        mean = math.fsum(self.recent) / len(self.recent)
        sigma = math.sqrt(math.fsum((x - mean) * (x - mean) for x in self.recent) / len(self.recent))
        return mean, max(self.num_sigmas * sigma, 2 * (max(self.recent) - mean), self.min_rise * self.scale)

    def update(self, loss, step):
        if not self.is_spike(loss):
            self.scale = self.scale or abs(loss)
            self.recent = [*self.recent, loss][-self.window :]
            return STABLE
        self.spikes = [s for s in self.spikes if s > step - self.span] + [step]
        return UNSTABLE if len(self.spikes) >= self.patience else SUSPECT

    def reset(self, loss):
        self.spikes = []
        if len(self.recent) >= self.min_count and math.isfinite(loss):
            mean, limit = self.mean_and_limit()
            if not above(abs(loss - mean), limit):
                return
        self.recent = []


class PlainRegression:
    def __init__(self, *, rtol=0.5, atol=None, patience=5, window=20, cooldown=0, num_sigmas=3.0):
        self.rtol, self.atol, self.patience, self.window, self.cooldown = rtol, atol, patience, window, cooldown
        self.num_sigmas, self.last, self.num, self.apart, self.sigma = num_sigmas, None, 0, 0.0, 0.0
        self.reference, self.scale, self.recent, self.breaches, self.left = None, 0.0, [], 0, 0

    def update(self, loss, step):
        cooling, self.left = self.left > 0, max(0, self.left - 1)
        is_breach = self.is_breach(loss)
        if math.isfinite(loss):
            self.note(loss)
        if is_breach:
            self.breaches += 1
            return UNSTABLE if self.breaches >= self.patience and not cooling else SUSPECT
        self.breaches = 0
        had_no_scale, self.scale = self.scale == 0.0, self.scale or abs(loss)
        self.recent = [*self.recent, loss][-self.window :]
        if self.reference is None or had_no_scale:
            self.reference = loss
        elif len(self.recent) == self.window:
            mean = math.fsum(self.recent) / self.window
            if mean < self.reference:
                self.reference, self.sigma = mean, sigma_of(self.apart)
        return STABLE

    def note(self, loss):
        if self.last is not None:
            self.num = min(32, self.num + 1)
            apart = min(abs(loss - self.last), max(4 * self.apart, self.scale / 20))
            self.apart = (1 - 1 / self.num) * self.apart + apart / self.num
            if self.num < 32:
                self.sigma = sigma_of(self.apart)
        self.last = loss

    def is_breach(self, loss):
        if not math.isfinite(loss):
            return True
        if self.reference is None or not self.scale:
            return False
        atol = 0.05 * self.scale if self.atol is None else self.atol
        margin = self.rtol * abs(self.reference) + atol
        return above(loss, self.reference + max(margin, self.num_sigmas * self.sigma))

    def reset(self, loss):
        self.last, self.num = None, min(self.num, 8)
        self.reference = loss if math.isfinite(loss) else None
        self.scale = self.scale or (abs(loss) if math.isfinite(loss) else 0.0)
        self.recent, self.breaches, self.left = [], 0, self.cooldown


def sigma_of(mean_apart):
    """The mean |x - y| of two normal numbers is 2 / sqrt(pi) standard deviations."""
    return mean_apart * math.sqrt(math.pi) / 2


class PlainOvershoot:
    def __init__(self):
        self.first, self.level, self.num = 0.0, 0.0, 0

    def update(self, loss, step):
        normal = max(self.first, self.level)
        if math.isfinite(loss) and not (normal > 0 and above(loss, 4 * normal)):
            self.num, magnitude = 0, abs(loss)
            self.first = self.first or magnitude
            self.level = magnitude if self.level == 0 else self.level + 0.05 * (magnitude - self.level)
            return STABLE
        self.num += 1
        return UNSTABLE if not math.isfinite(loss) or above(loss, 100 * normal) or self.num >= 2 else SUSPECT

    def reset(self, loss):
        self.num = 0
        if math.isfinite(loss):
            self.first, self.level = self.first or abs(loss), abs(loss)


class PlainWorst:
    def __init__(self, *monitors):
        self.monitors = monitors

    def update(self, loss, step):
        verdicts = [monitor.update(loss, step) for monitor in self.monitors]
        return max(verdicts, key=[STABLE, SUSPECT, UNSTABLE].index)

    def reset(self, loss):
        for monitor in self.monitors:
            monitor.reset(loss)


PAIRS = {
    "spike": (Spike, PlainSpike),
    "small spike": (
        lambda: Spike(window=5, min_count=3, patience=2, span=4, num_sigmas=2.0),
        lambda: PlainSpike(window=5, min_count=3, patience=2, span=4, num_sigmas=2.0),
    ),
    "regression": (Regression, PlainRegression),
    "small regression": (
        lambda: Regression(window=3, patience=2, cooldown=2, atol=0.01, rtol=0.1),
        lambda: PlainRegression(window=3, patience=2, cooldown=2, atol=0.01, rtol=0.1),
    ),
    "regression on one loss": (lambda: Regression(window=1), lambda: PlainRegression(window=1)),
    "overshoot": (Overshoot, PlainOvershoot),
    "all": (
        lambda: WorstOf(Overshoot(), Regression(), Spike()),
        lambda: PlainWorst(PlainOvershoot(), PlainRegression(), PlainSpike()),
    ),
}


def agree(make, make_plain, losses, resets=()):
    """Compare the verdicts, up to the first loss on which either is right."""
    monitor, plain = make(), make_plain()
    for step, loss in enumerate(losses, start=1):
        try:
            expected = plain.update(loss, step)
            assert monitor.update(loss, step) is expected, f"step {step}, loss {loss}"
            if step in resets:
                plain.reset(resets[step])
                monitor.reset(resets[step])
        except TieError:
            return step
    return len(losses)


def recorded(seed, num_steps, scale=1.0):
    """Losses as trainings give them: falling, noisy, with bursts, a step up, a few wild ones and some not finite."""
    rng = np.random.default_rng(seed)
    t = np.arange(num_steps)
    level = (0.05 + 2.2 * np.exp(-t / 80)) * np.where((t > 0.6 * num_steps) & (t < 0.7 * num_steps), 4.0, 1.0)
    losses = level * rng.lognormal(0.0, 0.3, num_steps)
    losses[rng.random(num_steps) < 0.02] *= 15.0
    losses[rng.random(num_steps) < 0.003] *= rng.choice([1e13, 1e-13, np.nan, np.inf])
    return [scale * float(loss) for loss in losses]


@pytest.mark.parametrize("scale", [1.0, 100.0, -3.0])
@pytest.mark.parametrize("pair", PAIRS)
def test_equal_to_the_reference_on_losses_like_recorded_ones(pair, scale):
    compared = 0
    for seed in range(4):
        losses = recorded(seed, 900, scale)
        resets = {250 * k: losses[250 * k - 9] for k in (1, 2)} | {600: scale * 9.0, 750: math.nan}
        compared += agree(*PAIRS[pair], losses, resets)
    assert compared > 2000, "ties should be rare here"


VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0, 1.1, 0.9, 1.3, 2.0, 9.0, -1.0, 1e13, 1e200, -1e200, math.nan, math.inf, -math.inf]),
    st.floats(0.5, 1.5),
    st.floats(),
)


@pytest.mark.parametrize("pair", PAIRS)
@given(
    losses=st.lists(VALUES, min_size=3, max_size=60),
    repeats=st.integers(1, 4),
    resets=st.dictionaries(st.integers(1, 200), VALUES, max_size=3),
)
def test_equal_to_the_reference_on_any_losses(pair, losses, repeats, resets):
    assume(not any(1e290 < abs(loss) < math.inf for loss in losses))  # sums overflow, each in its own way
    agree(*PAIRS[pair], losses * repeats, resets)


@pytest.mark.parametrize("name", MONITORS)
@given(
    losses=st.lists(VALUES, min_size=1, max_size=40),
    calm=st.integers(0, 150),
    cut=st.floats(0, 1),
    reset=st.none() | VALUES,
)
def test_a_saved_monitor_goes_on_bit_for_bit_from_any_step(name, losses, calm, cut, reset):
    make = MONITORS[name] if name != "worst_of" else lambda: WorstOf(NonFinite(), Overshoot(), Regression(), Spike())
    losses = [1.0 + 0.1 * math.sin(t) for t in range(calm)] + losses
    live, resumed = make(), make()
    at = int(cut * len(losses))
    for step, loss in enumerate(losses[:at], start=1):
        live.update(loss, step)
    if reset is not None:
        live.reset(reset)
    resumed.load_state_dict(live.state_dict())
    for step, loss in enumerate(losses[at:], start=at + 1):
        assert live.update(loss, step) is resumed.update(loss, step)
    assert same(live.state_dict(), resumed.state_dict())


# -- the statistics of the last losses -------------------------------------------------------------------------------


@given(
    window=st.integers(1, 9),
    values=st.lists(st.floats(-1e6, 1e6) | st.sampled_from([1e150, -1e150, 0.0]), min_size=1, max_size=60),
)
def test_recent_losses_are_those_of_the_window(window, values):
    recent = RecentLosses(window)
    for i, value in enumerate(values, start=1):
        recent.push(value)
        kept = values[max(0, i - window) : i]
        size = max(map(abs, kept))
        assert (recent.num, recent.maximum) == (len(kept), max(kept))
        assert recent.mean == pytest.approx(statistics.fmean(kept), rel=1e-12, abs=1e-12 * size + 1e-140)
        assert math.sqrt(recent.variance) == pytest.approx(statistics.pstdev(kept), rel=1e-6, abs=1e-7 * size + 1e-140)
    recent.clear()
    assert (recent.num, recent.mean, recent.variance, recent.maximum) == (0, 0.0, 0.0, -math.inf)


def test_no_rounding_outlives_its_window():
    recent = RecentLosses(4)
    for value in (1e200, 1e13, -1e200, *[0.1, 0.2] * 50_000):
        recent.push(value)
    assert recent.mean == pytest.approx(0.15, rel=1e-15)
    assert recent.variance == pytest.approx(0.0025, rel=1e-14)


@pytest.mark.parametrize("window", [16, 1024])
def test_a_step_costs_the_same_whatever_the_window(window, monkeypatch):
    """Counted in values averaged in, not in seconds."""
    recent, num_calls, original = RecentLosses(window), 0, _recent._with

    def counting(part, value):
        nonlocal num_calls
        num_calls += 1
        return original(part, value)

    monkeypatch.setattr(_recent, "_with", counting)
    for value in range(8 * window):
        recent.push(float(value))
    assert num_calls <= 2 * 8 * window
