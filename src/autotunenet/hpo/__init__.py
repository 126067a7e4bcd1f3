"""Offline search: the same training again and again, each time with other hyperparameters."""

from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.grid_search import GridSearch
from autotunenet.hpo.halving import Hyperband, SuccessiveHalving
from autotunenet.hpo.random_search import RandomSearch
from autotunenet.hpo.trial import Cost, Trial, TrialState

__all__ = [
    "Cost",
    "Direction",
    "GridSearch",
    "Hyperband",
    "RandomSearch",
    "Search",
    "SuccessiveHalving",
    "Trial",
    "TrialState",
]
