"""Searches over budgets keep the contract of the searches, whatever search is inside."""

import pytest

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import GridSearch, Hyperband, RandomSearch, SuccessiveHalving, SurrogateSearch
from autotunenet.testing import check_search

FINITE = SearchSpace({"lr": Ordinal((2e-5, 3e-5, 5e-5)), "depth": Int(1, 2), "act": Categorical(("relu", "gelu"))})
MIXED = SearchSpace({"lr": Float(1e-5, 1.0, log=True), "act": Categorical(("relu", "gelu"))})
KINDS = {
    "asynchronous": lambda inner: SuccessiveHalving(inner, min_budget=1, max_budget=4, eta=2),
    "synchronous": lambda inner: SuccessiveHalving(inner, min_budget=1, max_budget=4, eta=2, asynchronous=False),
    "hyperband": lambda inner: Hyperband(inner, min_budget=1, max_budget=4, eta=2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSearch(FINITE, seed=1),
        lambda: RandomSearch(MIXED, seed=1, direction="maximize"),
        lambda: GridSearch(FINITE),
    ],
    ids=["random", "mixed", "grid"],
)
def test_halving(kind, make):
    check_search(lambda: KINDS[kind](make()), num_trials=20)


def test_halving_around_a_surrogate():
    check_search(lambda: KINDS["asynchronous"](SurrogateSearch(MIXED, num_initial=3)), num_trials=8)
