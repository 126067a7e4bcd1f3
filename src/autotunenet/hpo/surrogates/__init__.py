"""Surrogates: cheap models of an objective, fitted to what has been tried."""

from autotunenet.hpo.surrogates.base import Posterior, Surrogate
from autotunenet.hpo.surrogates.gp import GaussianProcess
from autotunenet.hpo.surrogates.random_forest import RandomForest

SURROGATES: dict[str, type[Surrogate]] = {
    "gp": GaussianProcess,
    "random_forest": RandomForest,
}

__all__ = ["SURROGATES", "GaussianProcess", "Posterior", "RandomForest", "Surrogate"]
