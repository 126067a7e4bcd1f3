"""HOW to change: controllers propose hyperparameters from the metrics they observe."""

from autotunenet.controllers.base import Controller
from autotunenet.controllers.bayesian import Bayesian
from autotunenet.controllers.cruise import Cruise
from autotunenet.controllers.fixed import Fixed
from autotunenet.controllers.heuristic import Heuristic
from autotunenet.controllers.plateau import Plateau
from autotunenet.controllers.random_walk import RandomWalk
from autotunenet.controllers.schedule import SCHEDULES, Schedule

CONTROLLERS: dict[str, type[Controller]] = {
    "fixed": Fixed,
    "schedule": Schedule,
    "plateau": Plateau,
    "random_walk": RandomWalk,
    "heuristic": Heuristic,
    "cruise": Cruise,
    "bayesian": Bayesian,
}
"""Controller classes by name; each can be made without arguments, and `Fixed` is the null member."""

__all__ = [
    "CONTROLLERS",
    "SCHEDULES",
    "Bayesian",
    "Controller",
    "Cruise",
    "Fixed",
    "Heuristic",
    "Plateau",
    "RandomWalk",
    "Schedule",
]
