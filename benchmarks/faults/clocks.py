"""Wall clocks that jump, and processes that sleep longer than their claims hold."""

import os
import signal
import time

from faults import diary
from faults.cells import HOUR, jumping_cell, jumping_clock
from faults.processes import signal_all, tree_of, wait_until
from faults.trial import MissedError

PROGRAM_SECONDS = 300.0


def jump(trial):
    """The wall clocks of supervisor and workers jump by hours; a worker is killed, so that clocks could mislead."""

    def kill():
        trial.await_moment()
        claim = trial.await_claim()
        for path in trial.root.rglob("*"):  # as they would stand after a jump
            if path.suffix == ".pt" or path.parent == claim.path.parent:
                shift = trial.rng.uniform(-12, 12) * HOUR
                _set_time(path, shift)
        trial.note_finished()
        os.kill(claim.owner.pid, signal.SIGKILL)

    with trial.disturbed(kill), jumping_clock(trial.rng.random()):
        trial.run(cell=jumping_cell)


def _set_time(path, shift):
    now = time.monotonic() + 1.7e9  # the wall clock of this process is not to be believed
    try:
        os.utime(path, (now + shift, now + shift))
    except FileNotFoundError:  # it was released meanwhile
        return


def sleep_too_long(trial):
    """A program and its workers are stopped; another one takes over; the first wakes up in the middle of that."""
    with trial.program() as program:
        trial.await_moment(program)
        stopped, held = _stop(trial, program)
        trial.note_finished()
        tokens = {token for _, token, _ in diary.entries(trial.root)}

        def wake():
            wait_until(lambda: any(run in held and token not in tokens for run, token, _ in diary.entries(trial.root)))
            time.sleep(trial.rng.uniform(0, 0.5))
            signal_all(stopped, signal.SIGCONT)

        with trial.disturbed(wake):
            trial.run()
        program.join(PROGRAM_SECONDS)
        if program.exitcode != 0:
            raise AssertionError((trial.folder / "program.txt").read_text())


def _stop(trial, program):
    """Stop all processes at a moment at which they hold claims of cells; return them and the cells."""
    for _ in range(200):
        stopped = tree_of(program.pid)
        signal_all(stopped, signal.SIGSTOP)
        if held := trial.claims():
            return stopped, set(held)
        signal_all(stopped, signal.SIGCONT)
        time.sleep(0.01)
    raise MissedError("no cell was at work")
