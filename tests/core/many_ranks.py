"""Trainings in several real processes, over gloo. `run_world` starts them; as a script this file is one."""

import hashlib
import io
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from autotunenet import AutoTuneNet
from autotunenet.adapters._copying import local
from autotunenet.adapters._trees import split_tree
from autotunenet.adapters.distributed import joinable, load_sharded_state, sharded_state

NUM_STEPS, BROKEN_AT, BATCH_SIZE = 100, 70, 48
SRC = Path(__file__).parents[2] / "src"


def run_world(num_ranks, folder, timeout_sec=240):
    """Run every scenario of a world of that size; return what each gave, by its name, as a list over the ranks.

    Ranks meet at a file in the folder, and what they write is in it.
    """
    environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(num_ranks), str(folder)]
    processes = [
        subprocess.Popen(
            [*command, str(rank)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(num_ranks)
    ]
    deadline = time.monotonic() + timeout_sec
    try:
        outputs = [process.communicate(timeout=max(1.0, deadline - time.monotonic()))[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    failed = [f"rank {i}:\n{out}" for i, (p, out) in enumerate(zip(processes, outputs, strict=True)) if p.returncode]
    assert not failed, "\n".join(failed)
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(num_ranks)]
    return {name: [given[name] for given in ranks] for name in ranks[0]}


class Training:
    """A small network on a smooth function, in float64, so that a sum over ranks is the sum over the joined batch.

    Args:
        kind: "plain", "ddp" or "fsdp".
        share: Rank among those that train together, and their number.
        mesh: Of the shards.
        group: Of DistributedDataParallel.
    """

    def __init__(
        self, kind="plain", share=(0, 1), *, lr=3.0, mesh=None, group=None, norm=False, replays=False, **options
    ):
        self.share = share
        if replays:
            options["replay"] = self.replay
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            # 17 and 3 rows divide by no number of ranks.
            middle = [nn.BatchNorm1d(17)] if norm else []
            model = nn.Sequential(nn.Linear(8, 17), *middle, nn.Tanh(), nn.Linear(17, 3)).double()
        if kind == "ddp":
            model = DistributedDataParallel(model, process_group=group)
        if kind == "fsdp":
            from torch.distributed.fsdp import fully_shard

            fully_shard(model[0], mesh=mesh)
            fully_shard(model, mesh=mesh)
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        self.tuner = AutoTuneNet(model, self.optimizer, total_steps=NUM_STEPS, **options)

    def loss(self, batch):
        inputs, targets = batch
        return (self.model(inputs) - targets).square().mean()

    def batch(self, step):
        """This rank's share of the batch of that step."""
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(BATCH_SIZE, 8, generator=generator, dtype=torch.float64)
        targets = torch.stack([inputs[:, i] * inputs[:, i + 3] + inputs[:, i + 1] for i in range(3)], dim=1)
        rank, num = self.share
        return inputs[rank::num], targets[rank::num]

    def train(self, stop=NUM_STEPS, start=0, broken_at=BROKEN_AT, *, observe=True):
        """Train; at one step the loss of the last rank alone is NaN. Only the first one validates."""
        for step in range(start, stop):
            loss = self.loss(self.batch(step))
            if step == broken_at and self.share[0] == self.share[1] - 1:
                loss = loss * float("nan")
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.tuner.step(loss)
            if observe and step % 20 == 19 and self.share[0] == 0:
                self.tuner.observe(1.0 / (step + 1))
        return self

    def accumulate(self, stop):
        """Train on two shares a step; DistributedDataParallel adds them up over the ranks at the second alone."""
        for step in range(stop):
            first, second = self.batch(2 * step), self.batch(2 * step + 1)
            self.optimizer.zero_grad()
            with self.model.no_sync() if hasattr(self.model, "no_sync") else nullcontext():
                (loss := self.loss(first) / 2).backward()
            (more := self.loss(second) / 2).backward()
            self.optimizer.step()
            self.tuner.step(loss.detach() + more.detach())
        return self

    def replay(self, batch):
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def turn_up(self, stop=80, at=65):
        """Train with stored batches; somebody turns lr up by far at one step."""
        for step in range(stop):
            if step == at:
                self.optimizer.param_groups[0]["lr"] *= 1000
            batch = self.batch(step)
            self.tuner.step(self.replay(batch), batch)
        return self

    @torch.no_grad()
    def weights(self):
        """All of them, on every rank."""
        whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in self.model.parameters()]
        return torch.cat([param.flatten() for param in whole])

    def outcome(self):
        return {
            "weights": self.weights(),
            "history": repr([decision.to_record() for decision in self.tuner.history]),
            "actions": [[d.observation.step, d.action.value, d.reason] for d in self.tuner.history],
            "metrics": repr(self.tuner.metrics()),
        }

    def state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tuner": self.tuner.state_dict(),
        }

    def save(self):
        file = io.BytesIO()
        torch.save(self.state(), file)
        file.seek(0)
        return file

    def load(self, file):
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.tuner.load_state_dict(state["tuner"])
        return self

    def save_shards(self, folder, group):
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self.model, self.optimizer)
        state = {"model": model, "optimizer": optimizer, "tuner": sharded_state(self.tuner)}
        dcp.save(state, checkpoint_id=folder, process_group=group)

    def load_shards(self, folder, group=None):
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

        model, optimizer = get_state_dict(self.model, self.optimizer)
        state = {"model": model, "optimizer": optimizer}
        dcp.load(state, checkpoint_id=folder, process_group=group, no_dist=group is None)
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        load_sharded_state(self.tuner, folder)
        return self


