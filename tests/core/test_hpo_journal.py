"""The journal: what it keeps, what it mends, what it refuses."""

import errno
import json
import math
import os
import sys

import numpy as np
import pytest
from hpo_runs import SPACE, a_fork_that_lives, parabola, rows, without_seconds

from autotunenet import Categorical, Float, SearchSpace
from autotunenet.hpo import Budget, Cost, Ending, Journal, JournalError, RandomSearch, TrialState, tune

posix = pytest.mark.skipif(os.name != "posix", reason="flock, forks and file size limits are of POSIX")
TEN = Budget(trials=10)


def journal(folder, **settings):
    return Journal(folder, RandomSearch(SPACE), **settings)


def file_of(folder):
    return folder / "trials.jsonl"


def four_trials(folder):
    """A search whose last trial is pending, as after a kill."""
    with journal(folder) as store:
        for _ in range(3):
            trial = store.claim(TEN).trial
            store.tell(trial.number, Ending(value=parabola(trial)))
    lost = journal(folder, worker="lost")
    lost.claim(TEN)
    lost._life_line.cut()


# -- what it keeps ---------------------------------------------------------------------------------------------------


def test_workers_see_each_others_trials(tmp_path):
    with journal(tmp_path) as first, journal(tmp_path) as second:
        a, b = first.claim(TEN).trial, second.claim(TEN).trial
        assert (a.number, b.number) == (0, 1)
        first.tell(0, Ending(value=1.0, cost=Cost(steps=3)))
        second.refresh()
        assert second.search.trials[0] == first.search.trials[0]
        assert second.search.best.cost.steps == 3
        assert first.claim(TEN).trial.number == 2
    again = journal(tmp_path)
    assert [trial.state.value for trial in again.search.trials] == ["done", "pending", "pending"]
    assert again.finished == [0]


def test_values_come_back_as_they_were_written(tmp_path):
    metrics = {
        "nan": math.nan,
        "inf": -math.inf,
        "float32": np.float32(0.5),
        "int64": np.int64(7),
        "array": np.array([[1.0, np.nan]]),
        "nested": {"list": (1, "a", None, True)},
        "other": 1j,
    }
    with journal(tmp_path) as store:
        store.claim(TEN)
        told = store.tell(0, Ending(value=float(np.float64(0.1)), metrics=metrics, cost=Cost(flops=1e300)))
        store.claim(TEN)
        store.tell(1, Ending(value=math.inf))
    assert math.isnan(told.metrics["nan"])
    assert math.isnan(told.metrics["array"][0][1])
    kept = {name: told.metrics[name] for name in ("inf", "float32", "int64", "nested", "other")}
    assert kept == {
        "inf": -math.inf,
        "float32": 0.5,
        "int64": 7,
        "nested": {"list": [1, "a", None, True]},
        "other": "1j",
    }
    again = journal(tmp_path).search.trials
    assert (again[0].value, again[0].cost.flops) == (0.1, 1e300)
    assert repr(again[0].metrics) == repr(told.metrics)
    assert (again[1].state, again[1].error) == (TrialState.FAILED, "the objective returned inf")
    for line in file_of(tmp_path).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # no NaN, which only Python reads


def test_choices_come_back_as_the_objects_they_were(tmp_path):
    space = SearchSpace({"betas": Categorical(((0.9, 0.999), (0.5, 0.9), None, "inf"))})
    first = Journal(tmp_path, RandomSearch(space))
    asked = [first.claim(Budget(trials=4)).trial.params["betas"] for _ in range(4)]
    again = Journal(tmp_path, RandomSearch(space)).search.trials
    assert [trial.params["betas"] for trial in again] == asked
    assert {type(value) for value in asked} == {tuple, type(None), str}


@pytest.mark.parametrize(
    ("choices", "error", "words"),
    [((math.sin, math.cos), TypeError, "use strings or numbers"), (((1, 2), [1, 2]), ValueError, "written alike")],
)
def test_choices_that_json_cannot_tell_apart_are_refused(tmp_path, choices, error, words):
    with pytest.raises(error, match=f"dimension 'act'.*{words}"):
        Journal(tmp_path / "new", RandomSearch(SearchSpace({"act": Categorical(choices)})))
    assert not (tmp_path / "new").exists()


