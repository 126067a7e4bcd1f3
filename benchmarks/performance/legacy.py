"""The earlier autotunenet 1.0.2 in the same loop: in a virtual environment of its own, as it has the same import name.

Installed there is that package alone. Torch and all else are those of this environment, which the other one looks into
after its own packages: a ratio between two builds of torch would say nothing. The bare loop is measured there too,
round by round.
"""

from __future__ import annotations

import functools
import importlib
import json
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.performance.loops import Block, Method, Workload

VERSION = "1.0.2"

LEGACY = f"autotunenet {VERSION}"

ROOT = Path(__file__).resolve().parents[2]

FOLDER = ROOT / "build" / f"autotunenet-{VERSION}"
"""Where it is installed; git ignores it."""


MAX_BLOCKS = 12
"""It has no launch, and so there is nothing at the beginning of a training that more blocks would even out."""


def measure_legacy(workload: Workload) -> tuple[list[Block], list[Block]] | str:
    """Return the blocks of the loop with it, and of the bare loop beside it; or why it could not be had."""
    import torch

    from benchmarks.performance.loops import Block

    if why := _install():
        return why
    with tempfile.TemporaryDirectory() as folder:  # the package makes a folder of logs wherever it is imported
        workload = replace(workload, num_blocks=min(workload.num_blocks, MAX_BLOCKS))
        torch.save(workload, Path(folder, "workload.pt"))
        words = [str(_python()), str(Path(__file__).resolve())]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the process of {LEGACY} failed:\n{done.stderr[-3000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    with_it, without = ([Block(**block) for block in answer[name]] for name in (LEGACY, "bare"))
    return with_it, without


@functools.cache
def _install() -> str:
    """Install it unless it is there; return why that was not possible, or nothing."""
    if not _packages().joinpath("autotunenet").exists():
        venv.create(FOLDER, clear=True)
        words = [sys.executable, "-m", "pip", "--python", str(_python()), "install", "--quiet", "--no-deps"]
        done = subprocess.run([*words, f"autotunenet=={VERSION}"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"could not be installed ({(done.stderr.strip().splitlines() or ['no word why'])[-1]})"
        outside = (sysconfig.get_path("purelib"), str(ROOT / "src"))  # the networks are those of `autotunenet_bench`
        _packages().joinpath("outside.pth").write_text("\n".join(outside) + "\n", encoding="utf-8")
    return ""


def _python() -> Path:
    return FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _packages() -> Path:
    scheme = "nt" if sys.platform == "win32" else "posix_prefix"
    return Path(sysconfig.get_path("purelib", scheme, {"base": str(FOLDER)}))


def _legacy(model: object, workload: Workload) -> Method:
    """Return AdamW with the earlier package, asked once a block as its README does once an epoch."""
    from torch.optim import AdamW

    from benchmarks.performance.loops import LR, Method

    parameters = importlib.import_module("autotunenet.parameters")
    bayesian = importlib.import_module("autotunenet.bayesian_optimizer")
    adapter = importlib.import_module("autotunenet.adapters.pytorch.adapter")
    optimizer = AdamW(model.parameters(), lr=LR)  # type: ignore[attr-defined]
    search = bayesian.BayesianOptimizer(parameters.ParameterSpace({"lr": (LR / 100, LR * 10)}), seed=0)
    tuner = adapter.PyTorchHyperParameterAdapter(optimizer, search)
    return Method(optimizer, after_block=lambda loss: tuner.on_epoch_end(-loss))  # higher is better there


def main() -> None:
    """Be the process with the earlier package: the last line printed holds all blocks."""
    sys.path[0] = str(ROOT)
    import torch

    from benchmarks.performance.loops import Loop, bare
    from benchmarks.performance.timing import one_thread, take_turns

    if not Path(str(importlib.import_module("autotunenet").__file__)).is_relative_to(FOLDER):
        raise ImportError(f"{LEGACY} is not what is imported; remove {FOLDER} and run again")
    with one_thread():
        workload = torch.load("workload.pt", weights_only=False)  # written by the process that has started this one
        loops = {LEGACY: Loop(workload, _legacy), "bare": Loop(workload, bare)}
        blocks = take_turns({name: loop.block for name, loop in loops.items()}, workload.num_blocks)
    print(json.dumps({name: [asdict(block) for block in each] for name, each in blocks.items()}))


if __name__ == "__main__":
    main()
