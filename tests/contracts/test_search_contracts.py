"""Every offline search keeps the contract, with every surrogate, acquisition function and design."""

import itertools
import sys

import pytest

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import (
    ACQUISITIONS,
    DESIGNS,
    SEARCHES,
    SURROGATES,
    RandomForest,
    RandomSearch,
    Search,
    SurrogateSearch,
    Trial,
)
from autotunenet.testing import check_search

FINITE = SearchSpace({"lr": Ordinal((2e-5, 3e-5, 5e-5)), "depth": Int(1, 2), "act": Categorical(("relu", "gelu"))})
MIXED = SearchSpace(
    {
        "lr": Float(1e-5, 1.0, log=True),
        "share": Float(-1.0, 1.0),
        "width": Int(8, 512, log=True),
        "batch": Ordinal((16, 32, 128)),
        "act": Categorical(("relu", "gelu", "tanh")),
    }
)
MODELS = {name: RandomForest(num_trees=8) if name == "random_forest" else name for name in SURROGATES}


@pytest.mark.parametrize("space", [FINITE, MIXED], ids=["finite", "mixed"])
@pytest.mark.parametrize("name", SEARCHES)
def test_searches(name, space):
    extra = {"points_per_dimension": 2} if name == "grid" else {}
    check_search(lambda: SEARCHES[name](space, seed=1, **extra))


def test_a_random_order_of_the_grid():
    check_search(lambda: SEARCHES["grid"](FINITE, order="random", direction="maximize"))


@pytest.mark.parametrize(("surrogate", "acquisition"), list(itertools.product(SURROGATES, ACQUISITIONS)))
def test_surrogates_and_acquisitions(surrogate, acquisition):
    kind = {"surrogate": MODELS[surrogate], "acquisition": acquisition, "direction": "maximize"}
    check_search(lambda: SurrogateSearch(FINITE, num_initial=3, **kind), num_trials=6)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_surrogates_in_batches_over_mixed_dimensions(surrogate):
    check_search(lambda: SurrogateSearch(MIXED, surrogate=MODELS[surrogate], num_initial=2, batch_size=2), num_trials=5)


@pytest.mark.parametrize("design", DESIGNS)
def test_designs(design):
    check_search(lambda: SurrogateSearch(FINITE, initial=design, num_initial=12), num_trials=8)


class Broken(RandomSearch):
    """A search whose fault is given."""

    fault = ""
    num_made = itertools.count()

    def __init__(self):
        super().__init__(FINITE)
        self._number = next(self.num_made)

    def _propose(self, number):
        trial = super()._propose(number)
        if self.fault == "stops":
            return None
        if self.fault == "outside":
            return Trial(number=number, params={**FINITE.point_at(0), "depth": 3})
        if self.fault == "repeats":
            return Trial(number=number, params=FINITE.point_at(0))
        if self.fault == "differs":
            return Trial(number=number, params=FINITE.point_at((number + self._number) % 12))
        if self.fault == "remembers":
            self._number = getattr(self, "_asked", -1) + 1
            self._asked = self._number
            return None if self._number > 11 else Trial(number=number, params=FINITE.point_at(self._number))
        if self.fault == "prints":
            sys.stdout.write("trying")
        return trial

    @property
    def best(self):
        return None if self.fault == "no best" else super().best

    @property
    def is_exhausted(self):
        return self.fault != "stops" and super().is_exhausted


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("stops", "ask.. is None where nothing is pending"),
        ("outside", "is no point of"),
        ("repeats", "no point may come twice"),
        ("differs", "must ask for the same"),
        ("remembers", "it must go on as that did"),
        ("prints", "must not print"),
        ("no best", "best must have the value"),
    ],
)
def test_broken_searches_are_found(fault, rule):
    assert issubclass(Broken, Search)
    with pytest.raises(AssertionError, match=rule):
        check_search(type(fault, (Broken,), {"fault": fault}))
