"""Train a network on images of digits in two processes that decide as one, with a lr that is far too high.

    torchrun --standalone --nproc-per-node 2 examples/ddp_digits.py

It takes ten seconds or so on two cores. In the middle one batch of rank 1 alone is broken: its loss is NaN, and so is
the gradient that DistributedDataParallel averages over all ranks. All of them go back together.
The images are those of scikit-learn (`pip install autotunenet[bench]`); nothing is downloaded.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from autotunenet import Action, AutoTuneNet, Tuner

NUM_EPOCHS, BROKEN_STEP = 20, 250


def main() -> None:
    """Train, and let rank 0 tell about it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rank, (training, validation) = dist.get_rank(), digits()
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(training)  # as many batches on every rank
    loader = DataLoader(training, batch_size=32, sampler=sampler)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=10.0)
    tuner = AutoTuneNet(model, optimizer, total_steps=NUM_EPOCHS * len(loader))  # on every rank

    num_steps = 0
    for epoch in range(NUM_EPOCHS):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            num_steps += 1
            loss = functional.cross_entropy(model(images), labels)
            if num_steps == BROKEN_STEP and rank == 1:
                loss = loss * float("nan")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tuner.step(loss)  # on every rank, each with its own loss
        if rank == 0:
            tuner.observe(evaluate(model.module, *validation.tensors)[0])  # on one is enough

    same = are_same_on_all_ranks(model)
    if rank == 0:
        tell(tuner)
        loss, accuracy = evaluate(model.module, *validation.tensors)
        print(f"validation loss {loss:.3f}, accuracy {accuracy:.1%}; weights are the same on all ranks: {same}")


def tell(tuner: Tuner) -> None:
    """Print what was decided, except for what is done at the end of every interval."""
    for decision in tuner.history:
        if decision.action not in (Action.HOLD, Action.ADAPT):
            print(f"step {decision.observation.step:4}: {decision.reason}")
    print({name: round(value, 6) for name, value in tuner.metrics().items()})


def are_same_on_all_ranks(model: nn.Module) -> bool:
    """Return whether every rank has exactly these weights; all of them have to ask."""
    mine = nn.utils.parameters_to_vector(model.parameters()).detach()
    all_weights = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(all_weights, mine)
    return all(torch.equal(weights, mine) for weights in all_weights)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return loss and accuracy."""
    logits = model(images)
    return functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Return 1,437 images for training, and 360 for validation."""
    data = load_digits()
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    first, rest = order[:1437], order[1437:]
    return TensorDataset(images[first], labels[first]), TensorDataset(images[rest], labels[rest])


if __name__ == "__main__":
    if not dist.is_torchelastic_launched():
        sys.exit("start it with: torchrun --standalone --nproc-per-node 2 examples/ddp_digits.py")
    dist.init_process_group("gloo")
    try:
        main()
    finally:
        dist.destroy_process_group()
