"""YAML text to plain values, with the line of every key.

The text is read twice: once as a tree of nodes, which know their lines and still show duplicate keys, and once as
values. YAML 1.2 rules apply, so that ``1e-3`` is a number and ``no`` is a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

from autotunenet_bench.config.errors import ConfigError, Loc, Problem, dotted

MAX_BYTES = 256 * 1024
MAX_VALUES = 10_000
"""Of a config, its keys and every use of an alias counted; to read so many takes about a second."""

MAX_DEPTH = 32
MAX_INT = 2**64

MAX_WORDS = 200
"""Letters of what another library says that a message repeats."""

OVERRIDE = "--set "
"""What the origin of an overridden value begins with."""


@dataclass
class Document:
    """A parsed config.

    Attributes:
        source: The file's name as shown in messages.
        data: Plain dicts, lists and scalars.
        origins: Where values were written: ``"file:line"``, or the text of a ``--set``.
        problems: Faults found so far that did not stop the parsing.
    """

    source: str
    data: Any
    origins: dict[Loc, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, loc: Loc) -> str:
        """Return where `loc` was written, or the nearest of its parents that was."""
        while loc and loc not in self.origins:
            loc = loc[:-1]
        return self.origins.get(loc, self.source)

    def where_of_rule(self, loc: Loc, rule: str) -> str:
        """Return where to mend a rule over several keys that `loc` breaks.

        An override is a likelier culprit than the file, which may well have been right before. It is told by its key:
        one below `loc` that `rule` names, or one elsewhere whose whole path `rule` names. The last one wins.
        """
        overridden = [key for key, origin in self.origins.items() if origin.startswith(OVERRIDE)]
        below = [key for key in overridden if key[: len(loc)] == loc and len(key) > len(loc) and _names(rule, key[-1:])]
        for key in reversed(below or [key for key in overridden if _names(rule, key)]):
            return self.origins[key]
        return self.where(loc)


def read_text(path: Path) -> str:
    """Return the text of a file, of which no more is read than a config may have.

    Raises:
        ConfigError: If it is too large for a config, or not UTF-8.
        OSError: If it cannot be read.
    """
    source = str(path)
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        rule = f"a config may have {MAX_BYTES // 1024} KiB, this file has more"
        raise ConfigError([Problem(source, rule, "is this the right file?")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"{source}:{line}", "the file is not UTF-8 text", "save it as UTF-8")]) from None


def parse_yaml(text: str, source: str, *, numbered: bool = True) -> Document:
    """Parse `text` into values.

    Args:
        text: One YAML document; may be empty, which gives ``data=None``.
        source: Its name in messages.
        numbered: Whether messages carry a line number.

    Raises:
        ConfigError: If the text is no YAML, or is too large or too deep once its aliases are written out.
    """

    def at(line: int) -> str:
        return f"{source}:{line}" if numbered else source

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer
    yaml.allow_duplicate_keys = True  # reported below, all of them at once
    document = Document(source, None, {(): at(1)})
    root = _told(yaml.compose, text, at)
    if root is not None:
        _note_keys(root, document, at)
        document.data = _unshared(_told(yaml.load, text, at))
    return document


class _TooLargeError(Exception):
    """A document has too many values or is nested too deep.

    Attributes:
        limit: Which of the two, in words.
    """

    def __init__(self, limit: str) -> None:
        self.limit = limit
        super().__init__(limit)


class _BoundedComposer(Composer):
    """Stops in the middle of a document that is too large, as reading all of one takes seconds or the whole stack."""

    _num_nodes = 0

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False  # YAML allows to use an anchor again; the last one counts

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._num_nodes += 1
        _check_size(self._num_nodes, self.depth)
        return super().compose_node(parent, index)


def _check_size(num_values: int, depth: int) -> None:
    if num_values > MAX_VALUES:
        raise _TooLargeError(f"more than {MAX_VALUES} keys and values")
    if depth > MAX_DEPTH:
        raise _TooLargeError(f"nesting deeper than {MAX_DEPTH}")


def _told(read: Callable[[str], Any], text: str, at: Callable[[int], str]) -> Any:
    """Return what ruamel reads in `text`; what it raises becomes a ConfigError."""
    try:
        return read(text)
    except _TooLargeError as error:
        raise _too_large(error, at) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError([_syntax_problem(error, at(mark.line + 1 if mark else 1))]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        rule = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise ConfigError([Problem(at(line), rule, "delete it")]) from None
    except (YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # A scalar that its tag does not fit, `2024-13-45` or `!!bool maybe`: ruamel lets out whatever Python says then.
        words = f"{type(error).__name__}: {error}"[:MAX_WORDS]
        mend = "check values with !!tags, dates and very long numbers"
        raise ConfigError([Problem(at(1), f"not valid YAML: {words}", mend)]) from None


def _too_large(error: _TooLargeError, at: Callable[[int], str]) -> ConfigError:
    return ConfigError([Problem(at(1), f"{error.limit}, aliases written out", "no config needs this")])


def _note_keys(root: Node, document: Document, at: Callable[[int], str]) -> None:
    """Record where each key stands, and report duplicate keys and keys that are no text."""
    num_values = 0
    for loc, node in _walk(root):
        num_values += 1 + bool(loc and isinstance(loc[-1], str))
        try:
            _check_size(num_values, len(loc))
        except _TooLargeError as error:
            raise _too_large(error, at) from None
        document.origins.setdefault(loc, at(node.start_mark.line + 1))
        if not isinstance(node, MappingNode):
            continue
        first: dict[str, int] = {}
        for key, _ in node.value:
            line, here = key.start_mark.line + 1, (*loc, str(key.value))
            if not key.tag.endswith((":str", ":merge")):
                document.problems.append(Problem(at(line), "a key must be a word", "put it in quotes", here))
            elif key.value in first:
                rule = f"this key stands twice, first in line {first[key.value]}"
                document.problems.append(Problem(at(line), rule, "delete one of them", here))
            else:
                document.origins[here] = at(line)
            first.setdefault(str(key.value), line)


def _walk(node: Node, loc: Loc = ()) -> Iterator[tuple[Loc, Node]]:
    """Visit a node and everything below it; lazily, so that the visitor can stop a bomb of aliases."""
    yield loc, node
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _walk(value, (*loc, str(key.value)))
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            yield from _walk(value, (*loc, index))


def _unshared(value: Any) -> Any:
    """Copy what aliases share, so that an override of one place does not change the other."""
    if isinstance(value, dict):
        return {str(key): _unshared(item) for key, item in value.items()}
    if isinstance(value, int) and abs(value) > MAX_INT:
        return math.inf if value > 0 else -math.inf  # reported as such; Python refuses to print very long integers
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _names(text: str, loc: Loc) -> bool:
    """Whether `loc`, as it is written in messages, stands in `text` as a word of its own."""
    return bool(loc) and re.search(rf"(?<![\w.]){re.escape(dotted(loc))}(?!\w|\.\w)", text) is not None


def _syntax_problem(error: MarkedYAMLError, where: str) -> Problem:
    words = " ".join(str(error.problem or error.context).split())
    if "'\\t'" in words:
        return Problem(where, "YAML is indented by spaces, here is a tab", "replace the tab by spaces")
    if "mapping values are not allowed" in words:
        return Problem(where, f"not valid YAML: {words}", "check the indentation, and put text with ': ' in quotes")
    return Problem(where, f"not valid YAML: {words}", "check brackets, quotes and the indentation around this line")


def non_finite(data: Any, loc: Loc = ()) -> Iterator[tuple[Loc, float]]:
    """Yield every NaN and infinity in `data`; no key of a config takes one."""
    if isinstance(data, float) and not math.isfinite(data):
        yield loc, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from non_finite(value, (*loc, str(key)))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from non_finite(value, (*loc, index))
