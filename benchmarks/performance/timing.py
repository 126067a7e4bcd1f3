"""Paired timing: variants take turns in short blocks, so that what else the machine does hits all of them."""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure.

    Args:
        quick: Whether to run everything only as often as it takes to see that it runs.
    """

    quick: bool = False

    def pick(self, full: T, quick: T) -> T:
        """Return one of the two."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return those of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


def take_turns(variants: Mapping[str, Callable[[], T]], num_rounds: int) -> dict[str, list[T]]:
    """Call every variant once a round, beginning with another one each round; return what they returned.

    A variant times itself, so that it can leave out what it has to prepare. The garbage of one is not collected in the
    time of another.
    """
    found: dict[str, list[T]] = {name: [] for name in variants}
    names = list(variants)
    with _collected_between() as collect:
        for number in range(num_rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                collect()
                found[name].append(variants[name]())
    return found


@contextmanager
def _collected_between() -> Iterator[Callable[[], object]]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # the libraries hold no garbage; looking through them would take longer than a block
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def ratios(times: Sequence[float], base: Sequence[float]) -> Spread:
    """Return the spread of the ratios within each round."""
    return Spread.of([time / other for time, other in zip(times, base, strict=True)])


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread in here: torch, and the BLAS of numpy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def say(text: str) -> None:
    """Tell of the progress."""
    print(text, file=sys.stderr, flush=True)
