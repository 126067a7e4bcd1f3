"""Every member of every family of the benchmark keeps its family's contract; to register one is to test it."""

import math
import os
import pickle
import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from autotunenet.controllers import Controller
from autotunenet.space import Categorical, Float, Int, SearchSpace
from autotunenet.testing import check_controller, check_guard
from autotunenet.types import Action, Decision, Health, Observation
from autotunenet_bench.controllers import CONTROLLERS, ControllerConfig, MethodConfig
from autotunenet_bench.controllers.offline import OfflineConfig, Search
from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.metrics import METRICS, Direction
from autotunenet_bench.regimes import REGIMES, RegimeConfig
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.runners import RUNNERS
from autotunenet_bench.tasks import TASKS, Task
from autotunenet_bench.types import Horizon, TaskData, Workload
from training import train_epoch

OPTIMIZERS = ("adam", "adamw", "sgd")
FAMILIES = ((TASKS, Task), (REGIMES, RegimeConfig), (CONTROLLERS, MethodConfig))
MEMBERS = [pytest.param(registry, name, base, id=name) for registry, base in FAMILIES for name in registry]


def generators():
    """The global generators, which are the user's."""
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002


# -- what stands in a config -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("registry", "name", "base"), MEMBERS)
def test_members_are_registered_under_their_name_with_a_one_line_description(registry, name, base):
    member = registry[name]
    assert issubclass(member, base)
    assert member().name == name
    assert 20 < len(member.__doc__.splitlines()[0]) < 100
    assert all(field.description for key, field in member.model_fields.items() if key != "name")


@pytest.mark.parametrize(("registry", "name", "base"), MEMBERS)
def test_members_are_frozen_and_refuse_unknown_keys(registry, name, base):
    with pytest.raises(ValidationError, match="frozen"):
        registry[name]().label = "other"
    with pytest.raises(ValidationError, match="Extra inputs"):
        registry[name](no_such_key=0.1)


@pytest.mark.parametrize(("registry", "name", "base"), MEMBERS)
def test_members_survive_json_and_pickle(registry, name, base):
    config = registry[name](label="mine")
    assert registry[name].model_validate_json(config.model_dump_json(), strict=True) == config
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(("registry", "base"), FAMILIES, ids=[base.__name__ for _, base in FAMILIES])
def test_display_names_are_there_tell_members_apart_and_follow_the_label(registry, base):
    names = [member().display for member in registry.values()]
    assert all(names)
    assert len(set(names)) == len(names)
    assert all(member(label="mine").display == "mine" for member in registry.values())


# -- tasks -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request):
    return TASKS[request.param]()


@pytest.fixture(scope="module")
def data(task):
    """A few batches of the task's data: the tests train on them."""
    full, _ = task.load(DataSource())
    few = TensorBatches(full.train.inputs[:200], full.train.targets[:200], task.batch_size)
    return TaskData(few, full.val)


def weights(workload: Workload) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in workload.model.parameters()])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_defaults_lie_in_the_space(task, optimizer):
    member = type(task)(optimizer=optimizer)
    assert member.space.contains(member.defaults)


def test_the_data_is_what_its_info_says(task):
    data, info = task.load(DataSource())
    assert (data.train.num_examples, data.val.num_examples) == (info.num_train, info.num_val)
    assert data.train.batch_size == task.batch_size
    assert data.train.targets.unique().tolist() == list(range(task.num_classes))


def test_one_seed_is_one_run_and_another_seed_another(task, data):
    runs = []
    for seed in (0, 0, 1):
        workload = task.build(task.defaults, seed, data)
        start, losses = weights(workload), train_epoch(task, workload, 1)
        runs.append((start, losses, weights(workload)))
    same, other = runs[1], runs[2]
    assert torch.equal(runs[0][0], same[0])
    assert runs[0][1] == same[1]
    assert torch.equal(runs[0][2], same[2])
    assert not torch.equal(runs[0][0], other[0])
    assert runs[0][1] != other[1]


def test_building_gives_nothing_shared(task, data):
    first, second = (task.build(task.defaults, 0, data) for _ in range(2))
    train_epoch(task, first, 1)
    assert not torch.equal(weights(first), weights(second))
    first.data.train = first.data.val
    assert second.data.train is not second.data.val
    assert data.train.seed is None


def test_the_global_generators_are_left_alone_and_do_not_matter(task, data):
    built = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        workload = task.build(task.defaults, 0, data)
        train_epoch(task, workload, 1)
        task.evaluate(workload.model, data.val)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        assert random.getstate() == before[2]
        built.append(weights(workload))
    assert torch.equal(*built)


def test_the_order_is_the_seeds_and_does_not_hang_on_the_initial_weights(task, data, monkeypatch):
    plain = task.build(task.defaults, 5, data).data.train.seed
    assert task.build(task.defaults, 6, data).data.train.seed != plain
    monkeypatch.setattr(type(task), "build_model", lambda self: nn.Linear(1, 1))
    assert task.build(task.defaults, 5, data).data.train.seed == plain


