"""Searches over trainings, as configs say them. One file a member, registered here; the searches are the library's."""

from autotunenet_bench.searches.base import SearchConfig
from autotunenet_bench.searches.grid_search import GridSearchConfig
from autotunenet_bench.searches.optuna_search import OptunaSearchConfig
from autotunenet_bench.searches.random_search import RandomSearchConfig
from autotunenet_bench.searches.surrogate_search import SurrogateSearchConfig

SEARCHES: dict[str, type[SearchConfig]] = {
    "grid": GridSearchConfig,
    "random": RandomSearchConfig,
    "surrogate": SurrogateSearchConfig,
    "optuna": OptunaSearchConfig,
}

__all__ = ["SEARCHES", "SearchConfig"]
