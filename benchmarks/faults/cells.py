"""What worker processes do in place of the usual cell: the same with a diary, and in some with a fault of its own."""

import random
import resource
import signal
import time
from contextlib import contextmanager

from faults.diary import FINISHED, Writer

from autotunenet_bench.executors.cell import run_bench_cell

HOUR = 3600.0
HOARD_BYTES = 1_500_000_000
MEMORY_LIMIT = 1_000_000_000
FILE_LIMITS = (10_000, 60_000)
"""In bytes, between which a limit is drawn; the diary needs less."""


def recorded_cell(spec, root, source, on_event, before=lambda event: None):
    """The usual cell, with its events in the diary. `before` is called with each, when it is on the disk already."""
    writer = Writer(root, spec.run_id)

    def note(event):
        before(event)
        if event["event"] in ("start", "epoch", "end"):
            writer.note(f"epoch {event['epoch']}" if event["event"] == "epoch" else event["event"])
        on_event(event)

    run_bench_cell(spec, root, source, note)
    writer.note(FINISHED)


def jumping_cell(spec, root, source, on_event):
    """A cell in a process whose wall clock jumps by hours, forwards and backwards."""
    with jumping_clock(spec.seed):
        recorded_cell(spec, root, source, on_event)


@contextmanager
def jumping_clock(seed):
    """Let `time.time` and `time.time_ns` of this process be off by up to 12 hours, by another number at every call."""
    rng, time_, time_ns = random.Random(seed), time.time, time.time_ns
    time.time = lambda: time_() + rng.uniform(-12, 12) * HOUR
    time.time_ns = lambda: time_ns() + int(rng.uniform(-12, 12) * HOUR * 1e9)
    try:
        yield
    finally:
        time.time, time.time_ns = time_, time_ns


def hoarding_cell(spec, root, source, on_event):
    """A cell that takes more memory than it may, in every process from an epoch of its own on."""
    recorded_cell(spec, root, source, on_event, _from_an_epoch_of_its_own(spec, _hoard))


def hoarding_once_cell(spec, root, source, on_event):
    """The same in its first process only."""
    marker = root.parent / f"hoarded-{spec.run_id}"
    is_first = not marker.exists()
    marker.touch()
    before = _from_an_epoch_of_its_own(spec, _hoard) if is_first else lambda event: None
    recorded_cell(spec, root, source, on_event, before)


def starving_cell(spec, root, source, on_event):
    """A cell whose process gets no more memory from the system, and asks for some."""
    recorded_cell(spec, root, source, on_event, _from_an_epoch_of_its_own(spec, _starve))


def full_disk_cell(spec, root, source, on_event):
    """A cell whose files may not grow beyond a size of its own, where no file system can be mounted that gets full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (random.Random(spec.run_id).randrange(*FILE_LIMITS), before[1]))
    try:
        recorded_cell(spec, root, source, on_event)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _from_an_epoch_of_its_own(spec, act):
    epoch = random.Random(spec.run_id).randrange(1, spec.num_epochs - 1)

    def before(event):
        if event["event"] == "epoch" and event["epoch"] >= epoch:
            act()

    return before


def _hoard():
    held = b"x" * HOARD_BYTES  # written to, or it would take no memory
    time.sleep(60 if held else 0)


def _starve():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1, before[1]))
    try:
        bytearray(HOARD_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
