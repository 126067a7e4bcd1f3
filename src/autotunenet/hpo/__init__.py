"""Offline search: the same training again and again, each time with other hyperparameters."""

from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.export import to_optuna_study
from autotunenet.hpo.grid_search import GridSearch
from autotunenet.hpo.halving import Hyperband, SuccessiveHalving
from autotunenet.hpo.optuna_search import OptunaSearch
from autotunenet.hpo.random_search import RandomSearch
from autotunenet.hpo.trial import Cost, Trial, TrialState

SEARCHES: dict[str, type[Search]] = {
    "grid": GridSearch,
    "random": RandomSearch,
    "optuna": OptunaSearch,
}

__all__ = [
    "SEARCHES",
    "Cost",
    "Direction",
    "GridSearch",
    "Hyperband",
    "OptunaSearch",
    "RandomSearch",
    "Search",
    "SuccessiveHalving",
    "Trial",
    "TrialState",
    "to_optuna_study",
]
