"""A process of its own around autotunenet 1.0.2: one line of JSON in, one line of JSON out.

Started by `autotunenet_1_0_2.py` with the interpreter of another environment, where the package `autotunenet` is the
earlier one. So this file imports nothing but the standard library and that package.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from importlib import metadata
from types import SimpleNamespace
from typing import Any

VERSION = "1.0.2"


class Session:
    """The package's own adapter on a stand-in for an optimizer: something that has param groups.

    Args:
        request: The values at the start, the box of each, the seed and the package's own safeguards.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        version = metadata.version("autotunenet")
        if version != VERSION:
            raise ImportError(f"this environment has autotunenet {version}, not {VERSION}")
        # By name: in the environment that checks the types of this file, `autotunenet` is another package.
        parameters = importlib.import_module("autotunenet.parameters")
        bayesian = importlib.import_module("autotunenet.bayesian_optimizer")
        adapter = importlib.import_module("autotunenet.adapters.pytorch.adapter")
        # A tuple is a range, as in its README; a list would be a choice.
        space = parameters.ParameterSpace({name: tuple(box) for name, box in request["boxes"].items()})
        self._group: dict[str, float] = dict(request["params"])
        self._adapter = adapter.PyTorchHyperParameterAdapter(
            SimpleNamespace(param_groups=[self._group]),
            bayesian.BayesianOptimizer(space, seed=request["seed"]),
            tune_n_steps=request["tune_n_steps"],
            warmup_epochs=request["warmup_epochs"],
            max_delta=request["max_delta"],
        )

    def epoch(self, params: dict[str, float], metric: float) -> dict[str, float]:
        """Tell of an epoch that was made with `params`; return the values for the next. Higher is better here."""
        self._group.update(params)
        self._adapter.on_epoch_end(metric)
        return {name: float(value) for name, value in self._group.items()}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the package prints; nothing but answers may stand between the answers
    session: Session | None = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request["do"] == "start":
                session = Session(request)
                answer: dict[str, Any] = {"version": VERSION}
            elif session is None:
                raise RuntimeError(f"the first request is start, got {request['do']}")
            else:
                answer = {"params": session.epoch(request["params"], request["metric"])}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
