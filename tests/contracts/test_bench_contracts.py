"""Every member of every family of the benchmark keeps its family's contract; to register one is to test it.

The rules themselves are public, in `autotunenet_bench.testing`.
"""

import math

import pytest

from autotunenet.types import Action, Decision, Health, Observation
from autotunenet_bench.controllers import CONTROLLERS, ControllerConfig, MethodConfig
from autotunenet_bench.controllers.offline import OfflineConfig
from autotunenet_bench.data import DataSource
from autotunenet_bench.metrics import METRICS, Direction
from autotunenet_bench.regimes import REGIMES, RegimeConfig
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.runners import RUNNERS
from autotunenet_bench.tasks import TASKS, Task
from autotunenet_bench.testing import CONTROLLER_RULES, REGIME_RULES, SEARCH_RULES, TASK_RULES, Subject
from autotunenet_bench.testing.controllers import (
    keeps_the_contract_of_the_core,
    resumes_where_it_was_cut_off,
    runs_under_every_regime,
)
from autotunenet_bench.testing.regimes import subjects

FAMILIES = ((TASKS, Task), (REGIMES, RegimeConfig), (CONTROLLERS, MethodConfig))
MEMBERS = [pytest.param(registry, name, base, id=name) for registry, base in FAMILIES for name in registry]
BUILDING = (keeps_the_contract_of_the_core, resumes_where_it_was_cut_off)


# -- registries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("registry", "name", "base"), MEMBERS)
def test_members_are_registered_under_their_name(registry, name, base):
    assert issubclass(registry[name], base)
    assert registry[name]().name == name


@pytest.mark.parametrize(("registry", "base"), FAMILIES, ids=[base.__name__ for _, base in FAMILIES])
def test_display_names_tell_members_apart(registry, base):
    names = [member().display for member in registry.values()]
    assert all(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rules", [TASK_RULES, REGIME_RULES, CONTROLLER_RULES, SEARCH_RULES])
def test_rules_have_names_of_their_own_and_say_what_they_ask_and_how_to_mend_it(rules):
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.text.endswith(".") and rule.mend and not rule.mend.endswith(".") for rule in rules)


# -- tasks -----------------------------------------------------------------------------------------------------------

FROM_A_FOLDER = ("cifar10", "imdb", "sst2", "mrpc")
PRETRAINED = ("sst2", "mrpc")
"""Begin with a model here that has its sizes and its weights from a folder."""
LARGE = ("cifar10_resnet18", "cifar10_resnet50", "imdb_bilstm")
"""Take seconds a step: one step has to do."""


@pytest.fixture(scope="module")
def task_subjects(small_data, tiny_bert):
    source = DataSource(small_data)

    def fields(name):
        if name.startswith(PRETRAINED):
            return {"model": str(tiny_bert), "max_length": 48, "num_val": None}
        return {"data_fraction": 0.1 if "50" in name else 0.2} if name in LARGE else {}

    return {
        name: Subject(TASKS[name], fields(name), source if name.startswith(FROM_A_FOLDER) else DataSource())
        for name in TASKS
    }


@pytest.mark.parametrize("rule", TASK_RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in TASKS]
)
def test_tasks(name, rule, task_subjects):
    rule.check(task_subjects[name])


# -- regimes ---------------------------------------------------------------------------------------------------------

REGIME_SUBJECTS = {
    "-".join(filter(None, (name, subject.fields.get("kind")))): subject
    for name in REGIMES
    for subject in subjects(REGIMES[name])
}


@pytest.mark.parametrize("rule", REGIME_RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("name", REGIME_SUBJECTS)
def test_regimes(name, rule):
    rule.check(REGIME_SUBJECTS[name])


def test_only_those_regimes_have_no_severity_and_spare_an_epoch_that_are_known_for_it():
    configs = {name: subject.make() for name, subject in REGIME_SUBJECTS.items()}
    assert [name for name in configs if getattr(configs[name], "severity", 0.0) == 0] == ["stationary", "null"]
    spared = [name for name, config in configs.items() if config.spares_epochs]
    assert spared == ["loss_noise-outliers", "loss_noise-nan_bursts"]
    assert [n for n, config in configs.items() if config.leaves_a_trace] == ["optimizer_shift-lr_jump", "compound"]


# -- controllers -----------------------------------------------------------------------------------------------------

ONLINE = [name for name, member in CONTROLLERS.items() if issubclass(member, ControllerConfig)]
OFFLINE = [name for name, member in CONTROLLERS.items() if issubclass(member, OfflineConfig)]


def but_the_matrix(rules):
    """The rules without the one that has a file of its own."""
    return [rule for rule in rules if rule.check is not runs_under_every_regime]


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_method_is_either_online_or_offline_and_there_is_a_runner_for_it(name):
    assert (name in ONLINE) != (name in OFFLINE)
    assert CONTROLLERS[name].runner in RUNNERS


@pytest.mark.parametrize("rule", but_the_matrix(CONTROLLER_RULES), ids=lambda rule: rule.name)
@pytest.mark.parametrize("name", ONLINE)
def test_controllers(name, rule):
    if name == "autotunenet_1_0_2" and rule.check in BUILDING:
        pytest.skip("starts processes of another environment: tests/bench/test_autotunenet_1_0_2.py")
    rule.check(Subject(CONTROLLERS[name]))


@pytest.mark.parametrize("rule", but_the_matrix(SEARCH_RULES), ids=lambda rule: rule.name)
@pytest.mark.parametrize("name", OFFLINE)
def test_searches(name, rule, capfd):
    rule.check(Subject(CONTROLLERS[name]))
    assert capfd.readouterr() == ("", "")  # of compiled code too


# -- metrics ---------------------------------------------------------------------------------------------------------


def make_trace(losses, val):
    """A finished run of one step an epoch, with a rollback and a change of lr."""
    start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.3} | AT_FIRST}
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
    end["test"] = val[-1]
    events = [start, epochs[0], *({"event": "decision", **d.to_record()} for d in decisions), trigger, *epochs[1:], end]
    return Trace.from_events({"seed": 0, "num_epochs": len(epochs)}, events)


AT_FIRST = {"accuracy": 0.1, "f1": 0.1, "top5_accuracy": 0.5}
BETTER = {"accuracy": 0.5, "f1": 0.4, "top5_accuracy": 0.9}
BAD = dict.fromkeys(("loss", *AT_FIRST), math.nan)
TRACES = {
    "calm": make_trace([2.0, 1.0], [{"loss": 1.5, **BETTER}, {"loss": 1.0, **BETTER}]),
    "diverges": make_trace([2.0, math.nan, math.inf], [{"loss": 1.5, **BETTER}, BAD, BAD]),
    "diverges at once": make_trace([math.nan, math.inf], [BAD, {"loss": math.inf, **AT_FIRST}]),
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