def test_trials_that_a_search_has_go_into_a_new_journal(tmp_path):
    search = RandomSearch(SPACE)
    for value in (1.0, math.nan, None):
        number = search.ask().number
        if value is not None:
            search.tell(number, value, metrics={"m": 1}, cost=Cost(steps=2))
    before = search.trials
    with Journal(tmp_path, search) as store:
        assert search.trials == before
        assert store.finished == [0, 1]
        claimed = store.claim(TEN).trial
        assert (claimed.number, claimed.attempt) == (2, 1)
    assert journal(tmp_path).search.trials == before
    other = RandomSearch(SPACE, seed=0)
    other.load_trials(
        [*before[:2], RandomSearch(SPACE, seed=9).ask().__class__(number=2, params={"x": 0.0, "lr": 1.0})]
    )
    with pytest.raises(JournalError, match="not the first ones of the 3"):
        Journal(tmp_path, other)
    assert len(other.trials) == 3


def test_the_first_row_tells_the_search_and_the_versions(tmp_path):
    journal(tmp_path)
    (first,) = rows(tmp_path, "search")
    assert first["search"] == "RandomSearch"
    assert first["space"]["lr"] == {"kind": "Float", "low": 1e-4, "high": 1.0, "log": True}
    assert first["packages"]["numpy"] == np.__version__
    assert first["packages"]["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (RandomSearch(SPACE, seed=1), "seed is 0 there, and 1 here"),
        (RandomSearch(SPACE, direction="maximize"), 'direction is "minimize" there, and "maximize" here'),
        (RandomSearch(SearchSpace({"x": Float(0.0, 1.0)})), "space is "),
    ],
)
def test_a_folder_of_another_search_is_refused(tmp_path, other, words):
    four_trials(tmp_path)
    before = file_of(tmp_path).read_bytes()
    with pytest.raises(JournalError, match=f"holds the trials of another search: {words}"):
        Journal(tmp_path, other)
    assert file_of(tmp_path).read_bytes() == before


def test_a_format_of_the_future_is_refused(tmp_path):
    journal(tmp_path)
    file_of(tmp_path).write_text(file_of(tmp_path).read_text().replace('"format":1', '"format":2'))
    with pytest.raises(JournalError, match="has format 2; this version reads 1"):
        journal(tmp_path)


# -- who has a trial -------------------------------------------------------------------------------------------------


def test_a_trial_is_told_once_and_by_the_worker_that_has_it(tmp_path):
    with journal(tmp_path) as store, journal(tmp_path) as other:
        store.claim(TEN)
        with pytest.raises(ValueError, match="trial 0 belongs to another worker"):
            other.tell(0, Ending(value=1.0))
        store.tell(0, Ending(value=1.0))
        for teller in (store, other):
            with pytest.raises(ValueError, match="trial 0 has been told already"):
                teller.tell(0, Ending(value=2.0))
        with pytest.raises(KeyError, match="trial 7 was never asked for"):
            store.tell(7, Ending(value=2.0))
        assert store.claim(TEN).trial.number == 1
    assert [row["value"] for row in rows(tmp_path, "told")] == [1.0]


def test_a_trial_whose_worker_is_dead_is_handed_out_first_and_fails_at_last(tmp_path):
    for attempt in (1, 2, 3):
        store = journal(tmp_path, max_attempts=3)
        trial = store.claim(TEN).trial
        assert (trial.number, trial.attempt) == (0, attempt)
        store._life_line.cut()  # as the system does when a process ends
    with journal(tmp_path, max_attempts=3) as store:
        assert store.claim(TEN).trial.number == 1
        assert store.search.trials[0].error == "its worker died 3 times"
        assert [(news.kind, news.trial.number) for news in store.take_news()] == [("told", 0), ("asked", 1)]


def test_giving_back_does_not_count_as_an_attempt(tmp_path):
    for _ in range(5):
        with journal(tmp_path, max_attempts=1) as store:
            trial = store.claim(TEN).trial
            assert (trial.number, trial.attempt) == (0, 1)
    assert list((tmp_path / "workers").iterdir()) == []


def test_a_worker_waits_for_what_others_have_when_the_budget_is_used_up(tmp_path):
    with journal(tmp_path) as store, journal(tmp_path) as other:
        store.claim(Budget(trials=1))
        assert other.claim(Budget(trials=1)).kind == "wait"
        store.tell(0, Ending(value=1.0))
        assert other.claim(Budget(trials=1)).kind == "over"