def test_the_first_loss_is_that_of_guessing(task, data):
    workload = task.build(task.defaults, 0, data)
    val = task.evaluate(workload.model, data.val)
    assert val.keys() == {"loss", "accuracy"}
    assert abs(val["loss"] - np.log(task.num_classes)) < 0.25
    assert 0.0 <= val["accuracy"] <= 0.35


def test_the_loss_is_a_scalar_with_a_graph(task, data):
    workload = task.build(task.defaults, 0, data)
    loss = task.loss(workload.model, next(workload.data.train.epoch(1)))
    assert loss.shape == ()
    assert math.isfinite(loss.item())
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in workload.model.parameters())


def test_evaluation_gives_the_same_twice_and_changes_nothing(task, data):
    workload = task.build(task.defaults, 0, data)
    workload.model.train()
    before = weights(workload).clone()
    first = task.evaluate(workload.model, data.val)
    assert task.evaluate(workload.model, data.val) == first
    assert first["loss"] >= 0
    assert 0 <= first["accuracy"] <= 1
    assert torch.equal(weights(workload), before)
    assert all(module.training for module in workload.model.modules())
    assert all(p.grad is None for p in workload.model.parameters())


def test_two_loads_give_the_same_data(task):
    (first, info), (second, again) = (task.load(DataSource()) for _ in range(2))
    assert info == again
    assert len(info.sha256) == 64
    for a, b in ((first.train, second.train), (first.val, second.val)):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)


# -- controllers -----------------------------------------------------------------------------------------------------


SPACE = TASKS["digits_mlp"]().space
ONLINE = [name for name, member in CONTROLLERS.items() if issubclass(member, ControllerConfig)]
OFFLINE = [name for name, member in CONTROLLERS.items() if issubclass(member, OfflineConfig)]


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_method_is_either_online_or_offline_and_there_is_a_runner_for_it(name):
    assert (name in ONLINE) != (name in OFFLINE)
    assert CONTROLLERS[name].runner in RUNNERS


@pytest.mark.parametrize("name", CONTROLLERS)
def test_idle_keys_are_keys_and_say_why(name):
    idle = CONTROLLERS[name]().idle_keys()
    assert idle.keys() <= CONTROLLERS[name].model_fields.keys()
    assert all(idle.values())


# -- online ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=ONLINE)
def controller_type(request):
    return CONTROLLERS[request.param]


@pytest.mark.parametrize(
    "horizon", [Horizon(num_epochs=3, steps_per_epoch=40), Horizon(num_epochs=40, steps_per_epoch=3)], ids=repr
)
def test_controllers_keep_the_contract_of_the_core_whatever_the_horizon(controller_type, horizon):
    config = controller_type()
    if config.name == "autotunenet_1_0_2":
        pytest.skip("starts processes of another environment: tests/bench/test_autotunenet_1_0_2.py")
    before = generators()
    assert isinstance(config.build(horizon, SPACE, seed=3), Controller)
    assert generators() == before
    check_controller(lambda: config.build(horizon, SPACE, seed=3))


def test_a_control_interval_is_none_or_a_number_of_steps(controller_type):
    interval = controller_type().interval
    assert interval is None or interval >= 1


def test_the_default_guard_keeps_the_contract_of_the_core(controller_type):
    check_guard(lambda: controller_type().build_guard(SPACE))


@pytest.mark.parametrize("wish", [1e-12, 1e-4, 1.0, 1e12])
@pytest.mark.parametrize("lr", [2e-6, 1e-3, 9.0])
def test_the_guard_respects_max_delta_and_the_space_where_they_are_set(controller_type, lr, wish):
    def allowed(**fields):
        guard = controller_type(**fields).build_guard(SPACE)
        return guard({"lr": lr}, {"lr": wish}, 1)["lr"]

    small = 1 + 1e-12
    assert 1 / 1.25 / small <= allowed(max_delta=0.25, within_space=False) / lr <= 1.25 * small
    assert SPACE["lr"].contains(allowed(max_delta=None, within_space=True))
    assert SPACE["lr"].contains(allowed(max_delta=0.25, within_space=True))
    assert allowed(max_delta=None, within_space=False) == wish
    assert allowed(max_delta=None, warmup=1) == lr


def test_unbounded_is_what_null_means(controller_type):
    guard = controller_type(max_delta=None, within_space=False).build_guard(SPACE)
    assert [guard({"lr": 1.0}, {"lr": 1e9}, step)["lr"] for step in (1, 2, 3)] == [1e9] * 3


# -- offline ---------------------------------------------------------------------------------------------------------


MIXED = SearchSpace(
    {"lr": Float(1e-5, 10.0, log=True), "num": Int(1, 9), "share": Float(-1.0, 1.0), "kind": Categorical((0.0, 1.0))}
)
"""Every kind of dimension at once."""


@pytest.fixture(params=OFFLINE)
def search_type(request):
    return CONTROLLERS[request.param]


def play(search, num_trials, value_of):
    """Ask and tell; return what was asked."""
    asked = []
    for _ in range(num_trials):
        asked.append(search.ask())
        search.tell(asked[-1], value_of(asked[-1]))
    return asked


