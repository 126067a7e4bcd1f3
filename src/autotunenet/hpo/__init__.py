"""Offline search: the same training again and again, each time with other hyperparameters."""

from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.grid_search import GridSearch
from autotunenet.hpo.random_search import RandomSearch
from autotunenet.hpo.trial import Cost, Trial, TrialState

SEARCHES: dict[str, type[Search]] = {
    "grid": GridSearch,
    "random": RandomSearch,
}

__all__ = ["SEARCHES", "Cost", "Direction", "GridSearch", "RandomSearch", "Search", "Trial", "TrialState"]
