"""Search lr, weight decay, width and batch size of a small network on real images of digits: 30 trainings, two workers.

    python examples/tune_digits.py [FOLDER]

It takes ten seconds or so on two cores. With a folder, interrupt it and call it again: it goes on where it was.
The images are those of scikit-learn (`pip install autotunenet[bench]`); nothing is downloaded.
"""

from __future__ import annotations

import sys
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from autotunenet import Categorical, Float, Int, SearchSpace
from autotunenet.hpo import Cost, Outcome, RunningTrial, TuneUpdate, tune

SPACE = SearchSpace(
    {
        "lr": Float(1e-4, 1.0, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "width": Int(8, 256, log=True),
        "batch_size": Categorical((16, 64, 256)),
    }
)
NUM_EPOCHS = 8


def train(trial: RunningTrial) -> Outcome:
    """Train a network of one hidden layer; return its validation loss."""
    torch.set_num_threads(1)  # two workers share the cores
    torch.manual_seed(0)
    (images, labels), validation = digits()
    params = trial.params
    model = nn.Sequential(nn.Linear(64, params["width"]), nn.ReLU(), nn.Linear(params["width"], 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=params["lr"], weight_decay=params["weight_decay"])
    num_steps = 0
    for _ in range(NUM_EPOCHS):
        for batch in torch.randperm(len(images)).split(params["batch_size"]):
            loss = functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            num_steps += 1
    loss, accuracy = evaluate(model, *validation)
    return Outcome(loss, {"accuracy": accuracy}, Cost(steps=num_steps))


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return loss and accuracy."""
    logits = model(images)
    return functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


@cache
def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return 1,437 images for training and 360 for validation, of 64 values in [0, 1] each, with their labels."""
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32) / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return (images[order[360:]], labels[order[360:]]), (images[order[:360]], labels[order[:360]])


def show(update: TuneUpdate) -> None:
    """Print a line for every trial that ends."""
    if update.kind == "told" and update.best is not None:
        ended, number = update.num_done + update.num_failed, update.trial.number
        outcome = update.trial.error or f"{update.trial.value:.3f}"
        print(f"{ended:3}  trial {number:2}: {outcome}  best {update.best.value:.3f}")


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    result = tune(train, SPACE, "surrogate", budget=30, folder=folder, num_workers=2, on_update=show)
    if result.best is not None:
        print(f"\nbest: {result.best.params}, accuracy {result.best.metrics['accuracy']:.1%}")
    print(f"{result.cost.steps} steps, {result.cost.seconds:.0f} seconds of training")
