"""Cells that take more memory than they may, and such as get none."""

from faults.cells import MEMORY_LIMIT, hoarding_cell, hoarding_once_cell, starving_cell
from faults.trial import MissedError

from autotunenet_bench.executors import Limits


def exceed_the_limit(trial):
    """Cells are killed for their memory: once each; or in every try, or refused it by the system, and fail."""
    cell, words = trial.rng.choice(
        [(hoarding_once_cell, ""), (hoarding_cell, "of memory, of the"), (starving_cell, "MemoryError")]
    )
    failures = trial.run(cell=cell, limits=Limits(memory_bytes=MEMORY_LIMIT))
    if not words and failures:
        raise AssertionError(f"not tried again: {failures}")
    if words and not failures:
        raise MissedError("nobody took too much")
    untold = [message for message in failures.values() if words not in message]
    if untold:
        raise AssertionError(f"not told: {untold}")