def far_from_a_hundredth(params):
    return abs(math.log10(params["lr"]) + 2)


def diverges(params):
    return math.inf


@pytest.mark.parametrize("value_of", [far_from_a_hundredth, diverges, lambda params: 1.0])
@pytest.mark.parametrize(("space", "num_trials"), [(SPACE, 6), (MIXED, 16)], ids=["lr", "mixed"])
def test_a_search_stays_in_the_space_and_answers_the_same_to_the_same(search_type, space, num_trials, value_of):
    config = search_type(num_trials=num_trials)
    runs = [play(config.build_search(space, seed=3), num_trials, value_of) for _ in range(2)]
    assert runs[0] == runs[1]
    assert all(space.contains(params) for params in runs[0])
    assert all(isinstance(value, int | float) for params in runs[0] for value in params.values())


def test_two_searches_share_nothing(search_type):
    config = search_type(num_trials=6)
    alone = play(config.build_search(SPACE, seed=3), 6, far_from_a_hundredth)
    first, second = config.build_search(SPACE, seed=3), config.build_search(SPACE, seed=3)
    between = []
    for _ in range(6):
        between.append(first.ask())
        play(second, 1, lambda params: -far_from_a_hundredth(params))
        first.tell(between[-1], far_from_a_hundredth(between[-1]))
    assert between == alone


def test_what_a_search_is_told_is_not_changed_and_what_it_gave_is_the_callers(search_type):
    search = search_type(num_trials=6).build_search(SPACE, seed=3)
    for _ in range(6):
        asked = search.ask()
        told = dict(asked)
        search.tell(told, far_from_a_hundredth(told))
        assert told == asked
        asked["lr"] = math.nan


def test_a_search_touches_no_global_and_says_nothing(search_type, capfd, recwarn):
    before, threads, environ = generators(), torch.get_num_threads(), dict(os.environ)
    search = search_type(num_trials=6).build_search(SPACE, seed=3)
    assert isinstance(search, Search)
    play(search, 3, far_from_a_hundredth)
    play(search, 3, diverges)
    assert generators() == before
    assert (torch.get_num_threads(), dict(os.environ)) == (threads, environ)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_search_has_no_key_that_only_online_methods_read(search_type):
    online = CONTROLLERS["heuristic"].model_fields.keys() - MethodConfig.model_fields.keys()
    assert {"max_delta", "within_space", "warmup", "cooldown", "rollback", "backoff"} <= online
    assert not online & search_type.model_fields.keys()


# -- metrics ---------------------------------------------------------------------------------------------------------


def make_trace(losses, val):
    """A finished run of one step an epoch, with a rollback and a change of lr."""
    start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.3, "accuracy": 0.1}}
    start |= {"flops": {"train_epoch": 100, "num_batches": 1, "evaluation": 10}}
    clock = {"train_seconds": 2.0, "eval_seconds": 1.0, "control_seconds": 0.5}
    seen = Observation(1, 1.0, {"lr": 0.1})
    decisions = [
        Decision(seen, Health.UNSTABLE, Action.ROLLBACK, {"lr": 0.1}, {"lr": 0.05}, 1, "why"),
        Decision(seen, Health.STABLE, Action.ADAPT, {"lr": 0.2}, {"lr": 0.2}, 0, "why"),
    ]
    epochs = [
        {
            "event": "epoch",
            "epoch": n,
            "step": n,
            "losses": [loss],
            "val": v,
            "hyperparams": {"lr": 0.1},
            "clock": clock,
        }
        for n, (loss, v) in enumerate(zip(losses, val, strict=True), start=1)
    ]
    trigger = {"event": "trigger", "epoch": 2, "step": 2, "description": "something changes"}
    end = {"event": "end", "num_restarts": 0, "weights_sha256": "00", "clock": {"peak_memory_bytes": 2**28}}
    events = [start, epochs[0], *({"event": "decision", **d.to_record()} for d in decisions), trigger, *epochs[1:], end]
    return Trace.from_events({"seed": 0, "num_epochs": len(epochs)}, events)


BAD = {"loss": math.nan, "accuracy": math.nan}
TRACES = {
    "calm": make_trace([2.0, 1.0], [{"loss": 1.5, "accuracy": 0.5}, {"loss": 1.0, "accuracy": 0.75}]),
    "diverges": make_trace([2.0, math.nan, math.inf], [{"loss": 1.5, "accuracy": 0.5}, BAD, BAD]),
    "diverges at once": make_trace([math.nan, math.inf], [BAD, {"loss": math.inf, "accuracy": 0.1}]),
}


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metrics_are_pure_and_finite_on_every_finished_run(metric, trace):
    before = repr(trace)
    value = metric(trace)
    assert math.isfinite(value) or (metric.may_miss and value == math.inf)
    assert metric(trace) == value
    assert repr(trace) == before


@pytest.mark.parametrize("name", METRICS)
def test_metrics_say_what_they_are(name):
    metric = METRICS[name]
    assert metric.name == name
    assert isinstance(metric.direction, Direction)
    assert isinstance(metric.unit, str)
    assert metric.description.endswith(".")
    assert metric.formula
