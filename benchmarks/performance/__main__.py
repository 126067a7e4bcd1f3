"""Measure what AutoTuneNet costs, beside its peers, and print tables in Markdown; progress goes to stderr.

python -m benchmarks.performance
python -m benchmarks.performance overhead snapshots
python -m benchmarks.performance --write docs/performance.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.performance import cells, memory, overhead, proposals, snapshots, startup
from benchmarks.performance.tables import Table, fingerprint, write_part
from benchmarks.performance.timing import Settings, one_thread, say

PARTS: dict[str, Callable[[Settings], list[Table]]] = {
    "overhead": overhead.measure,
    "snapshots": snapshots.measure,
    "proposals": proposals.measure,
    "cells": cells.measure,
    "startup": startup.measure,
    "memory": memory.measure,
}
"""Parts by name, in the order of the page."""

PACKAGES = ("optuna", "prodigyopt", "schedulefree", "scikit-learn", "transformers")
"""Whose versions decide about the numbers, beside torch and numpy."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.performance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="only see whether it runs: the numbers say nothing")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put each table between its markers in this page")
    args = parser.parse_args(arguments)
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if args.quick and args.write:
        parser.error("the numbers of --quick say nothing, so they are not written; leave out one of the two")
    for part in args.parts or PARTS:
        began = time.perf_counter()
        with one_thread():
            tables = PARTS[part](Settings(quick=args.quick))
        text = "\n\n".join(map(str, [fingerprint(PACKAGES), *tables]))
        print(f"{text}\n", flush=True)
        if args.write:
            write_part(args.write, part, text)
        say(f"{part}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
