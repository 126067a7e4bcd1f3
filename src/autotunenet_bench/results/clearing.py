"""Throwing runs away, but none that somebody works on."""

from __future__ import annotations

from collections.abc import Sequence

from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.store import ResultStore, Spec


class RunsInUseError(RuntimeError):
    """Runs were to be thrown away that another process is working on."""


def clear_runs(store: ResultStore, specs: Sequence[Spec]) -> None:
    """Remove the folders of runs.

    Raises:
        RunsInUseError: If another process works on one of them; then none is removed.
    """
    claims = Claims(store.root)
    active = claims.active()
    held = [active[spec.run_id] for spec in specs if spec.run_id in active and not active[spec.run_id].is_abandoned]
    if held:
        raise RunsInUseError(
            f"{store.root}: --fresh would throw away a run that {held[0]} is working on; wait for it, or stop it first"
        )
    for spec in specs:
        with claims.hold_soon(spec.run_id):
            store.folder(spec).clear()
