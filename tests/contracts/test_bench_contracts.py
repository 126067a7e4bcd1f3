"""Every member of every family of the benchmark keeps its family's contract; to register one is to test it."""

import copy
import math
import pickle
import random
import typing

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from autotunenet.controllers import Controller
from autotunenet.testing import check_controller, check_guard
from autotunenet.types import Action, Decision, Health, Observation
from autotunenet_bench.controllers import CONTROLLERS, ControllerConfig
from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.metrics import METRICS, Direction
from autotunenet_bench.regimes import REGIMES, RegimeConfig, TimedConfig, TriggeredConfig
from autotunenet_bench.regimes.compound import DEFAULT_PARTS
from autotunenet_bench.regimes.stationary import StationaryRegime
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.tasks import TASKS, Task
from autotunenet_bench.types import Horizon, TaskData, Workload
from training import train_epoch

OPTIMIZERS = ("adam", "adamw", "sgd")
FAMILIES = ((TASKS, Task), (REGIMES, RegimeConfig), (CONTROLLERS, ControllerConfig))
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


# -- regimes ---------------------------------------------------------------------------------------------------------


TEN = Horizon(num_epochs=10, steps_per_epoch=40)
SEVERITY = 0.7
RARE = ("outliers", "nan_bursts")
"""Kinds of which an epoch may be spared."""


def kinds_of(name):
    """Every kind of a regime, or None by itself where it has none."""
    field = REGIMES[name].model_fields.get("kind")
    return typing.get_args(field.annotation) if field else (None,)


def make_regime(name, kind=None, severity=SEVERITY, **fields):
    """A config; `severity` goes to the parts of one that has none of its own."""
    if name == "compound":
        parts = [{**part, "severity": severity} for part in DEFAULT_PARTS]
        return REGIMES[name](parts=parts, **fields)
    own = {"kind": kind, "severity": severity}
    return REGIMES[name](
        **{k: v for k, v in own.items() if k in REGIMES[name].model_fields and v is not None}, **fields
    )


CASES = [(name, kind) for name in REGIMES for kind in kinds_of(name)]
PROFILED = [(name, kind) for name, kind in CASES if issubclass(REGIMES[name], TriggeredConfig) and kind != "lr_jump"]
every_case = pytest.mark.parametrize(("name", "kind"), CASES)


def make_data(num_train=60, num_val=30, num_classes=10):
    """Images, because some kinds need these, all different."""
    generator = torch.Generator().manual_seed(0)

    def part(num, seed):
        return TensorBatches(torch.rand(num, 1, 4, 4, generator=generator), torch.arange(num) % num_classes, 16, seed)

    return TaskData(part(num_train, 1), part(num_val, None))


class World:
    """All that a regime may change: the data, the model, the optimizer and its steps, and the losses."""

    def __init__(self, checkpoint=None):
        self.data, self.regime, self.epoch = make_data(), StationaryRegime(seed=0), 1
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.model = nn.Linear(1, 10)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        if checkpoint:
            self.optimizer.load_state_dict(checkpoint)

    def enter(self, regime, epoch):
        regime.apply(epoch, self.model, self.data, self.optimizer)
        self.regime, self.epoch = regime, epoch
        return self

    def checkpoint(self):
        return copy.deepcopy(self.optimizer.state_dict())

    def contents(self):
        """Everything as text, so that two worlds can be compared: NaN equals itself there."""
        streams = [
            [tensor.tolist() for batch in stream.epoch(epoch) for tensor in batch]
            for stream in (self.data.train, self.data.val)
            for epoch in (1, 2)
        ]
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        state = {name: tensor.tolist() for name, tensor in self.model.state_dict().items()}
        return repr((streams, groups, state, self.losses(), self.weights_after_two_steps()))

    def losses(self):
        """What the epoch's steps make of losses of 1, and the epoch of a metric of 1."""
        steps = range((self.epoch - 1) * TEN.steps_per_epoch + 1, self.epoch * TEN.steps_per_epoch + 1)
        trained = [self.regime.training_loss(torch.ones(()), step).item() for step in steps]
        shown = [self.regime.shown_loss(1.0, step) for step in steps]
        return trained, shown, self.regime.shown_metric(1.0, self.epoch)

    def weights_after_two_steps(self):
        """What the optimizer makes of gradients of 1; weights and momentum are put back."""
        before, checkpoint = copy.deepcopy(self.model.state_dict()), self.checkpoint()
        for _ in range(2):
            for param in self.model.parameters():
                param.grad = torch.ones_like(param)
            self.optimizer.step()
        self.optimizer.zero_grad()
        after = [param.tolist() for param in self.model.parameters()]
        self.model.load_state_dict(before)
        self.optimizer.load_state_dict(checkpoint)
        return after


UNTOUCHED = World().contents()


def calm_and_changed(config, regime):
    """The epochs of the untouched world, and the others."""
    trigger, end = regime.trigger_epoch or TEN.num_epochs + 1, TEN.num_epochs + 1
    before, after = range(1, trigger), range(trigger, end)
    return (after, before) if config.is_removal else (before, after)


@every_case
def test_the_world_is_untouched_before_the_trigger_or_from_it_on_where_something_is_removed(name, kind):
    config = make_regime(name, kind)
    regime, world = config.start(TEN, seed=0), World()
    calm, changed = calm_and_changed(config, regime)
    if config.is_removal:
        world.enter(regime, changed[-1])  # what was there goes without a trace
    assert [world.enter(regime, epoch).contents() == UNTOUCHED for epoch in calm] == [True] * len(calm)


