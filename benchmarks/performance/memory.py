"""Part (f): the most memory that a training holds at once, bare and with a tuner; each in a process of its own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.performance.loops import Loop
from benchmarks.performance.overhead import BARE, METHODS, OURS
from benchmarks.performance.tables import Table
from benchmarks.performance.timing import Settings, one_thread, say
from benchmarks.performance.workloads import workloads

NUM_STEPS = {"MLP, 50k": 300, "mnist_cnn": 120, "transformer, 431k": 120, "ResNet-18, 11M": 60}
"""Long enough for the launch and a snapshot."""

PROCESS = Path("/proc/self")
"""Where Linux tells of a process's memory."""


def measure(settings: Settings) -> list[Table]:
    """Return a row for each network."""
    head = (
        "network",
        "weights, buffers and optimizer, MB",
        "bare loop, MB",
        "with AutoTuneNet, MB",
        "more, times the state",
    )
    if not PROCESS.exists():
        return [Table("Peak memory", head, (), notes=("measured on Linux alone, which was not at hand",))]
    rows = []
    for name, num_steps in settings.pick(NUM_STEPS, {"MLP, 50k": 3}).items():
        say(f"memory: {name}")
        state, bare = _measured(name, BARE, num_steps)
        _, ours = _measured(name, OURS, num_steps)
        rows.append((name, *(f"{number / 1e6:.1f}" for number in (state, bare, ours)), f"{(ours - bare) / state:.2f}"))
    notes = (
        "above what the process held before; it had made two steps of a bare loop then, and had the batches",
        "a tuner keeps two states to go back to, the good one and the next one, and during the launch up to two more",
    )
    return [Table("Peak memory", head, tuple(rows), notes=notes)]


def _measured(name: str, method: str, num_steps: int) -> tuple[int, int]:
    """Return the bytes of the state, and the most that a training held."""
    words = [sys.executable, "-m", __spec__.name, name, method, str(num_steps)]
    # Every tensor in pages of its own, which it gives back: else what was freed before would be used again, unseen.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=True)
    state, peak = map(int, done.stdout.split())
    return state, peak


def main() -> None:
    """Be one of these processes: print both numbers."""
    name, method, num_steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with one_thread():
        workload = replace(workloads(Settings())[name], block_steps=num_steps)
        Loop(replace(workload, block_steps=2), METHODS[BARE]).block()  # the libraries take memory of their own
        gc.collect()
        before = _bytes("VmRSS")
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        loop = Loop(workload, METHODS[method])
        loop.block()
        print(loop.state_bytes, _bytes("VmHWM") - before)
        loop.close()


def _bytes(field: str) -> int:
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
