"""What judging one step costs: ``python -m pytest benchmarks/bench_monitors.py -p no:xdist``.

Not part of the test suite: times depend on the machine. Read the column of the minimum; each round is 1,000 steps, so
milliseconds in the table are microseconds a step.
"""

import math

import pytest

from autotunenet.monitors import (
    MONITORS,
    ChangePoint,
    Collapse,
    Monitor,
    NonFinite,
    Overshoot,
    Regression,
    Spike,
    WorstOf,
)

NUM_STEPS = 1000
LOSSES = [2.0 * math.exp(-t / 300) + 0.2 + 0.05 * math.sin(7.1 * t) for t in range(2 * NUM_STEPS)]

MAKERS = {
    **MONITORS,
    "worst_of": lambda: WorstOf(NonFinite(), Overshoot(), Regression(), Spike()),
    "all": lambda: WorstOf(NonFinite(), Overshoot(), Regression(), Spike(), Collapse(), ChangePoint()),
    "wide spike": lambda: Spike(window=1024),
    "wide regression": lambda: Regression(window=1024),
}


def warm(make) -> tuple[tuple[Monitor], dict]:
    """Return a monitor whose windows are full; a fresh one for every round."""
    monitor = make()
    for step, loss in enumerate(LOSSES[:NUM_STEPS], start=1):
        monitor.update(loss, step)
    return (monitor,), {}


def judge(monitor: Monitor) -> None:
    """Judge the 1,000 steps that follow."""
    for step, loss in enumerate(LOSSES[NUM_STEPS:], start=NUM_STEPS + 1):
        monitor.update(loss, step)


@pytest.mark.parametrize("name", MAKERS)
def test_cost_of_1000_steps(benchmark, name):
    """Time rounds of 1,000 steps, each with a monitor of its own."""
    benchmark.pedantic(judge, setup=lambda: warm(MAKERS[name]), rounds=30, warmup_rounds=2)
