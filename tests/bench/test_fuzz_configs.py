"""Whatever stands in a config: it is valid, or a ConfigError says what is wrong; and that is all that happens."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotunenet_bench.config import ConfigError, load_config, parse_config
from autotunenet_bench.config.yaml import MAX_BYTES, MAX_VALUES, parse_yaml

CORPUS = Path(__file__).parent / "corpus"
MAX_SECONDS = 20.0
"""Of a crowded machine; on an idle one it is one at the most."""

MAX_LETTERS = 50_000


def outcome(read: Callable[[], object]) -> str:
    """What a ConfigError says; empty where there is none. Any other exception fails the test, and so do warnings."""
    started = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
        words = ""
    except ConfigError as error:
        words = str(error)
        assert words
    assert time.monotonic() - started < MAX_SECONDS
    assert len(words) < MAX_LETTERS
    assert words.replace("\n", "").isprintable(), words  # nothing that a terminal would act on
    return words


# -- the corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CORPUS.glob("refused/*.yaml")), ids=lambda path: path.stem)
def test_what_is_no_config_is_refused_in_words(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = outcome(lambda: load_config(str(path)))
    assert words.startswith(str(path))
    assert not list(tmp_path.iterdir())  # nothing of what it names was run


@pytest.mark.parametrize("path", sorted(CORPUS.glob("valid/*.yaml")), ids=lambda path: path.stem)
def test_what_is_odd_and_right_is_taken(path):
    assert not outcome(lambda: load_config(str(path)))


# -- what is large ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * MAX_BYTES, "nesting deeper than 32"),
        ("{a: " * (MAX_BYTES // 4), "nesting deeper than 32"),
        ("- " * (MAX_BYTES // 2), "nesting deeper than 32"),
        (f"a: [{'1, ' * (MAX_BYTES // 4)}]", f"more than {MAX_VALUES} keys and values"),
        ("".join(f"k{number}: 1\n" for number in range(MAX_VALUES)), f"more than {MAX_VALUES} keys and values"),
        ("'" * (MAX_BYTES - 1), "not valid YAML"),
    ],
    ids=["lists", "mappings", "dashes", "values", "keys", "quotes"],
)
def test_a_large_text_is_given_up_early(text, told):
    assert told in outcome(lambda: parse_config(text, "a.yaml"))


def test_no_more_of_a_file_is_read_than_a_config_may_have(tmp_path):
    path = tmp_path / "sparse.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk, and would take all memory
    assert "a config may have 256 KiB" in outcome(lambda: load_config(str(path)))


def test_a_key_of_many_parts_is_refused():
    assert "more than 32 parts" in outcome(lambda: parse_config("", "a.yaml", [f"{'a.' * 5000}b=1"]))


# -- what hypothesis makes up ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SYNTAX = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ": ",
    "- ",
    "? ",
    "\n",
    "\n  ",
    "\t",
    "#",
    "|",
    ">",
    "'",
    '"',
    "\\",
    "&a ",
    "*a",
    "<<: ",
]
SYNTAX += ["%YAML 1.1\n---\n", "---\n", "\\x", "\\UFFFFFFFF", "\ufeff", "\x85", "\u2028", "\0"]
KINDS = ["int", "float", "bool", "set", "omap", "pairs", "binary", "timestamp", "str", "null", "seq", "map"]
TAGS = [f"!!{kind} " for kind in KINDS]
SCALARS = ["~", "=", ".nan", ".inf", "1e999", "0x", "0o7", "1:59", "1_0", "-", "0", "1", "2024-13-45"]
SCALARS += ["2001-12-14t21:59:43.10+99:99", "digits_mlp", "stationary", "fixed", "a:B"]
WORDS = "task regime controller tasks regimes controllers searches objective configs num_epochs seeds space full scales"
WORDS += " experiment target against subject conclusion compute name label lr low high severity parts data_fraction"
SNIPPETS = st.sampled_from([*SYNTAX, *TAGS, "!x ", *SCALARS, *WORDS.split()])
KEYS = st.one_of(TEXT, st.sampled_from(WORDS.split()))
PLAIN = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.just(10**30), st.floats(), TEXT, st.sampled_from(SCALARS))
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)), max_leaves=12
)


@given(st.lists(st.one_of(SNIPPETS, TEXT), max_size=25).map("".join))
@settings(max_examples=400)
def test_any_text_is_yaml_or_not(text):
    outcome(lambda: parse_yaml(text, "a.yaml"))


@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from([None, "small"]), st.booleans())
@settings(max_examples=150)
def test_any_values_are_a_config_or_not(values, scale, full):
    outcome(lambda: parse_config(json.dumps(values), "a.yaml", full=full, scale=scale))


@given(st.lists(st.tuples(st.lists(KEYS, min_size=1, max_size=3).map(".".join), VALUES), min_size=1, max_size=3))
@settings(max_examples=100)
def test_any_override_fits_or_not(pairs):
    text = "task: digits_mlp\nregime: stationary\ncontroller: fixed\nnum_epochs: 1\nseeds: [0]\n"
    outcome(lambda: parse_config(text, "a.yaml", [f"{key}={json.dumps(value)}" for key, value in pairs]))
