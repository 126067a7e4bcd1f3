"""kill -9 at random moments: of a worker, of the supervisor, of everything at once."""

import os
import signal

from faults.processes import kill_tree, wait_until


def kill_a_worker(trial):
    """A process that has a cell dies under it; whoever supervises goes on."""

    def kill():
        trial.await_moment()
        claim = trial.await_claim()
        trial.note_finished()
        os.kill(claim.owner.pid, signal.SIGKILL)

    with trial.disturbed(kill):
        trial.run()


def kill_the_supervisor(trial):
    """The program dies that hands the cells out; its workers see to it themselves that they end."""
    with trial.program(*trial.lab.cluster.options(trial.executor)) as program:
        trial.await_moment(program)
        os.kill(program.pid, signal.SIGKILL)
        program.join()
        trial.note_finished()


def kill_everything(trial):
    """The power fails: the program and all processes below it are gone at one moment."""
    with trial.program() as program:
        trial.await_moment(program)
        kill_tree(program.pid)
        program.join()
        wait_until(lambda: all(found.is_abandoned for found in trial.claims().values()))
        trial.note_finished()
