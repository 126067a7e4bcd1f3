"""The command line, ``autotunenet-bench``.

Heavy imports stand inside the commands, so that ``--help`` answers at once.
"""

from autotunenet_bench.cli import hpo as _hpo  # noqa: F401  its commands
from autotunenet_bench.cli import keeping as _keeping  # noqa: F401  its commands
from autotunenet_bench.cli import tables as _tables  # noqa: F401  its commands
from autotunenet_bench.cli.commands import app, main
from autotunenet_bench.cli.ending import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED
from autotunenet_bench.cli.saying import PROGRAM, continue_command

__all__ = ["EXIT_FAILED", "EXIT_INTERRUPTED", "EXIT_REFUSED", "PROGRAM", "app", "continue_command", "main"]
