"""Journals that were cut, spliced or edited, and what is none: a JournalError that names the file, or they are read."""

from __future__ import annotations

import copy
import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotunenet import Categorical, Float, SearchSpace
from autotunenet.hpo import Budget, Ending, RandomSearch
from autotunenet.hpo.journal import FILE, Journal, JournalError
from nested_values import places

SPACE = SearchSpace({"x": Float(0.0, 1.0), "c": Categorical(("a", "b"))})
JUNK = st.sampled_from([None, True, "x", "nan", -1, 99, 10**30, 1e308, [], {}, [1], {"a": 1}])


@cache
def rows():
    """The rows of a journal of three trials, the last one unfinished."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        with Journal(Path(folder), RandomSearch(SPACE)) as journal:
            for value in (0.5, 0.3):
                trial = journal.claim(Budget(trials=9)).trial
                journal.tell(trial.number, Ending(value=value, metrics={"runs": ["a"]}))
            journal.claim(Budget(trials=9))
        return [json.loads(line) for line in (Path(folder) / FILE).read_text().splitlines()]


def go_on(folder, data):
    """Open a journal and run one more trial in it; or see it refused by file and line, with nothing changed."""
    (folder / FILE).write_bytes(data)
    search = RandomSearch(SPACE)
    try:
        with Journal(folder, search) as journal:
            if trial := journal.claim(Budget(trials=9)).trial:
                assert journal.tell(trial.number, Ending(value=1.0)).value == 1.0
    except JournalError as error:
        words = str(error)
    else:
        return
    assert str(folder) in words
    assert (folder / FILE).read_bytes() == data
    assert search.trials == ()


def to_bytes(found):
    return "".join(json.dumps(row) + "\n" for row in found).encode()


@given(data=st.data(), junk=JUNK)
@settings(max_examples=150)
def test_a_row_with_odd_values(tmp_path_factory, data, junk):
    found = copy.deepcopy(rows())
    *path, last = data.draw(st.sampled_from(list(places(found))))
    holder = found
    for key in path:
        holder = holder[key]
    holder[last] = junk
    go_on(tmp_path_factory.mktemp("journal"), to_bytes(found))


@given(order=st.lists(st.integers(0, 5), max_size=10))
@settings(max_examples=60)
def test_rows_in_another_order(tmp_path_factory, order):
    go_on(tmp_path_factory.mktemp("journal"), to_bytes([rows()[index] for index in order]))


@given(cut=st.integers(0, 2000), tail=st.binary(max_size=20))
@settings(max_examples=60)
def test_a_torn_file(tmp_path_factory, cut, tail):
    go_on(tmp_path_factory.mktemp("journal"), to_bytes(rows())[:cut] + tail)


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", bytes(range(256)), b"\0" * 1000, b"[" * 100_000 + b"\n", b'"' + b"x" * 3_000_000 + b'"\n'],
    ids=["empty", "blank", "binary", "zeros", "deep", "huge"],
)
def test_what_is_no_journal(tmp_path, data):
    go_on(tmp_path, data)
