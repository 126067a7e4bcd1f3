"""What stands between the command line and the suite: defaults, progress, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autotunenet.files import FolderInUseError
from autotunenet_bench.attribution.suite import OPTIMIZERS, PlanError, plan, run_attribution
from autotunenet_bench.attribution.tasks import SUITE_TASKS
from autotunenet_bench.data import DataError, DataSource
from autotunenet_bench.executors import ProgressDisplay
from autotunenet_bench.executors.base import num_cores


class RefusedError(ValueError):
    """The suite cannot run as it was asked for."""


def run_command(
    out: Path,
    *,
    tasks: Sequence[str] | None,
    optimizers: Sequence[str] | None,
    num_seeds: int,
    launch: bool,
    replay: bool,
    num_workers: int | None,
    data: tuple[Path | None, bool],
) -> tuple[str, int]:
    """Run the suite with progress on stderr; return the summary and the number of trainings that failed.

    Args:
        out: Folder of the results.
        tasks: None: all.
        optimizers: None: all.
        num_seeds: As `plan` takes it.
        launch: As `plan` takes it.
        replay: As `plan` takes it.
        num_workers: None: as many as there are cores.
        data: Folder of the user's copies, and whether data may be fetched.

    Raises:
        RefusedError: If a name is not known, data are missing, or the folder is in use.
        OSError: If something cannot be written.
    """
    try:
        specs = plan(
            tasks=tasks or tuple(SUITE_TASKS),
            optimizers=optimizers or OPTIMIZERS,
            num_seeds=num_seeds,
            launch=launch,
            replay=replay,
        )
        workers = min(num_workers or num_cores(), len(specs))
        with ProgressDisplay() as progress:
            progress.begin(specs, num_reused=0, num_workers=workers)
            result = run_attribution(
                specs, out, DataSource.from_environment(*data), num_workers=workers, on_update=progress.update
            )
    except (PlanError, DataError, FolderInUseError) as error:
        raise RefusedError(str(error)) from error
    return result.page, len(result.failures)
