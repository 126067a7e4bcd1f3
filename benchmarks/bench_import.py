"""How long does importing the tuner take beside torch, and what comes with it?

    python benchmarks/bench_import.py

Starts Python anew for every repetition, imports torch and then `autotunenet`, and reads what ``-X importtime`` says.
A busy machine only ever adds time, so the least of the repetitions is what the import costs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

HEAVY = ("scipy", "pandas", "sklearn", "lightning", "transformers", "keras", "accelerate", "matplotlib", "rich")


def import_milliseconds() -> float:
    """Return the time of ``import autotunenet`` after ``import torch``, in milliseconds."""
    code = "import torch\nimport autotunenet"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    microseconds = done.stderr.splitlines()[-1].split("|")[1]  # the last import to end is the outermost
    return int(microseconds) / 1000


def heavy_modules() -> list[str]:
    """Return which of the large packages `autotunenet` brings along."""
    code = f"import autotunenet, sys; print(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    times = [import_milliseconds() for _ in range(parser.parse_args().repeats)]
    print(f"import autotunenet after torch: least {min(times):.0f} ms, median {median(times):.0f} ms of {len(times)}")
    print(f"large packages that come with it: {', '.join(heavy_modules()) or 'none'}")


if __name__ == "__main__":
    main()
