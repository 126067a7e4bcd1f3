"""The earlier autotunenet, 1.0.2 of the package index, in a process and an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from autotunenet import SearchSpace
from autotunenet.controllers import Controller
from autotunenet.space import Float
from autotunenet.state import check_keys, copy_plain
from autotunenet.types import Hyperparams
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.legacy_process import LegacyProcess
from autotunenet_bench.types import Horizon

VARIABLE = "AUTOTUNENET_LEGACY_PYTHON"
"""Environment variable with the interpreter of the other environment."""

VERSION = "1.0.2"

HOW_TO = (
    "make one with\n"
    "    python -m venv legacy\n"
    f"    legacy/bin/pip install autotunenet=={VERSION}\n"
    f"and set {VARIABLE}=legacy/bin/python, or the key python; or leave this controller out"
)


class AutoTuneNet102Config(ControllerConfig):
    """The earlier autotunenet 1.0.2, as its README has it: asked once an epoch.

    github.com/mitishraina/AutoTuneNet. It has the same import name as this package, so it runs in an environment of its
    own, named by the key `python` or the variable AUTOTUNENET_LEGACY_PYTHON. Its own `PyTorchHyperParameterAdapter`
    decides, on a stand-in for the optimizer with the values in force: at the end of an epoch it suggests values, puts
    them in force, and credits them with the metric of the epoch that is over. Its own safeguards are on, as in its
    README; ours are off, as for every method that brings its own. Lower is better here and higher there, so the sign of
    the metric is turned.
    """

    name: Literal["autotunenet_1_0_2"] = "autotunenet_1_0_2"
    python: str | None = Field(
        None, min_length=1, description="interpreter of the other environment; null: AUTOTUNENET_LEGACY_PYTHON"
    )
    tune_n_steps: int = Field(1, ge=1, description="epochs between two suggestions")
    warmup_epochs: int = Field(2, ge=0, description="epochs at the start in which it suggests nothing")
    own_max_delta: float | None = Field(
        0.5, gt=0, lt=1, description="its own bound on the relative change of a value; null: none, as it has by default"
    )
    low: float = Field(0.01, gt=0, description="smallest value, as a multiple of the initial one; its README has 0.01")
    high: float = Field(10.0, gt=0, description="largest value, as a multiple of the initial one; its README has 10")
    timeout: float = Field(120.0, gt=0, le=3600, description="seconds that it may take for one answer")

    @model_validator(mode="after")
    def _ordered(self) -> AutoTuneNet102Config:
        if self.low >= self.high:
            raise ValueError(f"low must lie below high, got {self.low:g} and {self.high:g}")
        return self

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller; its process starts when it is first asked.

        Raises:
            ValueError: If there is no interpreter, or the package is not there in that version.
        """
        python = find_python(self.python)
        options = {
            "seed": seed % 2**32,
            "tune_n_steps": self.tune_n_steps,
            "warmup_epochs": self.warmup_epochs,
            "max_delta": self.own_max_delta,
        }
        return AutoTuneNet102(python, space, (self.low, self.high), options, self.timeout)


