"""Train a small network on real images of digits with Accelerate, accumulating gradients; then go on from a checkpoint.

    python examples/accelerate_digits.py

A few seconds on one core; `accelerate launch examples/accelerate_digits.py` runs it as your configuration says. The
images are those of scikit-learn (`pip install 'autotunenet[bench,accelerate]'`); nothing is downloaded.
"""

from __future__ import annotations

import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from autotunenet import Action
from autotunenet.adapters.accelerate import AcceleratedTuner, prepare_tuner

NUM_EPOCHS = 12
NUM_MICRO_BATCHES = 4
LR = 3.0  # for AdamW: a thousand times too high


class Training:
    """What Accelerate's own examples have in one function."""

    def __init__(self, accelerator: Accelerator) -> None:
        set_seed(0)
        images, labels = digits()
        loader = DataLoader(TensorDataset(images[:1437], labels[:1437]), batch_size=8, shuffle=True)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
        self.accelerator = accelerator
        self.model, self.optimizer, self.loader = accelerator.prepare(model, optimizer, loader)
        num_steps = NUM_EPOCHS * -(-len(self.loader) // NUM_MICRO_BATCHES)
        self.tuner: AcceleratedTuner = prepare_tuner(accelerator, self.model, self.optimizer, num_steps)  # line 1
        accelerator.register_for_checkpointing(self.tuner)  # for save_state and load_state

    def train(self, first_epoch: int, num_epochs: int) -> None:
        """Train for some epochs."""
        for _ in range(first_epoch, num_epochs):
            for images, labels in self.loader:
                with self.accelerator.accumulate(self.model):
                    loss = functional.cross_entropy(self.model(images), labels)
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    self.tuner.step(loss)  # line 2

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the accuracy on the other 360 images."""
        images, labels = (part[1437:].to(self.accelerator.device) for part in digits())
        return (self.model(images).argmax(1) == labels).float().mean().item()


def digits() -> tuple[Tensor, Tensor]:
    """Return 1,797 images of 64 values in [0, 1] each, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


def main() -> None:
    """Train, stop in the middle of the launch, go on in new objects, and say what the tuner did."""
    torch.set_num_threads(1)  # batches this small only make more threads wait for each other
    accelerator = Accelerator(gradient_accumulation_steps=NUM_MICRO_BATCHES)
    with tempfile.TemporaryDirectory() as folder:
        first = Training(accelerator)
        first.train(0, 1)
        accelerator.save_state(folder)
        accelerator.free_memory(first)

        accelerator = Accelerator(gradient_accumulation_steps=NUM_MICRO_BATCHES)
        training = Training(accelerator)
        accelerator.load_state(folder)
        training.train(1, NUM_EPOCHS)

    for decision in training.tuner.history:
        if decision.action not in (Action.HOLD, Action.ADAPT):
            accelerator.print(f"{decision.observation.step:4}  {decision.reason}")
    accelerator.print(f"\naccuracy {training.accuracy():.1%}, from lr {LR:g}")


if __name__ == "__main__":
    main()
