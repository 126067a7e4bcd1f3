"""Small trainings with `transformers.Trainer`."""

from __future__ import annotations

import contextlib
import io

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from autotunenet.adapters.transformers import AutoTuneNetCallback

DATA = [{"input_ids": [n % 20, 3 * n % 20, n % 7], "labels": n % 2} for n in range(44)]
"""The last batch of an epoch is smaller, and so is its last step where gradients are accumulated."""


def bert(**config):
    """A classifier of 2,000 weights, with dropout."""
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    set_seed(3)
    return BertForSequenceClassification(
        BertConfig(**{**sizes, "num_attention_heads": 1, "max_position_embeddings": 8, **config})
    )


def make(folder, callbacks=(), *, model=None, kind=Trainer, data=DATA, given=None, **args):
    """A Trainer that writes nothing but what `args` ask for."""
    defaults = {
        "learning_rate": 0.003,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": 12,
    }
    model = bert() if model is None else model or None  # False: none
    arguments = TrainingArguments(str(folder), **{**defaults, **args})
    return kind(model, arguments, train_dataset=data, eval_dataset=data, callbacks=list(callbacks), **(given or {}))


def train(trainer, **resume):
    """Train without the Trainer's printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train(**resume)
    return trainer


def tuned(folder, *, attach=False, options=None, callbacks=(), resume=None, **args):
    """Train with a callback; return it and the Trainer."""
    callback = AutoTuneNetCallback(**(options or {}))
    trainer = make(folder, [callback, *callbacks], **args)
    if attach:
        callback.attach(trainer)
    train(trainer, **(resume or {}))
    return callback, trainer


def entries(trainer, name):
    """The entries of a Trainer's log that have a name."""
    return [entry for entry in trainer.state.log_history if name in entry]


def weights(trainer):
    return torch.cat([param.detach().flatten() for param in trainer.model.parameters()])
