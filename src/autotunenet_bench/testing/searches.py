"""The contract of the offline searches, whose trainings begin anew."""

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings
from collections.abc import Callable

import torch

from autotunenet import Hyperparams, SearchSpace
from autotunenet.space import Categorical, Float, Int
from autotunenet_bench.controllers.base import MethodConfig, SafeControllerConfig
from autotunenet_bench.controllers.offline import OfflineConfig, Search
from autotunenet_bench.tasks import DigitsMlp
from autotunenet_bench.testing.controllers import RUNNING_RULES
from autotunenet_bench.testing.members import MEMBER_RULES
from autotunenet_bench.testing.rules import Rule, Subject, generators_left_alone, hold, require

SPACE = DigitsMlp().space
MIXED = SearchSpace(
    {"lr": Float(1e-5, 10.0, log=True), "num": Int(1, 9), "share": Float(-1.0, 1.0), "kind": Categorical((0.0, 1.0))}
)
"""Every kind of dimension at once."""

NUM_TRIALS = 6


def stays_in_the_space(subject: Subject) -> None:
    """It asks for points of the space, whatever it is told, and the same again where it is told the same."""
    # The least grid over all four kinds of dimensions has 16 points; half of them tell enough.
    for space, num_trials, num_asked in ((SPACE, NUM_TRIALS, NUM_TRIALS), (MIXED, 16, 8)):
        for value_of in (_far_from_a_hundredth, _diverges, _is_level):
            runs = [_play(_search(subject, space, num_trials), num_asked, value_of) for _ in range(2)]
            require(runs[0] == runs[1], f"told the same it asked for {runs[0]} and then for {runs[1]}")
            odd = [params for params in runs[0] if not space.contains(params)]
            require(not odd, f"it asked for {odd[:1]}, which is no point of the space")
            plain = all(isinstance(value, int | float) for params in runs[0] for value in params.values())
            require(plain, f"its values are no plain numbers: {runs[0][0]!r}")


def shares_nothing(subject: Subject) -> None:
    """Two searches share nothing: one that is asked in between changes no answer of the other."""
    alone = _play(_search(subject), NUM_TRIALS, _far_from_a_hundredth)
    first, second = _search(subject), _search(subject)
    between = []
    for _ in range(NUM_TRIALS):
        between.append(first.ask())
        _play(second, 1, lambda params: -_far_from_a_hundredth(params))
        first.tell(between[-1], _far_from_a_hundredth(between[-1]))
    require(between == alone, f"alone it asks for {alone}, beside another for {between}")


def leaves_arguments_alone(subject: Subject) -> None:
    """What it is told is not changed, and what it has given is the caller's."""
    search = _search(subject)
    for _ in range(NUM_TRIALS):
        asked = search.ask()
        told = dict(asked)
        search.tell(told, _far_from_a_hundredth(told))
        require(told == asked, f"{asked} became {told}")
        asked["lr"] = math.nan


def leaves_the_process_alone(subject: Subject) -> None:
    """It uses no global generator, sets no threads and no variables, prints nothing and warns of nothing."""
    threads, environ, said = torch.get_num_threads(), dict(os.environ), io.StringIO()
    quiet = contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)
    with generators_left_alone(), quiet[0], quiet[1], warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        search = _search(subject)
        require(isinstance(search, Search), f"build_search() returned {search!r}, which is no Search")
        for value_of in (_far_from_a_hundredth, _diverges):
            _play(search, 3, value_of)
    require(torch.get_num_threads() == threads, f"{threads} threads became {torch.get_num_threads()}")
    require(dict(os.environ) == environ, "the environment was changed")
    require(not said.getvalue(), f"it said {said.getvalue()!r}")
    require(not warned, f"it warned: {warned[0].message if warned else None}")


def has_no_key_of_online_methods(subject: Subject) -> None:
    """It has no key that only online methods read, such as max_delta or rollback."""
    online = SafeControllerConfig.model_fields.keys() - MethodConfig.model_fields.keys()
    odd = sorted(online & subject.member.model_fields.keys())
    require(not odd, f"{', '.join(odd)} would be silently nothing")


def _search(subject: Subject, space: SearchSpace = SPACE, num_trials: int = NUM_TRIALS) -> Search:
    config: OfflineConfig = subject.make(num_trials=num_trials)
    return config.build_search(space, seed=3)


def _play(search: Search, num_trials: int, value_of: Callable[[Hyperparams], float]) -> list[dict[str, float]]:
    asked = []
    for _ in range(num_trials):
        asked.append(search.ask())
        search.tell(asked[-1], value_of(asked[-1]))
    return asked


def _far_from_a_hundredth(params: Hyperparams) -> float:
    return abs(math.log10(params["lr"]) + 2)


def _diverges(params: Hyperparams) -> float:
    return math.inf


def _is_level(params: Hyperparams) -> float:
    return 1.0


SEARCH_RULES = (
    *MEMBER_RULES,
    Rule(stays_in_the_space, "draw from `seed` alone, and clip to the space"),
    Rule(shares_nothing, "keep what was told in the search, not in the class or the module"),
    Rule(leaves_arguments_alone, "copy what goes in and what goes out"),
    Rule(leaves_the_process_alone, "put back what a package of others changes, and silence its messages"),
    Rule(has_no_key_of_online_methods, "derive it from OfflineConfig and leave those fields out"),
    *RUNNING_RULES,
)


def check_search(member: type[OfflineConfig], **fields: object) -> None:
    """Check an offline search of the benchmark against every rule of its family; makes some fifty short runs.

    Args:
        member: The config class.
        **fields: Keys that it is made with.

    Raises:
        AssertionError: If a rule is broken, with the reason and the mend.
    """
    hold(SEARCH_RULES, Subject(member, fields))
