"""The contract of tasks."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from autotunenet_bench.data import DataSource, as_tensor_batches
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.testing.members import MEMBER_RULES
from autotunenet_bench.testing.rules import Rule, Subject, generators_left_alone, generators_put_back, hold, require
from autotunenet_bench.types import DataInfo, Workload

NUM_EXAMPLES = 200
"""Training examples that the rules train on."""


def defaults_lie_in_the_space(subject: Subject) -> None:
    """The initial values lie in the search space, whatever the optimizer."""
    for optimizer in ("adam", "adamw", "sgd"):
        task = subject.make(optimizer=optimizer)
        require(task.space.contains(task.defaults), f"{task.defaults} with {optimizer}, the space is {task.space}")


def data_are_what_their_info_says(subject: Subject) -> None:
    """The data have the sizes that their info names, batches of the task's size, and every class."""
    task = subject.make()
    data, info = _loaded(subject)
    train, val = as_tensor_batches(data.train, task.name), as_tensor_batches(data.val, task.name)
    told, found = (info.num_train, info.num_val), (train.num_examples, val.num_examples)
    require(told == found, f"told are {told} training and validation examples, there are {found}")
    require(train.batch_size == task.batch_size, f"batches have {train.batch_size}, batch_size is {task.batch_size}")
    classes = sorted(set(train.targets.tolist()))
    require(classes == list(range(task.num_classes)), f"classes are {classes}, num_classes is {task.num_classes}")


def loads_the_same_again(subject: Subject) -> None:
    """Two loads give equal data, with a digest of 64 characters."""
    (first, info), (second, again) = _loaded(subject), subject.make().load(subject.source)
    require(info == again, f"the infos differ: {info} and {again}")
    require(len(info.sha256) == 64, f"sha256 has {len(info.sha256)} characters")
    for part, a, b in (("training", first.train, second.train), ("validation", first.val, second.val)):
        require(torch.equal(a.inputs, b.inputs), f"the {part} inputs differ")
        require(torch.equal(a.targets, b.targets), f"the {part} targets differ")


def a_fraction_is_a_fraction(subject: Subject) -> None:
    """Of `data_fraction` 0.5 half of the training and of the validation examples are loaded, from the same data."""
    task = subject.make(data_fraction=subject.make().data_fraction / 2)
    (data, info), (half, half_info) = _loaded(subject), task.load(subject.source)
    require(half_info.sha256 == info.sha256, f"the digest is {half_info.sha256}, that of all data {info.sha256}")
    many, few = (
        [as_tensor_batches(part, task.name).num_examples for part in (loaded.train, loaded.val)]
        for loaded in (data, half)
    )
    is_half = all(abs(2 * some - most) <= 2 for some, most in zip(few, many, strict=True))
    require(is_half, f"of {many} training and validation examples {few} are loaded")


def one_seed_is_one_run(subject: Subject) -> None:
    """Equal seeds give equal weights and losses, other seeds others."""
    runs = []
    for seed in (0, 0, 1):
        task, workload = _built(subject, seed)
        start, losses = _weights(workload), _train(task, workload)
        runs.append((start, losses, _weights(workload)))
    (start, losses, end), same, other = runs
    require(torch.equal(start, same[0]), "seed 0 gave two sets of initial weights")
    require(losses == same[1], "seed 0 gave two sequences of losses")
    require(torch.equal(end, same[2]), "seed 0 gave two sets of trained weights")
    require(not torch.equal(start, other[0]), "seeds 0 and 1 gave the same initial weights")
    require(losses != other[1], "seeds 0 and 1 gave the same losses")


def builds_share_nothing(subject: Subject) -> None:
    """Two builds share no weights and no data, and leave the data they were given alone."""
    (task, first), (_, second) = _built(subject, 0), _built(subject, 0)
    _train(task, first)
    require(not torch.equal(_weights(first), _weights(second)), "training one build trained the other, or nothing")
    first.data.train = first.data.val
    require(second.data.train is not second.data.val, "new data of one build came to the other")
    require(_few(subject).train.seed is None, "the data that were given were shuffled in place")


def global_generators_do_not_matter(subject: Subject) -> None:
    """The global random generators are neither touched nor used; in training torch's is, which a run has seeded."""
    built = []
    with generators_put_back():
        for seed in (1, 2):
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            with generators_left_alone():
                task, workload = _built(subject, 0)
                _train(task, workload)
                task.evaluate(workload.model, _few(subject).val)
            built.append(_weights(workload))
    require(torch.equal(*built), "the weights hang on the global generators")


def order_is_the_seeds(subject: Subject) -> None:
    """The order of the data is the seed's, and does not hang on the initial weights."""
    (_, five), (_, six) = _built(subject, 5), _built(subject, 6)
    require(five.data.train.seed != six.data.train.seed, "seeds 5 and 6 have the same order")
    other = type("Other", (subject.member,), {"__module__": __name__, "build_model": lambda self: nn.Linear(1, 1)})
    task = other(**subject.fields)
    plain = task.build(task.defaults, 5, _few(subject)).data.train.seed
    require(plain == five.data.train.seed, "with another network seed 5 has another order")