@posix
def test_a_fork_does_not_keep_its_parents_trial(tmp_path):
    """The workers of a data loader, say, that outlive by a moment the worker they were forked from."""
    store = journal(tmp_path)
    store.claim(TEN)
    with a_fork_that_lives():
        store._life_line.cut()  # what is left of this worker is its child,
        store._life_line.path.touch()  # and the file, as after a kill
        with journal(tmp_path) as other:
            assert other.claim(TEN).trial.attempt == 2


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_file_cut_anywhere_in_its_last_rows_is_mended(fast_path):
    four_trials(fast_path)
    data = file_of(fast_path).read_bytes()
    expected = without_seconds(tune(parabola, SPACE, "random", 5).trials)
    start = len(b"".join(data.splitlines(keepends=True)[:-3]))  # asked, told, asked
    for cut in range(start, len(data) + 1):
        file_of(fast_path).write_bytes(data[:cut])
        assert without_seconds(tune(parabola, SPACE, "random", 5, folder=fast_path).trials) == expected, cut
        assert sorted(row["number"] for row in rows(fast_path, "told")) == list(range(5)), cut


def test_a_first_row_that_was_cut_short_is_written_again(tmp_path):
    file_of(tmp_path).write_bytes(b'{"row":"search","form')
    journal(tmp_path)
    assert len(rows(tmp_path, "search")) == 1


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (3, '{"row":"told","number":0,"va', "it is not JSON"),
        (3, "\0\0\0\0", "it is not JSON"),
        (3, '{"row":"tolled"}', "it is no object with a key 'row'"),
        (3, '{"row":"told","number":5}', "KeyError: 5"),
        (4, '{"row":"told","number":0,"value":1.0,"error":"","metrics":{},"cost":{}}', "KeyError: 0"),
        (2, '{"row":"asked","number":0,"params":{"x":9.0},"worker":"a","attempt":1}', "is no point"),
        (1, '{"row":"asked","number":0}', "the first row, and no other"),
    ],
)
def test_a_damaged_line_is_an_error_that_says_where_and_what_to_do(tmp_path, line, text, words):
    four_trials(tmp_path)
    lines = file_of(tmp_path).read_text().splitlines(keepends=True)
    lines[line - 1] = text + "\n"
    file_of(tmp_path).write_text("".join(lines))
    with pytest.raises(JournalError, match=f"trials.jsonl, line {line}: .*({words}).*bring the line back") as caught:
        journal(tmp_path)
    assert str(file_of(tmp_path)) in str(caught.value)
    assert file_of(tmp_path).read_text() == "".join(lines)
    file_of(tmp_path).write_text("".join(lines[: line - 1]))  # the mend that it names
    assert len(tune(parabola, SPACE, "random", 4, folder=tmp_path).trials) == 4


def test_a_file_that_somebody_shortens_meanwhile_is_noticed(tmp_path):
    four_trials(tmp_path)
    store = journal(tmp_path)
    file_of(tmp_path).write_bytes(file_of(tmp_path).read_bytes()[:-100])
    with pytest.raises(JournalError, match="is shorter than it was"):
        store.claim(TEN)


@posix
def test_a_full_disk_leaves_what_was_there(tmp_path):
    import resource

    four_trials(tmp_path)
    before = file_of(tmp_path).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal(tmp_path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))  # room for a part of the row
        try:
            with pytest.raises(OSError, match=r"trials\.jsonl") as caught:
                store.claim(TEN)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.errno == errno.EFBIG
        assert file_of(tmp_path).read_bytes() == before
        assert store.claim(TEN).trial.attempt == 2  # and the same journal goes on when there is room


@posix
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    import fcntl

    def no_locks(descriptor, operation):  # what such file systems answer; none is at hand
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match=r"has no locks .*; use a folder on a local disk"):
        journal(tmp_path)
    assert not file_of(tmp_path).exists()


@posix
def test_a_folder_that_cannot_be_written_to_is_an_error_that_names_it(fast_path):
    fast_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # who may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=str(fast_path)):
            journal(fast_path)
    finally:
        os.seteuid(user)
    assert list(fast_path.iterdir()) == []