class AutoTuneNet102(Controller):
    """Asks a process with the earlier package, and can begin another one where a saved run left off.

    A process cannot be saved. What it was told is: on resume a fresh one is told all of it again, and has to answer as
    the first one did.

    Args:
        python: Interpreter that has the earlier package.
        space: What may be tuned; bounds the boxes.
        multiples: Smallest and largest value as multiples of the initial one.
        options: Seed and safeguards of the earlier package.
        timeout: Seconds that one answer may take.
    """

    def __init__(
        self,
        python: str,
        space: SearchSpace,
        multiples: tuple[float, float],
        options: Mapping[str, Any],
        timeout: float,
    ) -> None:
        self._python, self._space, self._multiples = python, space, multiples
        self._options, self._timeout = dict(options), timeout
        self._initial: dict[str, float] = {}
        self._metric: float | None = None
        self._told: list[list[Any]] = []  # values in force, metric, answer
        self._process: LegacyProcess | None = None

    def start(self, initial: Hyperparams) -> Hyperparams:
        """Keep the user's values."""
        self.close()
        self._initial = {name: float(value) for name, value in initial.items() if name in self._space}
        self._told = []
        return dict(initial)

    def observe(self, metric: float, step: int) -> None:
        """Take note of one epoch."""
        self._metric = float(metric)

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return what the earlier package puts in force.

        Raises:
            RuntimeError: If its process fails, or takes too long.
        """
        if self._metric is None:
            return dict(current_params)
        process = self._running()
        params = {name: float(current_params[name]) for name in self._initial if name in current_params}
        metric = -self._metric
        answer = process.ask({"do": "epoch", "params": params, "metric": metric})["params"]
        self._told.append([params, metric, answer])
        return dict(answer)

    def _running(self) -> LegacyProcess:
        """Return the process, told all that has happened so far."""
        if self._process is None:
            process = LegacyProcess(self._python, self._timeout)
            try:
                self._tell_again(process)
            except BaseException:
                process.close()
                raise
            self._process = process
        return self._process

    def _tell_again(self, process: LegacyProcess) -> None:
        boxes = {name: self._box(name, value) for name, value in self._initial.items()}
        process.ask({"do": "start", "params": self._initial, "boxes": boxes, **self._options})
        for number, (params, metric, before) in enumerate(self._told, start=1):
            answer = process.ask({"do": "epoch", "params": params, "metric": metric})["params"]
            if answer != before:
                raise RuntimeError(
                    f"autotunenet {VERSION} answers otherwise than in the saved run: {answer} after epoch {number}, "
                    f"{before} then. Resume with the environment that the run began with (its optuna and numpy)."
                )

    def _box(self, name: str, initial: float) -> list[float]:
        dimension = self._space[name]
        if not isinstance(dimension, Float):
            raise ValueError(f"autotunenet_1_0_2 is asked for real values only here; take {name} out of the space")
        low, high = (dimension.clip(initial * multiple) for multiple in self._multiples)
        return [low, high] if low < high else [dimension.low, dimension.high]

    def close(self) -> None:
        """End the process; a later question starts another one."""
        if self._process is not None:
            self._process.close()
        self._process = None

    def state_dict(self) -> dict[str, Any]:
        """Return all that the process was told."""
        return {"initial": dict(self._initial), "metric": self._metric, "told": copy_plain(self._told)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, with a fresh process.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("initial", "metric", "told"))
        self.close()
        self._initial, self._metric = dict(state_dict["initial"]), state_dict["metric"]
        self._told = copy_plain(state_dict["told"])


def find_python(given: str | None) -> str:
    """Return the interpreter of the environment that has autotunenet 1.0.2.

    Args:
        given: What the config says; None: the environment variable decides.

    Raises:
        ValueError: If there is none, or it has another version, or none.
    """
    where = "the key python" if given else VARIABLE
    wanted = given or os.environ.get(VARIABLE)
    if not wanted:
        raise ValueError(f"autotunenet_1_0_2 needs an environment with autotunenet {VERSION}: {HOW_TO}")
    python = shutil.which(wanted)
    if python is None:
        raise ValueError(f"{where} names {wanted!r}, which cannot be run; {HOW_TO}")
    python = os.path.abspath(python)  # not resolved: the interpreter of an environment is a link
    code = "from importlib import metadata; print(metadata.version('autotunenet'))"
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{where} names {wanted!r}, which is no Python that runs ({error}); {HOW_TO}") from error
    if done.returncode != 0 or done.stdout.strip() != VERSION:
        found = done.stdout.strip() if done.returncode == 0 else "none"
        raise ValueError(f"{wanted!r} should have autotunenet {VERSION} and has {found or 'none'}; {HOW_TO}")
    return python
