"""Cut lr when the metric has stopped improving, and go back to the best weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, SupportsFloat

from autotunenet import Decision, SearchSpace, SnapshotBuffer, TrainingRun
from autotunenet.state import check_keys
from autotunenet.types import Action
from autotunenet_bench.controllers.base import OnlineTuner
from autotunenet_bench.controllers.plateau import PlateauConfig
from autotunenet_bench.types import Horizon


class PlateauBacktrackConfig(PlateauConfig):
    """ReduceLROnPlateau that goes back to the best weights when it cuts.

    What PyTorch's issue 2478 asks for since 2017 (github.com/pytorch/pytorch/issues/2478): the state of the best epoch
    is kept, weights and optimizer alike, and loaded whenever lr is cut.
    """

    name: Literal["plateau_backtrack"] = "plateau_backtrack"  # type: ignore[assignment]

    def build_tuner(
        self, run: TrainingRun, horizon: Horizon, space: SearchSpace, seed: int, **options: Any
    ) -> OnlineTuner:
        """Return the tuner of `plateau`, and the way back."""
        return BacktrackingTuner(super().build_tuner(run, horizon, space, seed, **options), run)


class BacktrackingTuner:
    """Keeps the state with the best metric, and goes back to it where the tuner inside has cut lr.

    Args:
        tuner: Decides about lr, once for every metric.
        run: The training.
    """

    def __init__(self, tuner: OnlineTuner, run: TrainingRun) -> None:
        self._tuner, self._run = tuner, run
        self._snapshots = SnapshotBuffer(run)
        self._best = math.inf

    def step(self, loss: SupportsFloat, batch: Any = None) -> Decision | None:
        """Take note of one optimizer step."""
        return self._tuner.step(loss, batch)

    def observe(self, metric: SupportsFloat) -> Decision | None:
        """Take note of a metric: keep the state that gave it, or go back."""
        decision = self._tuner.observe(metric)
        if decision is None:
            return None
        seen, applied = decision.observation, decision.applied
        if seen.metric < self._best:
            self._best = seen.metric
            self._snapshots.capture(seen.step, "best")
            return decision
        if applied["lr"] >= seen.hyperparams["lr"] or not self._snapshots.has("best"):
            return decision
        best = self._snapshots.restore_from("best")
        self._run.set_hyperparams(applied)
        reason = f"{decision.reason}; back to the best state, of step {best.step}"
        return replace(decision, action=Action.ROLLBACK, discarded_steps=seen.step - best.step, reason=reason)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit."""
        return {"tuner": self._tuner.state_dict(), "snapshots": self._snapshots.state_dict(), "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state; load model and optimizer first.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("tuner", "snapshots", "best"))
        self._tuner.load_state_dict(state_dict["tuner"])
        self._snapshots.load_state_dict(state_dict["snapshots"])
        self._best = state_dict["best"]
