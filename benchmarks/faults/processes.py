"""Other processes, as the system tells of them in ``/proc``."""

import contextlib
import os
import signal
import time
from pathlib import Path


def parent_of(pid):
    """The parent of a process; 0 where there is no such process."""
    try:
        return int(
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
        )
    except (OSError, IndexError):
        return 0


def tree_of(pid):
    """A process and all that it has started, and these have."""
    parents = {int(path.name): parent_of(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_tree(pid):
    """Kill a process and all below it at one moment: they are stopped first, so that none begins another meanwhile."""
    before = set()
    while (found := tree_of(pid)) != before:
        signal_all(found, signal.SIGSTOP)
        before = found
    signal_all(found, signal.SIGKILL)


def wait_until(condition, seconds=180.0, pause=0.005):
    """Wait until a condition holds, and return what it returned.

    Raises:
        TimeoutError: If it never does.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain")
        time.sleep(pause)
    return found
