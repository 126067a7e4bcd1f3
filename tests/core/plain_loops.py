"""A training loop as people write it, with several optimizers, schedulers, a scaler, accumulation, clipping."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as sched

from autotunenet import AutoTuneNet

NUM_STEPS = 160


def new_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def batch(i, size=256):
    inputs = torch.randn(size, 6, generator=torch.Generator().manual_seed(i))
    return inputs, torch.sin(inputs).sum(1, keepdim=True)


def sgd(model, lr=0.05):
    return [torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)]


def muon_and_adamw(model, lr=0.02):
    """Muon for the matrices, AdamW at a half of its lr for the rest."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this version of torch has no Muon")
    matrices, rest = ([p for p in model.parameters() if (p.ndim == 2) is wanted] for wanted in (True, False))
    return [torch.optim.Muon(matrices, lr=lr), torch.optim.AdamW(rest, lr=lr / 2)]


def warm_up_and_cosine(optimizer):
    parts = [sched.LinearLR(optimizer, 0.01, total_iters=10), sched.CosineAnnealingLR(optimizer, NUM_STEPS - 10)]
    return sched.SequentialLR(optimizer, parts, [10])


class Loop:
    """A regression whose step i depends on i and the state alone.

    Args:
        make: Returns the optimizers.
        schedule: Returns the scheduler of one optimizer; None: there is none.
        scaler: Returns a gradient scaler, which is among the extras; the forward pass is in float16 then.
        num_micro: Batches whose gradients are added up for one step.
        every_batch: Whether the tuner is told the loss of every batch, and not the mean once a step.
        clip: Norm that gradients are clipped to.
    """

    def __init__(
        self,
        make=sgd,
        schedule=None,
        scaler=None,
        *,
        num_micro=1,
        every_batch=False,
        clip=None,
        tuned=True,
        total=NUM_STEPS,
        **options,
    ):
        self.model = new_model()
        self.optimizers = make(self.model)
        self.schedulers = [schedule(optimizer) for optimizer in self.optimizers] if schedule else []
        self.scaler = scaler() if scaler else None
        self.num_micro, self.every_batch, self.clip = num_micro, every_batch, clip
        self.used = []  # by step and group: the lr that the step was made with
        self.losses = []
        self.tuner = None
        if tuned:
            extras = [*self.schedulers, *([self.scaler] if self.scaler else [])]
            given = self.optimizers if len(self.optimizers) > 1 else self.optimizers[0]
            self.tuner = AutoTuneNet(self.model, given, total, extras=extras, **options)

    def note(self, optimizer, *_):
        self.used.append([float(group["lr"]) for group in optimizer.param_groups])

    def gradients(self, i):
        """Add up the gradients of a step; return its loss."""
        losses = []
        for j in range(self.num_micro):
            inputs, targets = batch(i * self.num_micro + j)
            with torch.autocast("cpu", torch.float16, enabled=self.scaler is not None):
                loss = nn.functional.mse_loss(self.model(inputs), targets)
            scaled = self.scaler.scale(loss / self.num_micro) if self.scaler else loss / self.num_micro
            scaled.backward()
            losses.append(loss.item())
            if self.every_batch and self.tuner and j < self.num_micro - 1:
                assert self.tuner.step(losses[-1]) is None
        return losses[-1] if self.every_batch else sum(losses) / len(losses)

    def step(self, i):
        loss = self.gradients(i)
        for optimizer in self.optimizers:
            if self.clip is not None and self.scaler:
                self.scaler.unscale_(optimizer)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        for optimizer in self.optimizers:
            last = optimizer.register_step_pre_hook(self.note)
            if self.scaler:
                self.scaler.step(optimizer)
            else:
                optimizer.step()
            last.remove()
            optimizer.zero_grad()
        if self.scaler:
            self.scaler.update()
        if self.tuner:
            self.tuner.step(loss)
        for scheduler in self.schedulers:
            scheduler.step()
        self.losses.append(loss)

    def run(self, end=NUM_STEPS, start=0):
        for i in range(start, end):
            self.step(i)
        return self

    @torch.no_grad()
    def loss(self):
        inputs, targets = batch(10_000, 1024)
        return float(nn.functional.mse_loss(self.model(inputs), targets))

    def lrs(self):
        return [float(group["lr"]) for optimizer in self.optimizers for group in optimizer.param_groups]

    def history(self):
        return [decision.to_record() for decision in self.tuner.history]

    @property
    def launch(self):
        return self.tuner._launching.launch

    # -- a checkpoint, as users make one -----------------------------------------------------------------------------

    def parts(self):
        named = {f"optimizer {i}": optimizer for i, optimizer in enumerate(self.optimizers)}
        named |= {f"scheduler {i}": scheduler for i, scheduler in enumerate(self.schedulers)}
        named |= {"scaler": self.scaler} if self.scaler else {}
        return {"model": self.model, **named, "tuner": self.tuner}

    def save(self):
        file = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts().items()}, file)
        return file.getvalue()

    def load(self, file):
        saved = torch.load(io.BytesIO(file), weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(copy.deepcopy(saved[name]))
        return self

    def state(self):
        return [p.detach().clone() for p in self.model.parameters()], self.lrs(), self.history()