def first_loss_is_that_of_guessing(subject: Subject) -> None:
    """Before training the model guesses: its loss is log(num_classes) within 0.25, its accuracy low."""
    task, workload = _built(subject, 0)
    val = task.evaluate(workload.model, _few(subject).val)
    due = {"loss", "accuracy", *task.more_metrics}
    require(val.keys() == due, f"evaluate() gives {sorted(val)}, not {sorted(due)}")
    guessing = math.log(task.num_classes)
    require(abs(val["loss"] - guessing) < 0.25, f"the first loss is {val['loss']:.3f}, log(num_classes) {guessing:.3f}")
    highest = min(1.0, 3.5 / task.num_classes)
    require(0.0 <= val["accuracy"] <= highest, f"accuracy {val['accuracy']:.3f} before training, expected <= {highest}")


def loss_is_a_scalar_with_a_graph(subject: Subject) -> None:
    """The loss is a finite scalar, and every parameter gets a finite gradient from it."""
    task, workload = _built(subject, 0)
    loss = task.loss(workload.model, next(workload.data.train.epoch(1)))
    require(loss.shape == (), f"its shape is {tuple(loss.shape)}")
    require(math.isfinite(loss.item()), f"it is {loss.item()}")
    loss.backward()  # type: ignore[no-untyped-call]
    for name, param in workload.model.named_parameters():
        require(param.grad is not None, f"{name} gets no gradient")
        require(param.grad.isfinite().all(), f"the gradient of {name} is not finite")


def evaluation_changes_nothing(subject: Subject) -> None:
    """Evaluating twice gives the same, loss >= 0 and accuracy in [0, 1], and changes neither weights nor modes."""
    task, workload = _built(subject, 0)
    val = _few(subject).val
    workload.model.train()
    before = _weights(workload).clone()
    first, second = task.evaluate(workload.model, val), task.evaluate(workload.model, val)
    require(first == second, f"first {first}, then {second}")
    require(first["loss"] >= 0 and 0 <= first["accuracy"] <= 1, f"it gives {first}")
    require(torch.equal(_weights(workload), before), "the weights have changed")
    require(all(module.training for module in workload.model.modules()), "a module was left in evaluation mode")
    require(all(param.grad is None for param in workload.model.parameters()), "it has left gradients behind")


def _loaded(subject: Subject) -> tuple[Any, DataInfo]:
    """Return the task's own data: read once, as no rule may change them."""
    if "data" not in subject.remembered:
        subject.remembered["data"] = subject.make().load(subject.source)
    loaded: tuple[Any, DataInfo] = subject.remembered["data"]
    return loaded


def _few(subject: Subject) -> Any:
    """Return a few batches of the task's data, to train on."""
    data, _ = _loaded(subject)
    train = as_tensor_batches(data.train, subject.make().name)
    few = replace(train, inputs=train.inputs[:NUM_EXAMPLES], targets=train.targets[:NUM_EXAMPLES])
    return replace(data, train=few)


def _built(subject: Subject, seed: int) -> tuple[Task, Any]:
    task = subject.make()
    return task, task.build(task.defaults, seed, _few(subject))


def _train(task: Task, workload: Workload) -> list[float]:
    """Train for one epoch without any tuner; return the losses. As in a run, dropout finds torch's generator seeded."""
    losses = []
    workload.model.train()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for batch in workload.data.train.epoch(1):
            loss = task.loss(workload.model, batch)
            workload.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            workload.optimizer.step()
            losses.append(loss.item())
    return losses


def _weights(workload: Workload) -> torch.Tensor:
    return torch.cat([param.detach().flatten() for param in workload.model.parameters()])


TASK_RULES = (
    *MEMBER_RULES,
    Rule(defaults_lie_in_the_space, "widen space, or change defaults"),
    Rule(data_are_what_their_info_says, "count what load() returns, and hand its batch_size on"),
    Rule(loads_the_same_again, "load() must draw nothing and keep nothing; hash pixels and labels as decoded"),
    Rule(a_fraction_is_a_fraction, "take the examples that data.splits.stratified_share() chooses of each part"),
    Rule(one_seed_is_one_run, "draw initial weights in build_model() from torch's global generator and nowhere else"),
    Rule(builds_share_nothing, "make the network in build_model(), and copy what you change of the data"),
    Rule(global_generators_do_not_matter, "draw in build_model() only, where the seed is set for you"),
    Rule(order_is_the_seeds, "leave the order to Task.build()"),
    Rule(first_loss_is_that_of_guessing, "initialise the last layer small, and set num_classes"),
    Rule(loss_is_a_scalar_with_a_graph, "return a mean over the batch, of all parameters that train"),
    Rule(evaluation_changes_nothing, "evaluate in inference mode, and put every module's mode back"),
)


def check_task(member: type[Task], *, source: DataSource | None = None, **fields: Any) -> None:
    """Check a task of the benchmark against every rule of its family. Reads its data.

    Args:
        member: The config class.
        source: Where its data may come from; None: from installed packages.
        **fields: Keys that it is made with.

    Raises:
        AssertionError: If a rule is broken, with the reason and the mend.

    >>> from autotunenet_bench.tasks import DigitsMlp
    >>> check_task(DigitsMlp, batch_size=64)
    """
    hold(TASK_RULES, Subject(member, fields, source or DataSource()))
