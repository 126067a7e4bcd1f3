"""Who trains: one run of a spec, from its first step or from where it was cut off."""

from autotunenet_bench.config import RunSpec
from autotunenet_bench.data import DataSource
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners.offline import run_offline
from autotunenet_bench.runners.online import run_online
from autotunenet_bench.types import EventSink

RUNNERS = {"online": run_online, "offline": run_offline}
"""Runners by the word of `autotunenet_bench.controllers.base.MethodConfig.runner`."""


def run(spec: RunSpec, source: DataSource, folder: RunFolder, on_event: EventSink | None = None) -> None:
    """Run a spec to its end, from its last checkpoint if there is one, and write everything into `folder`.

    Equal specs give equal events (but for the key "clock") and equal weights, bit for bit, cut off and resumed or not.
    Global random generators are left as they were found.

    Args:
        spec: What to run; its controller says which runner does it.
        source: Where the data may come from.
        folder: Where the results go.
        on_event: Told of every event, after it was written.

    Raises:
        ValueError: If the data at hand are not those of the spec, or this process has another number of threads.
    """
    RUNNERS[spec.controller.runner](spec, source, folder, on_event)


__all__ = ["RUNNERS", "run", "run_offline", "run_online"]
