"""What a contract is made of: a member that is looked at, small rules with names, and what is found."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from autotunenet_bench.data import DataError, DataSource


@dataclass(frozen=True, eq=False)
class Subject:
    """A member that is looked at.

    Attributes:
        member: The config class.
        fields: Keys that it is made with wherever a rule makes one.
        source: Where data may come from.
        remembered: What rules have made and may use again, such as the data of a task.
    """

    member: type[BaseModel]
    fields: Mapping[str, Any] = field(default_factory=dict)
    source: DataSource = field(default_factory=DataSource)
    remembered: dict[str, Any] = field(default_factory=dict, repr=False)

    def make(self, **fields: Any) -> Any:
        """Return a config with these keys over those of the subject."""
        return self.member(**{**self.fields, **fields})

    def has(self, key: str) -> bool:
        """Return whether the config has a key."""
        return key in self.member.model_fields


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a contract.

    Attributes:
        check: Raises an AssertionError that says what was found where the rule is broken. The first line of its
            docstring is the rule in words.
        mend: What its author can do about it.
    """

    check: Callable[[Subject], None]
    mend: str

    @property
    def name(self) -> str:
        """The name in lists and tests."""
        return self.check.__name__

    @property
    def text(self) -> str:
        """The rule in one sentence."""
        return (self.check.__doc__ or "").partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one rule.

    Attributes:
        rule: The rule.
        reason: Why it is broken; empty where it is kept.
    """

    rule: Rule
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the rule is kept."""
        return not self.reason


def findings(rules: Sequence[Rule], *subjects: Subject) -> Iterator[Finding]:
    """Check one rule after the other; an exception of the member's own breaks the rule like a wrong answer.

    The first rule is that it can be made at all; where that is broken there is nothing else to look at.

    Args:
        rules: The contract.
        subjects: The member, or every kind of it: a rule is kept where all of them keep it.
    """
    for number, rule in enumerate(rules):
        reason = next(filter(None, (_reason(rule, subject) for subject in subjects)), "")
        yield Finding(rule, reason)
        if reason and number == 0:
            return


def _reason(rule: Rule, subject: Subject) -> str:
    kind = f"kind {subject.fields['kind']}: " if "kind" in subject.fields else ""
    try:
        rule.check(subject)
    except AssertionError as error:
        return f"{kind}{error or 'an assertion failed'}"
    except DataError:  # what is not at hand breaks no rule
        raise
    except Exception as error:  # the member is anybody's: whatever it raises is a finding
        return f"{kind}{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def hold(rules: Sequence[Rule], *subjects: Subject) -> None:
    """Check every rule.

    Raises:
        AssertionError: For the first rule that is broken, with the reason and the mend.
    """
    for finding in findings(rules, *subjects):
        require(finding.is_ok, f"{finding.rule.text} {finding.reason}; {finding.rule.mend}")


def require(holds: object, reason: str) -> None:
    """Raise an AssertionError with the reason unless something holds."""
    if not holds:
        raise AssertionError(reason)


def generators() -> tuple[object, ...]:
    """Return the state of the global random generators, which are the user's."""
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(np.random.get_state()), random.getstate()  # noqa: NPY002


@contextmanager
def generators_left_alone() -> Iterator[None]:
    """Raise an AssertionError if what is done inside touches a global random generator."""
    before = generators()
    yield
    names = ("torch's", "numpy's", "Python's")
    touched = [name for name, old, new in zip(names, before, generators(), strict=True) if old != new]
    require(not touched, f"the global random generators belong to the user; {' and '.join(touched)} was touched")


@contextmanager
def generators_put_back() -> Iterator[None]:
    """Put the global random generators back as they were, whatever is done to them inside."""
    state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
