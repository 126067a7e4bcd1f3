"""Train a small network on real images of digits with Keras on PyTorch, from an lr a thousand times too high.

    python examples/keras_digits.py [FOLDER]

A few seconds on one core. With a folder, Keras' BackupAndRestore writes there: interrupt it (Ctrl-C) and call it again,
and it goes on at the epoch where it was. The images are those of scikit-learn
(`pip install 'autotunenet[bench,keras]'`); nothing is downloaded.
"""

from __future__ import annotations

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported

import keras
import torch
from sklearn.datasets import load_digits

from autotunenet import Action
from autotunenet.adapters.keras import AutoTuneNetCallback

NUM_EPOCHS = 15
LR = 3.0  # for Adam: a thousand times too high


def make_model() -> keras.Model:
    """Return a compiled model that knows nothing of AutoTuneNet."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LR), loss, metrics=["accuracy"])
    return model


def main(folder: str | None) -> None:
    """Train, and say what the tuner did."""
    torch.set_num_threads(1)  # batches this small only make more threads wait for each other
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = images.astype("float32").reshape(-1, 8, 8, 1) / 16
    backup = keras.callbacks.BackupAndRestore(folder) if folder else None
    callback = AutoTuneNetCallback(monitor="val_loss", backup=backup)
    logs = make_model().fit(
        images[:1437],
        labels[:1437],
        epochs=NUM_EPOCHS,
        validation_data=(images[1437:], labels[1437:]),
        callbacks=[callback],
        verbose=2,
    )
    for decision in callback.tuner.history if callback.tuner else ():
        if decision.action not in (Action.HOLD, Action.ADAPT):
            print(f"{decision.observation.step:4}  {decision.reason}")
    print(f"\naccuracy {logs.history['val_accuracy'][-1]:.1%}, from lr {LR:g}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
