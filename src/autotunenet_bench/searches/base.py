"""The base of the searches: what a config says about one, and how it is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from autotunenet.hpo import Direction, Search
from autotunenet.space import SearchSpace


class SearchConfig(BaseModel, ABC):
    """A search as it stands in a config: everything about it but the space, the seed and the direction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    looks_at_results: ClassVar[bool] = True
    """Whether what it asks depends on what it was told. If not, all its trials are known before the first one."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Packages beside numpy that decide about what it asks; a report tells their versions."""

    name: str
    label: str | None = Field(None, min_length=1, max_length=60, description="name in tables; default: made from name")
    num_trials: int | None = Field(None, ge=1, le=100_000, description="its trials; null: num_trials of the config")

    @property
    def display(self) -> str:
        """The name in tables and figures."""
        return self.label or self._own_name()

    def trials_of(self, space: SearchSpace, usual: int | None) -> int:
        """Return how many trials it gets.

        Args:
            space: Where it searches.
            usual: What the config says for all searches, if anything.

        Raises:
            ValueError: If nobody says it.
        """
        number = self.num_trials or usual
        if number is None:
            raise ValueError("nothing says how many trials it gets; set num_trials, here or for all searches")
        return number

    @abstractmethod
    def build(self, space: SearchSpace, *, seed: int, direction: Direction) -> Search:
        """Return a fresh search.

        Raises:
            ValueError: If it cannot search this space, or a package that it needs is not installed.
        """

    def _own_name(self) -> str:
        """The name of a search that has no label."""
        return self.name


@contextmanager
def installed() -> Iterator[None]:
    """Turn the absence of a package into a ValueError, as all that keeps a search from being built."""
    try:
        yield
    except ImportError as error:
        raise ValueError(str(error)) from error
