"""File systems that get full, or read-only, and are mended then: a tmpfs of the try's own where one can be mounted."""

import ctypes
import errno
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

from faults.cells import full_disk_cell
from faults.processes import wait_until
from faults.trial import ImpossibleError, MissedError

ROOMY = "64m"
MS_RDONLY, MS_REMOUNT = 1, 32  # of sys/mount.h: the call is over before the next cell begins, unlike the command


def fill(trial):
    """The disk gets full at a random moment; then there is space again."""
    if not can_mount(trial):
        _expect(trial, errno.EFBIG, cell=full_disk_cell)
        return None
    needed = _space_of(trial)
    with mounted(trial, f"{int(needed * trial.rng.uniform(0.1, 0.9))}k"):
        _expect(trial, errno.ENOSPC)
        trial.note_finished()
        remount(trial, options=f"size={ROOMY}")
        return trial.outcome()


def make_read_only(trial):
    """The file system becomes read-only between two cells at a random moment; then it can be written again.

    Between two cells, because Linux refuses it while a file is open for writing.
    """
    if not can_mount(trial):
        raise ImpossibleError("no file system can be mounted here")

    def lock():
        trial.await_moment()
        wait_until(lambda: trial.is_complete() or remount(trial, MS_RDONLY), pause=0.0002)
        if trial.is_complete():
            raise MissedError("no moment between two cells was found")

    with mounted(trial, ROOMY):
        with trial.disturbed(lock):
            _expect(trial, errno.EROFS, num_workers=1)
        trial.note_finished()
        _expect(trial, errno.EROFS)  # begun on what is read-only already
        wait_until(lambda: remount(trial))
        return trial.outcome()


def _expect(trial, number, **options):
    """Run, and check that what is wrong with the disk is told."""

    try:
        failures = trial.run_with_report(**options)
    except OSError as error:
        if error.errno != number:
            raise
        return
    if not failures:
        raise MissedError("there was enough space")
    untold = [message for message in failures.values() if os.strerror(number) not in message]
    if untold:
        raise AssertionError(f"not told: {untold}")


def can_mount(trial):
    """Whether a tmpfs can be mounted here, which takes the rights of root."""
    if shutil.which("mount") is None:
        return False
    try:
        with mounted(trial, ROOMY):
            return True
    except ImpossibleError:
        return False


@contextmanager
def mounted(trial, size):
    """A tmpfs as the store of a try."""
    if _call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(trial.root)):
        raise ImpossibleError("no file system can be mounted here")
    try:
        yield
    finally:
        deadline = time.monotonic() + 10
        while _call("umount", str(trial.root)) and time.monotonic() < deadline:
            time.sleep(0.1)


def remount(trial, flags=0, options=""):
    """Change a mounted file system; return whether that was possible."""
    root = os.fsencode(trial.root)
    return ctypes.CDLL(None).mount(b"tmpfs", root, b"tmpfs", MS_REMOUNT | flags, options.encode()) == 0


def _call(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


def _space_of(trial):
    """KiB that the runs of an undisturbed suite take."""
    files = trial.lab.undisturbed(trial.executor, trial.overrides).rglob("*")
    return sum(-(-path.stat().st_size // 4096) * 4 for path in files if path.is_file())