def digest(tree):
    """Two trees with one digest are the same, bit for bit."""
    rest, tensors = split_tree(tree)
    told = hashlib.sha256(repr(torch.load(io.BytesIO(rest), weights_only=True)).encode())
    for tensor in tensors.values():
        told.update(local(tensor).contiguous().numpy().tobytes())
    return told.hexdigest()


def error_of(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


# -- a world of two --------------------------------------------------------------------------------------------------


def whole(share, folder):
    return {kind: Training(kind, share).train().outcome() for kind in ("ddp", "fsdp")}


def resumed(share, folder):
    """In the launch, and between a metric and the step that brings it to the other rank; and a state for one alone."""
    whole = Training("ddp", share).train(20)
    if share[0] == 0:
        state = {**whole.state(), "model": whole.model.module.state_dict()}
        torch.save(state, folder / "of_rank_0.pt")

    def resume(kind, step):
        file = Training(kind, share).train(step).save()
        return Training(kind, share).load(file).train(start=step).outcome()

    return {f"{kind} {step}": resume(kind, step) for kind, step in (("ddp", 20), ("fsdp", 20), ("fsdp", 80))}


def each_by_itself(share, folder):
    """Not even in step, and nobody waits."""
    rank = share[0]
    training = Training(lr=(10.0, 1e-4)[rank], process_group=None)
    training.train(20 + 5 * rank, broken_at=None)
    return {**training.outcome(), "ranks": list(training.tuner.run.ranks)}


def found(share, folder):
    """A callback of a framework is shown what is inside the wrapper."""
    wrapped = Training("ddp", share)
    wrapped.tuner.close()
    optimizer = torch.optim.SGD(wrapped.model.parameters(), lr=0.1)
    return {
        "inside": list(AutoTuneNet(wrapped.model.module, wrapped.optimizer).run.ranks),
        "around": list(AutoTuneNet(nn.ModuleDict({"net": wrapped.model}), optimizer).run.ranks),
        "given": list(Training(process_group=dist.group.WORLD).tuner.run.ranks),
        "neither": error_of(Training),
        "list": error_of(lambda: Training(process_group=[0, 1])),
        "word": error_of(lambda: Training(process_group="all")),
    }


def apart(share, folder):
    """All ranks are told, and none waits for ever."""
    rank = share[0]
    other_lr, behind, elsewhere = (Training("ddp", share, lr=lr) for lr in ((0.1, 0.2)[rank], 0.1, 0.1))
    later = Training("ddp", share, lr=0.1).train(3).tuner.state_dict()
    if rank == 1:
        behind.tuner.load_state_dict(later)
    calls = (lambda: elsewhere.tuner.step(1.0)), (lambda: sharded_state(elsewhere.tuner))
    return {
        "lr": error_of(lambda: other_lr.tuner.step(1.0)),
        "step": error_of(lambda: behind.tuner.step(1.0)),
        "call": error_of(calls[rank]),
    }


def uneven(share, folder):
    """Rank 0 has 12 batches an epoch, rank 1 has 20; one of those that only rank 1 has is broken."""
    training = Training("ddp", share)
    for epoch in range(4):
        with Join([training.model, joinable(training.tuner)]):
            training.train(20 * epoch + (12, 20)[share[0]], 20 * epoch, broken_at=72)
    alone, replaying = Training(process_group=None), Training("ddp", share, replays=True)
    return {
        **training.outcome(),
        "state": digest({"state": training.state(), "steps": training.tuner.state_dict()["_num_steps"]}),
        "num_steps": training.tuner.state_dict()["_num_steps"],
        "alone": error_of(lambda: joinable(alone.tuner)),
        "replay": error_of(lambda: joinable(replaying.tuner)),
    }


def accumulated(share, folder):
    return Training("ddp", share).accumulate(30).outcome()


def twins(share, folder):
    return Training("ddp", share, replays=True).turn_up().outcome()


def statistics(share, folder):
    """Each rank has its own statistics of batch normalisation, and gets its own back."""
    training = Training("fsdp", share, norm=True).train(5)
    saved, before = training.tuner.run.copy_into(None), training.model[1].running_mean.clone()
    training.train(10, 5)
    between = training.model[1].running_mean.clone()
    training.tuner.run.copy_from(saved)
    return {"before": before, "between": between, "after": training.model[1].running_mean.clone()}


# -- a world of four -------------------------------------------------------------------------------------------------


def other_numbers(share, folder):
    """Two trainings on two ranks each, saved in shards, go on as one on four; and one on four as two on two."""
    pairs = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pair", "shard"))
    mesh, pair = pairs["shard"], (share[0] % 2, 2)
    name = str(pairs["pair"].get_local_rank())
    Training("fsdp", pair, mesh=mesh).train(80).save_shards(folder / f"pair{name}", mesh.get_group())
    dist.barrier()
    on_four = Training("fsdp", share).load_shards(folder / "pair1", dist.group.WORLD)
    Training("fsdp", share).train(20).save_shards(folder / "four", dist.group.WORLD)
    on_two = Training("fsdp", pair, mesh=mesh).load_shards(folder / "four", mesh.get_group())
    in_copies = Training("ddp", share).load_shards(folder / "four", dist.group.WORLD)
    wrong = Training("fsdp", share, lr=1.0)
    return {
        "in copies": in_copies.train(start=20).outcome(),
        "on four": on_four.train(start=80).outcome(),
        "on two": on_two.train(start=20).outcome(),
        "per rank": error_of(lambda: wrong.tuner.load_state_dict(on_two.tuner.state_dict())),
        "key": error_of(lambda: load_sharded_state(wrong.tuner, folder / "four", key="other")),
    }


def hybrid(share, folder):
    """Sharded over one dimension, replicated over the other: all four decide."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    training = Training("fsdp", share, mesh=mesh).train(30)
    return {**training.outcome(), "ranks": list(training.tuner.run.ranks)}


def side_by_side(share, folder):
    """Two groups, two trainings."""
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    number, pair = share[0] // 2, (share[0] % 2, 2)
    training = Training("ddp", pair, lr=(1.0, 1e-3)[number], group=groups[number]).train(20 + 5 * number)
    stranger = error_of(lambda: Training(process_group=groups[1 - number]))
    return {**training.outcome(), "ranks": list(training.tuner.run.ranks), "stranger": stranger}


WORLDS = {
    2: [whole, resumed, each_by_itself, found, apart, uneven, accumulated, twins, statistics],
    4: [other_numbers, hybrid, side_by_side],
}


def main(num_ranks, folder, rank):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=120),
    )
    results = {scenario.__name__: scenario((rank, num_ranks), folder) for scenario in WORLDS[num_ranks]}
    dist.barrier()
    dist.destroy_process_group()
    torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
