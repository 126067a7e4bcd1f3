"""What the cells of a try have done, a line an event, kept outside of the store: it shows work that was done twice.

``<folder of the results>/../diary.txt`` has lines of a run id, a token of one call of a cell, and an event.
"""

import os
import uuid
from collections import defaultdict

FINISHED = "finished"


def diary_of(root):
    """The diary of a folder of results."""
    return root.parent / "diary.txt"


class Writer:
    """One call of a cell; lines of several processes do not mix, since each is one short write."""

    def __init__(self, root, run_id):
        self._path = diary_of(root)
        self._head = f"{run_id} {uuid.uuid4().hex}"

    def note(self, words):
        descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        try:
            os.write(descriptor, f"{self._head} {words}\n".encode())
        finally:
            os.close(descriptor)


def entries(root):
    """Lines as (run id, token, event), in the order in which they were written."""
    path = diary_of(root)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [tuple(line.split(" ", 2)) for line in lines]


def num_epochs_done(root):
    return sum(event.startswith("epoch") for _, _, event in entries(root))


def duplicates(root, begun_anew=()):
    """Runs that were trained twice, with the reason; an entry a run.

    An event comes after its checkpoint is on the disk. So of a run, whatever was killed, no epoch comes twice, as would
    be so too if two processes had it at once; and no process begins with it after its end. One that slept between its
    checkpoint and its event may tell of that one late.

    Args:
        root: Folder of the results.
        begun_anew: Runs whose checkpoint was thrown away, which begin with their first epoch once more.
    """
    told = defaultdict(list)
    for run_id, token, event in entries(root):
        told[run_id].append((token, event))
    found = {run_id: _fault(lines, run_id in begun_anew) for run_id, lines in told.items()}
    return {run_id: fault for run_id, fault in found.items() if fault}


def _fault(lines, is_begun_anew):
    epochs, tokens, has_finished = set(), set(), False
    for token, event in lines:
        if event == FINISHED:  # also of a call that has found it finished
            has_finished = True
            continue
        if has_finished and token not in tokens:
            return f"{event} after its end"
        if event in epochs and not is_begun_anew:
            return f"{event} twice"
        tokens.add(token)
        if event.startswith("epoch"):
            epochs.add(event)
    return ""
