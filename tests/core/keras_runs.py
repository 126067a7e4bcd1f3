"""Small trainings with Keras on PyTorch. Tests import this when they run: it takes seconds."""

import keras
import numpy as np
import torch

from autotunenet.adapters.keras import AutoTuneNetCallback

_RANDOM = np.random.default_rng(0)
INPUTS = _RANDOM.normal(size=(310, 8)).astype("float32")
TARGETS = INPUTS.sum(1, keepdims=True) + 0.1 * _RANDOM.normal(size=(310, 1)).astype("float32")
NUM_BATCHES = 10
"""Of an epoch; the last one is smaller."""


class Interrupt(keras.callbacks.Callback):
    """Ends the training at an epoch, as a full disk might."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise OSError("interrupted")


class Poison(keras.callbacks.Callback):
    """Loses the weights once."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 9:
            self.model.weights[0].assign(self.model.weights[0] * float("nan"))


class BatchLosses(keras.callbacks.Callback):
    """Computes what every batch gives before its step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_begin(self, batch, logs=None):
        part = slice(32 * batch, 32 * batch + 32)
        with torch.no_grad():
            outputs = self.model(INPUTS[part])
        self.losses.append((outputs.cpu() - torch.tensor(TARGETS[part])).square().mean().item())

    def on_train_batch_end(self, batch, logs=None):
        self.model.compute_loss(y=TARGETS[:2], y_pred=9 * TARGETS[:2], training=False)  # that is no step


class OwnStep(keras.Sequential):
    """Computes its loss past Keras."""

    def train_step(self, data):
        inputs, targets = data
        loss = (self(inputs) - targets).square().mean()
        self.zero_grad()
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in self.trainable_weights], self.trainable_weights)
        return {"loss": loss}


def make_model(optimizer=None, seed=0, kind=keras.Sequential, **options):
    layer = keras.layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(0.0, 0.1, seed=seed))
    model = kind([keras.Input((8,)), layer])
    model.compile(optimizer or keras.optimizers.SGD(30.0, momentum=0.5), loss="mse", **options)
    return model


def fit(model, *callbacks, epochs=12, **options):
    options = {"batch_size": 32, "verbose": 0, "shuffle": False, **options}
    return model.fit(INPUTS, TARGETS, epochs=epochs, callbacks=list(callbacks), **options)


def error(model):
    return float(np.abs(model.get_weights()[0] - 1).max())


def same_weights(model, other):
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(mine, yours) for mine, yours in pairs)


def reasons(callback):
    return [decision.reason for decision in callback.tuner.history]


__all__ = ["AutoTuneNetCallback", "keras"]
