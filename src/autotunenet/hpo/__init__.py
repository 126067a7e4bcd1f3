"""Offline search: the same training again and again, each time with other hyperparameters."""

from autotunenet.hpo.acquisitions import ACQUISITIONS
from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.designs import DESIGNS
from autotunenet.hpo.grid_search import GridSearch
from autotunenet.hpo.random_search import RandomSearch
from autotunenet.hpo.surrogate_search import SurrogateSearch
from autotunenet.hpo.surrogates import SURROGATES, GaussianProcess, RandomForest, Surrogate
from autotunenet.hpo.trial import Cost, Trial, TrialState

SEARCHES: dict[str, type[Search]] = {
    "grid": GridSearch,
    "random": RandomSearch,
    "surrogate": SurrogateSearch,
}

__all__ = [
    "ACQUISITIONS",
    "DESIGNS",
    "SEARCHES",
    "SURROGATES",
    "Cost",
    "Direction",
    "GaussianProcess",
    "GridSearch",
    "RandomForest",
    "RandomSearch",
    "Search",
    "Surrogate",
    "SurrogateSearch",
    "Trial",
    "TrialState",
]
