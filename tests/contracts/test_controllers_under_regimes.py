"""Every controller under every kind of every regime: short real runs, through the entry that workers use."""

from __future__ import annotations

import pytest

from autotunenet_bench.config import ConfigError
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.autotunenet_1_0_2 import VARIABLE
from autotunenet_bench.controllers.offline import OfflineConfig
from autotunenet_bench.testing.controllers import HORIZONS, SPACE, regimes, runs_under_every_regime
from autotunenet_bench.testing.rules import Subject
from autotunenet_bench.testing.runs import check_run, make_spec, suits

pytestmark = pytest.mark.slow

REGIMES = [pytest.param(regime, id=regime.display) for regime in regimes()]


def is_installed(name):
    """Whether a controller's own package is there, asked in the way that users are."""
    try:
        CONTROLLERS[name]().check_run(HORIZONS[1], SPACE, seed=0)
    except ValueError as error:
        return "cannot be imported" not in str(error)
    return True


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_run_comes_to_its_end_with_sound_values_twice_the_same(name, regime, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)  # with its environment: tests/bench/test_autotunenet_1_0_2.py
    # One trial more than a sampler draws at random: its epochs are what the many runs of a search take.
    controller = CONTROLLERS[name](**({"num_trials": 3} if issubclass(CONTROLLERS[name], OfflineConfig) else {}))
    if name == "autotunenet_1_0_2" or not is_installed(name):
        with pytest.raises(ConfigError, match=r"make one with|pip install 'autotunenet"):  # before anything runs
            make_spec(controller, regime)
        return
    if suits(controller, regime):
        check_run(make_spec(controller, regime))
        return
    assert name == "dog"  # has an optimizer without momentum
    with pytest.raises(ConfigError, match=r"this optimizer has no momentum .*; use another kind, or another optimizer"):
        make_spec(controller, regime)


def test_a_run_that_goes_wrong_names_its_regime(monkeypatch):
    monkeypatch.setattr(CONTROLLERS["heuristic"], "build_stepping", lambda *arguments: 1 / 0)
    with pytest.raises(AssertionError, match="under stationary: ZeroDivisionError"):
        runs_under_every_regime(Subject(CONTROLLERS["heuristic"]))
