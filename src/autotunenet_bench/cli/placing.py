"""Where runs go: from the options of a command to an executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotunenet_bench.cli.ending import refuse

if TYPE_CHECKING:
    from autotunenet_bench.executors import Executor


@dataclass(frozen=True)
class Place:
    """What the options say of where runs go.

    Attributes:
        executor: Its name.
        address: Of a cluster.
        workers: Runs at a time; None: as many as there is room for.
        gpus: GPUs of a run.
        timeout_seconds: How long a run may take.
        memory: What it may hold, such as "4GB".
    """

    executor: str = "local"
    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0
    timeout_seconds: float | None = None
    memory: str | None = None

    @contextmanager
    def opened(self) -> Iterator[Executor]:
        """Give the executor, and close it in the end; what it cannot do is refused."""
        from autotunenet_bench.executors import Limits, make_executor
        from autotunenet_bench.executors.memory import parse_bytes

        options: dict[str, Any] = {}
        if self.address is not None:
            if self.executor == "local":
                refuse("--address names a cluster; it needs --executor ray or slurm")
            options["address"] = self.address
        try:
            memory_bytes = parse_bytes(self.memory) if self.memory else None
            limits = Limits(gpus=self.gpus, timeout_seconds=self.timeout_seconds, memory_bytes=memory_bytes)
            executor = make_executor(self.executor, limits, **options)
        except (ImportError, ValueError) as error:
            refuse(str(error))
        try:
            yield executor
        finally:
            executor.close()
