"""Offline search: the same training again and again, each time with other hyperparameters."""

from autotunenet.hpo.acquisitions import ACQUISITIONS
from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.budget import Budget
from autotunenet.hpo.designs import DESIGNS
from autotunenet.hpo.export import to_optuna_study
from autotunenet.hpo.grid_search import GridSearch
from autotunenet.hpo.halving import Hyperband, SuccessiveHalving
from autotunenet.hpo.journal import Journal
from autotunenet.hpo.objective import Ending, Objective, Outcome, RunningTrial
from autotunenet.hpo.optuna_search import OptunaSearch
from autotunenet.hpo.random_search import RandomSearch
from autotunenet.hpo.result import ConvergencePoint, TuneResult
from autotunenet.hpo.row_file import JournalError
from autotunenet.hpo.surrogate_search import SurrogateSearch
from autotunenet.hpo.surrogates import SURROGATES, GaussianProcess, RandomForest, Surrogate
from autotunenet.hpo.trial import Cost, Trial, TrialState
from autotunenet.hpo.tuning import TuneUpdate, tune

SEARCHES: dict[str, type[Search]] = {
    "grid": GridSearch,
    "random": RandomSearch,
    "surrogate": SurrogateSearch,
    "optuna": OptunaSearch,
}

__all__ = [
    "ACQUISITIONS",
    "DESIGNS",
    "SEARCHES",
    "SURROGATES",
    "Budget",
    "ConvergencePoint",
    "Cost",
    "Direction",
    "Ending",
    "GaussianProcess",
    "GridSearch",
    "Hyperband",
    "Journal",
    "JournalError",
    "Objective",
    "OptunaSearch",
    "Outcome",
    "RandomForest",
    "RandomSearch",
    "RunningTrial",
    "Search",
    "SuccessiveHalving",
    "Surrogate",
    "SurrogateSearch",
    "Trial",
    "TrialState",
    "TuneResult",
    "TuneUpdate",
    "to_optuna_study",
    "tune",
]
