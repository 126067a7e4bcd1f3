"""Train a network on real images of digits with everything going wrong, and look on from another terminal.

    python examples/watch_digits.py [FILE [SECONDS]]       # FILE: runs/digits.jsonl if nothing else is said
    autotunenet watch runs/digits.jsonl                    # in the other terminal; before, meanwhile or afterwards

The lr is a hundred times too high. At step 900 all labels change. At step 1500 noise is added to the weights, as by a
bug. It takes ten seconds, or as many SECONDS more as are asked for. Ends with what the tuner did about it, and with a
figure beside FILE. The images are those of scikit-learn (`pip install autotunenet[bench]`); nothing is downloaded.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from autotunenet import AutoTuneNet, Tuner
from autotunenet.sinks import JsonlSink, read_run

NUM_STEPS = 2400
CHANGE, HIT = 900, 1500
BATCH_SIZE, NUM_VALIDATION, VALIDATE_EVERY = 64, 300, 100


def train(path: Path, seconds: float = 0.0) -> Tuner:
    """Train, write what is decided into `path`, and return the tuner."""
    torch.set_num_threads(1)  # more cost more than they bring here
    torch.manual_seed(0)
    pixels, digits = load_digits(return_X_y=True)
    images, labels = torch.tensor(pixels, dtype=torch.float32) / 16, torch.tensor(digits)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0, momentum=0.9)
    tuner = AutoTuneNet(model, optimizer, NUM_STEPS, sinks=[JsonlSink(path)])
    for step in range(1, NUM_STEPS + 1):
        if step == CHANGE:
            labels = (labels + 3) % 10
        batch = torch.randint(NUM_VALIDATION, len(images), (BATCH_SIZE,))
        loss = functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == HIT:
            with torch.no_grad():
                for weights in model.parameters():
                    weights.add_(torch.randn_like(weights))
        tuner.step(loss)
        if step % VALIDATE_EVERY == 0:
            with torch.no_grad():
                tuner.observe(functional.cross_entropy(model(images[:NUM_VALIDATION]), labels[:NUM_VALIDATION]))
        time.sleep(seconds / NUM_STEPS)
    tuner.close()
    return tuner


def main() -> None:
    """Train, say what happened, and draw it."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/digits.jsonl")
    tuner = train(path, float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
    print(tuner)
    frame = tuner.to_frame()
    print(frame[frame.health == "unstable"][["step", "action", "cause", "discarded_steps", "lr_applied"]].to_string())
    picture = path.with_suffix(".png")
    tuner.plot(read_run(path).validation, title="Digits, with everything going wrong").savefig(picture)
    print(f"\nA figure is in {picture}. To see the run in a terminal:\n  autotunenet watch {path}")


if __name__ == "__main__":
    main()
