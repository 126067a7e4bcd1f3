"""Searches over budgets: who is promoted, when, and what the search inside is told."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet import Float, Int, SearchSpace
from autotunenet.hpo import (
    Cost,
    Hyperband,
    Outcome,
    RandomSearch,
    Search,
    SuccessiveHalving,
    Trial,
    TrialState,
    tune,
)
from autotunenet.hpo.halving import rung_budgets

LINE = SearchSpace({"x": Float(0.0, 1.0)})


def asha(min_budget=1, max_budget=4, eta=2, space=LINE, **kwargs):
    return SuccessiveHalving(
        RandomSearch(space, seed=0), min_budget=min_budget, max_budget=max_budget, eta=eta, **kwargs
    )


def hyperband(max_budget=9, eta=3, space=LINE):
    return Hyperband(RandomSearch(space, seed=0), min_budget=1, max_budget=max_budget, eta=eta)


def ask(search):
    """What is asked for, in short."""
    trial = search.ask()
    return trial and (trial.number, trial.parent, trial.budget)


# -- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "eta", "expected"),
    [
        (1, 81, 3, (1, 3, 9, 27, 81)),
        (1, 10, 3, (1, 3, 10)),  # the last is raised, rather than to have one of 9 beside one of 10
        (0.1, 0.3, 3, (0.1, 0.3)),  # 0.1 * 3 > 0.3
        (5, 9, 2, (9,)),
        (5, 5, 2, (5,)),
    ],
)
def test_the_budgets_grow_by_eta_up_to_the_largest(low, high, eta, expected):
    assert rung_budgets(low, high, eta) == expected


@pytest.mark.parametrize(
    ("budgets", "rule"),
    [
        ({"eta": 1}, "eta must be a whole number, at least 2, got 1"),
        ({"eta": 2.5}, "got 2.5"),
        ({"min_budget": 0}, "0 < min_budget <= max_budget is needed, got 0 and 4"),
        ({"min_budget": 5}, "got 5 and 4"),
        ({"max_budget": float("inf")}, "got 1 and inf"),
        ({"max_budget": float("nan")}, "got 1 and nan"),
    ],
)
def test_budgets_that_are_none_are_refused(budgets, rule):
    with pytest.raises(ValueError, match=rule):
        asha(**budgets)


def test_a_search_that_has_trials_is_refused():
    inner = RandomSearch(LINE)
    inner.ask()
    with pytest.raises(ValueError, match="must be fresh, it has 1 trials"):
        SuccessiveHalving(inner, min_budget=1, max_budget=4)


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_asynchronous_halving_by_hand():
    search = asha()
    script = [
        # asked for: number, parent, budget; then what it is worth
        ((0, None, 1), 5.0),  # of one that is finished none is promoted
        ((1, None, 1), 3.0),  # the better one of two is
        ((2, 1, 2), 2.5),
        ((3, None, 1), 4.0),  # of three still only the best, which is promoted already
        ((4, None, 1), 1.0),  # two of four: this one, and that of before
        ((5, 4, 2), 2.0),  # the better one of the two in the second rung, and that rung comes first
        ((6, 5, 4), 1.5),
        ((7, None, 1), None),  # failed
        ((8, None, 1), 4.5),  # with the failed one there are six: three of them
        ((9, 3, 2), 9.0),
        ((10, None, 1), 0.5),  # of seven still three, and the best is new: four have been promoted then
        ((11, 10, 2), 1.0),
        ((12, 11, 4), 1.8),  # two of four in the second rung
    ]
    for asked, value in script:
        assert ask(search) == asked
        search.tell(asked[0], value)
    assert search.trials[12].params == search.trials[10].params
    assert search.best.number == 6  # of the largest budget, though others have smaller values


def test_asynchronous_halving_never_waits():
    search = asha()
    assert [ask(search) for _ in range(4)] == [(i, None, 1) for i in range(4)]
    search.tell(2, 1.0)
    assert ask(search) == (4, None, 1)  # half of one is none
    search.tell(0, 2.0)
    assert ask(search) == (5, 2, 2)
    assert ask(search) == (6, None, 1)
    search.tell(5, None)
    assert ask(search) == (7, None, 1)  # what failed is not promoted, nor tried again


def test_synchronous_halving_by_hand():
    search = asha(asynchronous=False)
    assert [ask(search) for _ in range(5)] == [(0, None, 1), (1, None, 1), (2, None, 1), (3, None, 1), None]
    for number, value in ((3, 1.0), (1, 2.0), (0, 3.0)):
        search.tell(number, value)
        assert (ask(search), search.is_exhausted) == (None, False)
    search.tell(2, None)
    assert [ask(search) for _ in range(3)] == [(4, 3, 2), (5, 1, 2), None]
    search.tell(4, 7.0)
    assert ask(search) is None
    search.tell(5, 6.0)
    assert [ask(search) for _ in range(2)] == [(6, 5, 4), None]
    search.tell(6, 5.0)
    assert [ask(search) for _ in range(2)] == [(7, None, 1), (8, None, 1)]  # anew


def test_a_bracket_whose_trials_failed_has_few_to_promote_or_none():
    search = asha(asynchronous=False)
    for value in (None, None, None, 1.0):
        search.tell(search.ask().number, value)
    assert ask(search) == (4, 3, 2)  # where two might be
    search.tell(4, None)
    assert ask(search) == (5, None, 1)


def test_hyperband_has_the_brackets_of_the_paper():
    """Li et al. 2018, table 1: R = 81 and eta = 3."""
    search = hyperband(max_budget=81)
    table = [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    rungs = [rung for bracket in table for rung in bracket]
    for number in range(sum(count for count, _ in rungs)):
        search.tell(search.ask().number, float(number))
    asked = [(len(list(group)), budget) for budget, group in itertools.groupby(t.budget for t in search.trials)]
    assert asked == [*rungs[:-2], (7, 81)]  # the last two rungs have one budget
    assert ask(search) == (206, None, 1)


def test_hyperband_begins_the_next_bracket_rather_than_to_wait():
    search = hyperband()
    assert [ask(search) for _ in range(9)] == [(i, None, 1) for i in range(9)]
    assert ask(search) == (9, None, 3)
    for number in range(9):
        search.tell(number, -float(number))
    assert [ask(search) for _ in range(4)] == [(10, 8, 3), (11, 7, 3), (12, 6, 3), (13, None, 3)]


# -- against a plain reference ----------------------------------------------------------------------------------------


class PlainAsha:
    """Algorithm 2 of Li et al. 2020, line by line, with a dictionary a rung."""

    def __init__(self, num_rungs, eta):
        self.eta = eta
        self.losses = [{} for _ in range(num_rungs)]
        self.promoted = [set() for _ in range(num_rungs)]

    def report(self, point, rung, loss):
        self.losses[rung][point] = loss

    def get_job(self):
        for k in reversed(range(len(self.losses) - 1)):
            losses = self.losses[k]
            candidates = sorted(losses, key=lambda point: (losses[point], point))[: len(losses) // self.eta]
            promotable = [t for t in candidates if t not in self.promoted[k] and losses[t] < float("inf")]
            if promotable:
                self.promoted[k].add(promotable[0])
                return promotable[0], k + 1
        return None, 0


# Which of the pending trials ends next, and with what; now and then one fails, and equal values are frequent.
steps = st.lists(
    st.one_of(st.just("ask"), st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 8)))), max_size=120
)


@given(steps=steps, eta=st.integers(2, 4), num_rungs=st.integers(1, 4))
def test_asynchronous_halving_is_that_of_the_paper(steps, eta, num_rungs):
    search, plain = asha(1, eta ** (num_rungs - 1), eta), PlainAsha(num_rungs, eta)
    point_of, pending = {}, []
    for step in steps:
        if step == "ask":
            expected, rung = plain.get_job()
            trial = search.ask()
            assert (trial.budget, trial.parent is None) == (eta**rung, expected is None)
            point_of[trial.number] = trial.number if trial.parent is None else point_of[trial.parent]
            assert expected in (None, point_of[trial.number])
            assert trial.params == search.trials[point_of[trial.number]].params
            pending.append((trial.number, rung))
        elif pending:
            (number, rung), value = pending.pop(step[0] % len(pending)), step[1]
            search.tell(number, value)
            plain.report(point_of[number], rung, float("inf") if value is None else value)


def play(search, steps):
    """Ask and tell as it is said, with a trial told where there is nothing to ask for."""
    pending = []
    for step in steps:
        trial = search.ask() if step == "ask" or not pending else None
        if trial is not None:
            pending.append(trial.number)
        elif pending:
            which, value = (0, 1) if step == "ask" else step
            search.tell(pending.pop(which % len(pending)), value)


makers = st.sampled_from(
    [asha, lambda: asha(eta=3, max_budget=9), lambda: asha(asynchronous=False), hyperband, lambda: hyperband(4, 2)]
)


@given(make=makers, steps=steps)
def test_what_holds_of_every_search_over_budgets(make, steps):
    search = make()
    play(search, steps)
    promoted = [trial for trial in search.trials if trial.parent is not None]
    assert len({trial.parent for trial in promoted}) == len(promoted)  # no point twice in a rung
    for trial in search.trials:
        assert trial.budget in search.budgets
    for trial in promoted:
        parent = search.trials[trial.parent]
        assert parent.state is TrialState.DONE
        assert parent.params == trial.params
        assert search.budgets.index(trial.budget) == search.budgets.index(parent.budget) + 1
    for bracket in search._brackets():
        for low, high in itertools.pairwise(bracket.rungs):
            if getattr(search, "asynchronous", False):
                # A promotion is decided by what is finished then, so there may be more in the end than one in eta.
                assert len(high) <= len(low)
            else:
                finished = [trial for trial in low if trial.state is not TrialState.PENDING]
                assert len(high) <= len(finished) // search.eta


@given(make=makers, steps=steps)
def test_a_search_goes_on_from_its_trials_alone(make, steps):
    search, other = make(), make()
    play(search, steps)
    other.load_trials([Trial.from_dict(trial.to_dict()) for trial in search.trials])
    assert [other.ask() for _ in range(5)] == [search.ask() for _ in range(5)]


def test_tune_goes_on_with_promoted_trials_and_after_a_stop(tmp_path):
    def train(trial):
        weights = trial.parent_folder / "epochs" if trial.parent_folder else None
        done = int(weights.read_text()) if weights else 0
        assert done == (0 if trial.parent is None else search.trials[trial.parent].budget)
        (trial.folder / "epochs").write_text(str(trial.budget))
        return Outcome(abs(trial.params["x"] - 0.3) + 1 / trial.budget, cost=Cost(steps=trial.budget - done))

    plan = []
    for budget in (9, 20):
        search = asha()
        result = tune(train, LINE, search, budget=budget, folder=tmp_path)
        assert result.trials[: len(plan)] == tuple(plan)
        plan = result.trials
    straight = tune(lambda trial: abs(trial.params["x"] - 0.3) + 1 / trial.budget, LINE, asha(), budget=20)
    assert [(t.params, t.budget, t.parent) for t in plan] == [(t.params, t.budget, t.parent) for t in straight.trials]
    promoted = [trial for trial in plan if trial.parent is not None]
    assert promoted
    assert all(trial.cost.steps == trial.budget / 2 for trial in promoted)


def test_trials_of_another_search_are_refused():
    search = asha()
    with pytest.raises(ValueError, match=r"trial 0: budget 3 is none of \(1, 2, 4\)"):
        search.load_trials([Trial(number=0, params={"x": 0.5}, budget=3)])
    with pytest.raises(ValueError, match="trial 0: budget None"):
        search.load_trials([Trial(number=0, params={"x": 0.5})])
    with pytest.raises(ValueError, match="trial 1: its parent 1 is no trial before it"):
        search.load_trials([Trial(number=n, params={"x": 0.5}, budget=1, parent=n or None) for n in range(2)])
    assert search.trials == ()


# -- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [asha, lambda **kwargs: asha(asynchronous=False, **kwargs)])
def test_it_ends_when_the_points_do(make):
    search = make(space=SearchSpace({"x": Int(1, 6)}))
    while (trial := search.ask()) is not None:
        search.tell(trial.number, trial.params["x"])
    assert search.is_exhausted
    counts = [sum(trial.budget == budget for trial in search.trials) for budget in (1, 2, 4)]
    assert counts[0] == 6
    assert counts[1:] == ([3, 1] if search.asynchronous is False else counts[1:])
    assert search.best.params == {"x": 1}


def test_it_has_not_ended_while_a_pending_trial_may_be_promoted():
    search = asha(space=SearchSpace({"x": Int(1, 2)}))
    first, second = search.ask(), search.ask()
    assert (search.ask(), search.is_exhausted) == (None, False)
    search.tell(first.number, 1.0)
    assert (search.ask(), search.is_exhausted) == (None, False)
    search.tell(second.number, 2.0)
    assert ask(search) == (2, 0, 2)
    search.tell(2, 1.0)
    assert (search.ask(), search.is_exhausted) == (None, True)


# -- what the search inside is told -----------------------------------------------------------------------------------


class Listening(Search):
    """Proposes points evenly, and keeps what it was told last."""

    def _propose(self, number):
        self.seen = tuple(self._trials)
        return Trial(number=number, params={"x": number / 100}, predicted=(float(number), 1.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_search_inside_is_told_results_of_one_budget(sign):
    inner = Listening(LINE, direction="minimize" if sign == 1 else "maximize")
    search = SuccessiveHalving(inner, min_budget=1, max_budget=4, eta=2)
    while sum(trial.budget == 2 for trial in search.trials) < 4:  # four results are enough in one dimension
        trial = search.ask()
        # Good from 0.03 on, and the larger the budget, the lower the loss.
        search.tell(
            trial.number, None if trial.number == 1 else sign * (abs(trial.params["x"] - 0.03) + 10 / trial.budget)
        )
    search.ask()
    search.ask()
    at_two = {
        trial.params["x"]: trial.value for trial in search.trials if trial.budget == 2 and trial.value is not None
    }
    assert len(at_two) == 4
    worst = max(at_two.values(), key=lambda value: sign * value)
    assert [trial.number for trial in inner.seen] == list(range(len(inner.seen)))
    states = {trial.params["x"]: (trial.state, trial.value) for trial in inner.seen}
    assert states.pop(0.01) == (TrialState.FAILED, None)
    for x, value in at_two.items():
        assert states.pop(x) == (TrialState.DONE, value)
    pending = [x for x, (state, _) in states.items() if state is TrialState.PENDING]
    assert all(states[x] == (TrialState.DONE, worst) for x in states.keys() - set(pending))
    assert len(states) > len(pending)


def test_before_there_are_enough_results_the_smallest_budget_counts():
    inner = Listening(LINE)
    search = SuccessiveHalving(inner, min_budget=1, max_budget=4, eta=2)
    for value in (2.0, 1.0, 0.5, 3.0):  # the third is the second point with two units
        search.tell(search.ask().number, value)
    search.ask()
    assert [trial.value for trial in inner.seen] == [2.0, 1.0, 3.0]


def test_what_the_search_inside_predicted_is_kept():
    search = SuccessiveHalving(Listening(LINE), min_budget=1, max_budget=4, eta=2)
    assert [search.ask().predicted for _ in range(2)] == [(0.0, 1.0), (1.0, 1.0)]
