"""Safe online hyperparameter adaptation inside a running training.

Read `autotunenet.tuner` first: it is the loop. This package imports no torch; `autotunenet.adapters.pytorch` does.
"""

from autotunenet.autotune import AutoTuneNet, make_tuner
from autotunenet.snapshots import Snapshot, SnapshotBuffer
from autotunenet.space import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.tuner import Tuner
from autotunenet.types import Action, Cause, Decision, Health, Hyperparams, Observation, Stateful, TrainingRun

__version__ = "0.1.0"

__all__ = [
    "Action",
    "AutoTuneNet",
    "Categorical",
    "Cause",
    "Decision",
    "Float",
    "Health",
    "Hyperparams",
    "Int",
    "Observation",
    "Ordinal",
    "SearchSpace",
    "Snapshot",
    "SnapshotBuffer",
    "Stateful",
    "TrainingRun",
    "Tuner",
    "make_tuner",
]
