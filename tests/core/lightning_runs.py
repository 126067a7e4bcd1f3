"""Small trainings with Lightning, and the same by hand. Tests import this when they run: it takes seconds."""

import math
import warnings

import lightning.pytorch as pl
import torch

from autotunenet import AutoTuneNet
from autotunenet.adapters.lightning import AutoTuneNetCallback

warnings.filterwarnings("ignore", module="lightning")

NUM_BATCHES = 10
"""Of an epoch."""


class Regression(pl.LightningModule):
    """Eight weights, to be found."""

    def __init__(self, lr=30.0, make_scheduler=None, seed=0):
        super().__init__()
        self.lr, self.make_scheduler = lr, make_scheduler
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(0.1 * torch.randn(8, 1, generator=generator))

    def loss(self, batch):
        inputs, targets = batch
        return (inputs @ self.weight - targets).square().mean()

    @property
    def error(self):
        return (self.weight.detach() - 1).abs().max().item()

    def training_step(self, batch):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return optimizer if self.make_scheduler is None else [[optimizer], [self.make_scheduler(optimizer)]]


class Poisoned(Regression):
    """Loses its weights once."""

    def on_train_batch_start(self, batch, batch_idx):
        if self.trainer.global_step == 90:
            self.weight.data.fill_(math.nan)


class Broken(Regression):
    """Gives no number any more from the second epoch on."""

    def loss(self, batch):
        return super().loss(batch) * (math.nan if self.trainer.global_step >= NUM_BATCHES else 1.0)


class Skipping(Regression):
    """Skips every fifth batch, and returns a dict."""

    def training_step(self, batch, batch_idx):
        return {"loss": self.loss(batch), "more": 1} if batch_idx % 5 else None


class Indexed(Regression):
    """Takes its batches by their number: Lightning knows that after a resume, and no more of the data."""

    def training_step(self, batch, batch_idx):
        return super().training_step(list(batches())[batch_idx])


class Manual(Regression):
    """The optimization by hand."""

    returns_loss = True

    def __init__(self, **options):
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch):
        loss = self.loss(batch)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss if self.returns_loss else None


class TwoOptimizers(Manual):
    """One loss, and two optimizers for the halves of the weights."""

    def __init__(self):
        super().__init__()
        self.halves = torch.nn.ParameterList(self.weight.detach().split(4))

    def loss(self, batch):
        inputs, targets = batch
        return (inputs @ torch.cat([*self.halves]) - targets).square().mean()

    def configure_optimizers(self):
        return [torch.optim.SGD([half], lr=lr) for half, lr in zip(self.halves, (30.0, 15.0), strict=True)]

    def training_step(self, batch):
        loss = self.loss(batch)
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()
        return loss


class TwoParts(pl.LightningModule):
    """Two optimizers, each with a loss and a tuner of its own."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.parts = torch.nn.ModuleList([Regression(), Regression(seed=1)])

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=part.lr) for part in self.parts]

    def on_train_start(self):
        num_steps = self.trainer.estimated_stepping_batches
        pairs = zip(self.parts, self.trainer.optimizers, strict=True)
        self.tuners = [AutoTuneNet(part, optimizer, num_steps) for part, optimizer in pairs]

    def training_step(self, batch):
        for part, optimizer, tuner in zip(self.parts, self.optimizers(), self.tuners, strict=True):
            loss = part.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            tuner.step(loss)


class StepCount(pl.Callback):
    """Counts what the optimizer really does."""

    num_steps = 0

    def on_fit_start(self, trainer, pl_module):
        trainer.optimizers[0].register_step_post_hook(self.count)

    def count(self, *_):
        self.num_steps += 1


class Interrupt(pl.Callback):
    """Ends the training before a step, as a full disk might."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise OSError("interrupted")


class Report(pl.Callback):
    """Writes down how the training ended in this process."""

    def __init__(self, folder, callback):
        self.folder, self.callback = folder, callback

    def on_train_end(self, trainer, pl_module):
        told = {"reasons": reasons(self.callback.tuner), "weight": pl_module.weight.detach()}
        torch.save(told, self.folder / f"{trainer.global_rank}.pt")


class Sharding(pl.strategies.SingleDeviceStrategy):
    """Tells the trainer what strategies do that leave no process the whole model; those of Lightning ask for a GPU."""

    restore_checkpoint_after_setup = True


class Endless(torch.utils.data.IterableDataset):
    """Does not know its length."""

    def __iter__(self):
        yield from batches().dataset


def batches(num=NUM_BATCHES, size=32):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(num * size, 8, generator=generator)
    targets = inputs.sum(1, keepdim=True) + 0.1 * torch.randn(num * size, 1, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=size)


def make_trainer(*callbacks, max_epochs=12, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options = {"accelerator": "cpu", "logger": False, **quiet, **options}
    return pl.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), **options)


def fit(module, callback, *others, val=False, ckpt_path=None, **options):
    """Train with the callback and others before it; return the trainer."""
    trainer = make_trainer(*others, callback, **options)
    trainer.fit(module, batches(), batches(2) if val else None, ckpt_path=ckpt_path)
    return trainer


def train_by_hand(module, max_epochs=12, accumulate=1, **options):
    """Train in a plain loop, as Lightning does it, with a tuner called by hand; return the tuner."""
    optimizer = torch.optim.SGD(module.parameters(), lr=module.lr)
    num_steps = max_epochs * -(-NUM_BATCHES // accumulate)
    tuner = AutoTuneNet(module, optimizer, num_steps, **options)
    for _ in range(max_epochs):
        losses = []
        for i, batch in enumerate(batches(), start=1):
            loss = module.loss(batch)
            (loss / accumulate).backward()
            losses.append(loss.detach())
            if len(losses) == accumulate or i == NUM_BATCHES:
                optimizer.step()
                optimizer.zero_grad()
                tuner.step(sum(losses) / len(losses))
                losses = []
    return tuner


def reasons(tuner):
    return [decision.reason for decision in tuner.history]


__all__ = ["AutoTuneNetCallback", "pl"]
