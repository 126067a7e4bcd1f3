"""Train a small network on images of digits with `transformers.Trainer`, from a learning rate 1,000 times too high.

    python examples/transformers_digits.py            # with AutoTuneNet
    python examples/transformers_digits.py --without  # the same without it

It takes ten seconds on one core, and the extras ``bench`` and ``transformers``. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from transformers import EvalPrediction, Trainer, TrainingArguments, logging, set_seed

from autotunenet.adapters.transformers import AutoTuneNetCallback

NUM_TRAIN = 1437


class Classifier(nn.Module):
    """A hidden layer of 64. As the Trainer wants it, the output has the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, image: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return loss and logits ``(n, 10)`` of images ``(n, 64)``."""
        logits: Tensor = self.layers(image)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def digits() -> list[dict[str, Any]]:
    """Return the 1,797 images of scikit-learn, values in [0, 1], with their labels."""
    images, labels = load_digits(return_X_y=True)
    return [
        {"image": image, "labels": int(label)}
        for image, label in zip((images / 16).astype("float32"), labels, strict=True)
    ]


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Return the share of images that are classified rightly."""
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def main() -> None:
    """Train, and say what the tuner did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", action="store_true", help="train without AutoTuneNet")
    parser.add_argument("--lr", type=float, default=3.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    set_seed(0)
    rows = digits()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            learning_rate=options.lr,
            max_steps=400,
            per_device_train_batch_size=32,
            logging_steps=100,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(
            Classifier(),
            args,
            train_dataset=rows[:NUM_TRAIN],
            eval_dataset=rows[NUM_TRAIN:],
            compute_metrics=accuracy,
            callbacks=[] if options.without else [AutoTuneNetCallback()],
        )
        trainer.train()
        for row in trainer.state.log_history:
            if "autotunenet/reason" in row:
                print(f"step {row['step']}: {row['autotunenet/action']}: {row['autotunenet/reason']}")
        print(f"accuracy on {len(rows) - NUM_TRAIN} images: {trainer.evaluate()['eval_accuracy']:.1%}")


if __name__ == "__main__":
    main()