@every_case
def test_on_the_other_side_of_the_trigger_something_has_changed_where_the_severity_says_so(name, kind):
    config = make_regime(name, kind)
    regime, world = config.start(TEN, seed=0), World()
    assert (regime.severity > 0) == (name not in ("stationary", "null"))
    differs = [world.enter(regime, epoch).contents() != UNTOUCHED for epoch in calm_and_changed(config, regime)[1]]
    assert any(differs) == (regime.severity > 0)
    assert kind in RARE or not differs or all(differs) == any(differs)


@every_case
@pytest.mark.parametrize("profile", ["abrupt", "ramp", "recurring"])
def test_severity_zero_has_no_effect_at_all(name, kind, profile):
    if profile != "abrupt" and (name, kind) not in PROFILED:
        pytest.skip("has no profiles")
    config = make_regime(name, kind, 0.0, **({} if profile == "abrupt" else {"profile": profile}))
    regime, world = config.start(TEN, seed=0), World()
    assert regime.severity == 0
    for epoch in range(1, TEN.num_epochs + 1):
        assert world.enter(regime, epoch).contents() == UNTOUCHED


@every_case
@pytest.mark.parametrize("profile", ["abrupt", "ramp", "recurring"])
def test_epochs_do_not_compound_and_a_resumed_run_finds_the_same_world(name, kind, profile):
    if profile != "abrupt" and (name, kind) not in PROFILED:
        pytest.skip("has no profiles")
    config = make_regime(name, kind, **({} if profile == "abrupt" else {"profile": profile}))
    regime, straight = config.start(TEN, seed=0), World()
    for epoch in range(1, TEN.num_epochs + 1):
        checkpoint = straight.checkpoint()
        expected = straight.enter(regime, epoch).contents()
        assert straight.enter(regime, epoch).contents() == expected
        assert World(checkpoint).enter(config.start(TEN, seed=0), epoch).contents() == expected
        if not config.leaves_a_trace:
            assert straight.checkpoint() == World().checkpoint()
            assert World().enter(config.start(TEN, seed=0), epoch).contents() == expected


@every_case
def test_an_earlier_epoch_sees_the_earlier_world_again(name, kind):
    config = make_regime(name, kind)
    if config.leaves_a_trace:
        pytest.skip("goes on in the optimizer's state, which has to go back too")
    regime, world = config.start(TEN, seed=0), World()
    world.enter(regime, TEN.num_epochs)
    assert world.enter(regime, 1).contents() == World().enter(config.start(TEN, seed=0), 1).contents()


@every_case
def test_the_pristine_tensors_and_the_generators_are_left_alone(name, kind):
    world, before = World(), generators()
    pristine = world.data.train, world.data.val
    regime = make_regime(name, kind).start(TEN, seed=0)
    for epoch in (1, TEN.num_epochs):
        world.enter(regime, epoch)
        assert (world.data.train.pristine, world.data.val.pristine) == pristine
        assert (world.data.train.num_examples, world.data.val.num_examples) == (60, 30)
    assert generators() == before
    for stream, fresh in zip(pristine, (make_data().train, make_data().val), strict=True):
        assert torch.equal(stream.inputs, fresh.inputs)
        assert torch.equal(stream.targets, fresh.targets)


@every_case
def test_runtime_attributes_are_told(name, kind):
    config = make_regime(name, kind)
    regime = config.start(TEN, seed=7)
    assert regime.seed == 7
    assert regime.severity == getattr(config, "severity", 0.0)
    assert 0 <= regime.trigger_epoch <= TEN.num_epochs
    assert len(regime.description) > 10


@every_case
def test_a_stored_config_gives_the_same_one_back(name, kind):
    config = make_regime(name, kind)
    stored = config.model_dump_json()
    assert REGIMES[name].model_validate_json(stored, strict=True) == config
    assert REGIMES[name].model_validate_json(stored, strict=True).model_dump_json() == stored


@pytest.mark.parametrize("name", [name for name in REGIMES if issubclass(REGIMES[name], TimedConfig)])
def test_with_a_jitter_seeds_have_triggers_of_their_own_and_runs_keep_theirs(name):
    config = make_regime(name, trigger_epoch=5, trigger_jitter=2)
    starts = {seed: config.start(TEN, seed).trigger_epoch for seed in range(40)}
    assert set(starts.values()) == {3, 4, 5, 6, 7}
    assert starts == {seed: config.start(TEN, seed).trigger_epoch for seed in range(40)}
    assert "5 +- 2" in config.display
    assert "drawn from the epochs 3 to 7" in config.start(TEN, 0).description
    assert REGIMES[name].model_validate_json(config.model_dump_json(), strict=True) == config


# -- controllers -----------------------------------------------------------------------------------------------------


SPACE = TASKS["digits_mlp"]().space


@pytest.fixture(params=list(CONTROLLERS))
def controller_type(request):
    return CONTROLLERS[request.param]


@pytest.mark.parametrize(
    "horizon", [Horizon(num_epochs=3, steps_per_epoch=40), Horizon(num_epochs=40, steps_per_epoch=3)], ids=repr
)
def test_controllers_keep_the_contract_of_the_core_whatever_the_horizon(controller_type, horizon):
    config = controller_type()
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


def test_idle_keys_are_keys_and_say_why(controller_type):
    idle = controller_type().idle_keys()
    assert idle.keys() <= controller_type.model_fields.keys()
    assert all(idle.values())


# -- metrics ---------------------------------------------------------------------------------------------------------


def make_trace(losses, val):
    """A finished run of one step an epoch, with a rollback and a change of lr."""
    start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.3, "accuracy": 0.1}}
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
    end = {"event": "end", "num_restarts": 0, "weights_sha256": "00"}
    events = [start, epochs[0], *({"event": "decision", **d.to_record()} for d in decisions), trigger, *epochs[1:], end]
    return Trace.from_events({"seed": 0}, events)


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
    assert math.isfinite(value)
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
