"""The labelled-cause suite: events do what their names say, and decisions are scored as the page says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from autotunenet import Action, Decision, Health, Observation
from autotunenet_bench import cli
from autotunenet_bench.attribution import trajectory as trajectory_module
from autotunenet_bench.attribution.events import FAULTS, Fault, fault_named
from autotunenet_bench.attribution.scoring import confusion, median_delay, outcome, score
from autotunenet_bench.attribution.suite import PlanError, plan, run_attribution
from autotunenet_bench.attribution.tasks import SUITE_TASKS
from autotunenet_bench.attribution.trajectory import Session, TrajectorySpec, alarms, is_harm, run_case, run_trajectory
from autotunenet_bench.data import DataSource

SOURCE = DataSource()


def session(steps: int = 0, **changes: Any) -> Session:
    spec = TrajectorySpec(**{"task": "digits_mlp", "optimizer": "sgd", "seed": 0, "num_steps": 200, **changes})
    live = Session(spec, spec.build_task().load(SOURCE)[0])
    for _ in range(steps):
        live.advance()
    return live


def weights(live: Session) -> list[torch.Tensor]:
    return [param.detach().clone() for param in live.workload.model.parameters()]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# -- copies ----------------------------------------------------------------------------------------------------------


def test_a_copy_goes_on_as_the_original_would_and_leaves_it_alone() -> None:
    main = session(60)
    before, twin = weights(main), main.copy()
    decisions = [twin.advance() for _ in range(40)]
    assert equal(weights(main), before)
    assert main.step == 60
    assert [main.advance() for _ in range(40)] == decisions
    assert equal(weights(main), weights(twin))
    assert main.losses == twin.losses


def test_the_data_go_on_through_the_epochs() -> None:
    live = session()
    num = len(live.workload.data.train)
    seen = [live.train()[0] for _ in range(num + 1)]
    expected = [*live.workload.data.train.epoch(1), next(live.workload.data.train.epoch(2))]
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(seen, expected, strict=True))


def test_nothing_changes_nothing() -> None:
    main = session(50)
    struck = main.copy()
    struck.strike(fault_named("nothing"))
    assert [struck.train()[1] for _ in range(10)] == [main.train()[1] for _ in range(10)]


# -- events ----------------------------------------------------------------------------------------------------------


def test_lr_is_written_into_every_group_once() -> None:
    live = session(20)
    before = [group["lr"] for group in live.workload.optimizer.param_groups]
    live.strike(fault_named("lr x30"))
    live.train()
    assert [group["lr"] for group in live.workload.optimizer.param_groups] == [30 * lr for lr in before]


@pytest.mark.parametrize("gain", [10, 30])
def test_the_gain_stretches_the_very_next_update(gain: int) -> None:
    usual, struck = session(20), session(20)
    start = weights(usual)
    struck.strike(fault_named(f"update gain x{gain}"))
    usual.train()
    struck.train()
    for origin, a, b in zip(start, weights(usual), weights(struck), strict=True):
        torch.testing.assert_close(b - origin, gain * (a - origin), rtol=1e-3, atol=1e-5)


def test_data_change_in_the_middle_of_an_epoch_and_the_order_stays() -> None:
    usual, struck = session(20), session(20)
    struck.strike(fault_named("label noise 0.4"))
    pairs = [(usual.train()[0], struck.train()[0]) for _ in range(20)]
    assert all(torch.equal(a[0], b[0]) for a, b in pairs)
    changed = torch.cat([a[1] != b[1] for a, b in pairs]).float().mean()
    assert 0.3 < changed < 0.5


def test_shown_noise_leaves_training_alone() -> None:
    for name in ("shown loss log-normal 0.5", "shown loss outliers", "shown loss NaN bursts"):
        fault = fault_named(name)
        shown = [fault.shown_loss(1.0, step, seed=3) for step in range(400)]
        assert len(set(map(str, shown))) > 1
        assert not fault.has_knob
        assert fault.shift is None
    assert sum(math.isnan(loss) for loss in shown) > 5


def test_every_cause_is_there_and_the_twin_has_no_knob() -> None:
    assert {fault.cause for fault in FAULTS} == {"knob", "data", "both", "noise", "null"}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        twin = fault.without_knob()
        assert not twin.has_knob
        assert (twin.shift, twin.shift_severity) == (fault.shift, fault.shift_severity)
        assert twin.cause == {"knob": "null", "both": "data", "noise": "null"}.get(fault.cause, fault.cause)


def test_event_steps_differ_by_seed_and_event_and_lie_inside_the_run() -> None:
    steps = [TrajectorySpec("digits_mlp", "sgd", seed).event_steps() for seed in range(20)]
    assert len({tuple(one.values()) for one in steps}) == 20
    assert len({one["lr x30"] - one["lr x10"] for one in steps}) > 10
    assert all(150 < step < 600 - 2 * trajectory_module.WINDOW for one in steps for step in one.values())


# -- cases -----------------------------------------------------------------------------------------------------------


def test_a_huge_lr_is_harmful_seen_and_rolled_back() -> None:
    row = run_case(session(150), fault_named("lr x100"))
    assert row["cause"] == "knob"
    assert row["step"] == 151
    assert row["harmful"]
    assert row["rolled_back"]
    assert 1 <= row["delay"] <= 10
    assert len(row["losses"]) == trajectory_module.WINDOW
    assert outcome(row) == "right"


def test_other_data_are_seen_and_no_knob_is_looked_at() -> None:
    row = run_case(session(150), fault_named("permutation"))
    assert row["cause"] == "data"
    assert row["harmful"] is None
    assert row["delay"] <= 5
    assert row["losses"][0] > 5 * row["losses_before"][-1]


def test_a_trajectory_yields_its_cases_in_order_and_then_the_stable_steps() -> None:
    spec = TrajectorySpec("digits_tanh", "adam", 1, num_steps=200, faults=("nothing", "lr x10"))
    *cases, stable = run_trajectory(spec, spec.build_task().load(SOURCE)[0])
    steps = spec.event_steps()
    assert [(row["fault"], row["step"]) for row in cases] == sorted(steps.items(), key=lambda item: item[1])
    assert stable["num_steps"] == 200
    assert stable["kind"] == "stable"
    json.dumps([*cases, stable], allow_nan=False)


@pytest.mark.parametrize("name", [name for name in SUITE_TASKS if name != "mnist_cnn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_task_learns_with_its_own_lr(name: str, optimizer: str) -> None:
    live = session(task=name, optimizer=optimizer, num_steps=600)
    losses = [live.train()[1] for _ in range(200)]
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20])


def test_what_ends_a_trial_is_no_new_alarm() -> None:
    def decision(step: int, action: Action, health: Health = Health.UNSTABLE) -> Decision:
        return Decision(Observation(step, 1.0, {}), health, action, {}, {}, 0, "")

    calm = decision(3, Action.HOLD, Health.STABLE)
    trial = [decision(5, Action.PROBE), None, calm, decision(11, Action.RESTORE_SUSPECT)]
    again = [decision(20, Action.ROLLBACK), decision(30, Action.PROBE), decision(36, Action.ROLLBACK)]
    assert [one.observation.step for one in alarms([*trial, *again])] == [5, 20, 30]


# -- scores ----------------------------------------------------------------------------------------------------------


def case(cause: str, *, rolled_back: bool = False, **changes: Any) -> dict[str, Any]:
    row = {"cause": cause, "fault": "f", "task": "t", "optimizer": "o", "rolled_back": rolled_back, "delay": None}
    return {**row, "verdict": None, "harmful": None, "healed": None, **changes}


def test_scores_by_hand() -> None:
    cases = [
        case("data"),
        case("noise", rolled_back=True, delay=3, verdict="knob"),
        case("null"),
        case("knob", harmful=True, healed=True, rolled_back=True, delay=2, verdict="knob"),
        case("both", harmful=True, healed=False, delay=4, verdict="data"),
        case("knob", harmful=False, healed=True, rolled_back=True, delay=9, verdict="knob"),
    ]
    scores = score(cases, [{"num_steps": 400, "alarm_steps": [7]}, {"num_steps": 600, "alarm_steps": []}])
    assert [outcome(row) for row in cases] == ["right", "wrongful", "right", "right", "missed", "harmless"]
    assert (scores["num_wrongful"], scores["of_wrongful"], scores["wrongful_rate"]) == (1, 3, pytest.approx(1 / 3))
    assert (scores["num_missed"], scores["of_missed"], scores["num_missed_unhealed"]) == (1, 2, 1)
    assert (scores["num_harmless"], scores["num_harmless_rolled_back"]) == (1, 1)
    assert scores["false_alarms_per_1000"] == 1.0
    assert median_delay(cases) == 4
    counts = confusion(cases)
    assert counts["knob"]["knob"] == 2
    assert counts["both"]["data"] == 1
    assert counts["data"]["none"] == 1


def test_harm_is_above_a_tenth_and_a_share_of_the_first_loss() -> None:
    assert is_harm(0.161, 0.1, 2.5)
    assert not is_harm(0.159, 0.1, 2.5)
    assert is_harm(math.nan, 0.1, 2.5)
    assert is_harm(math.inf, math.inf, 2.5) is False


# -- the suite and its command ---------------------------------------------------------------------------------------


def test_the_default_plan_has_hundreds_of_cases_of_each_optimizer() -> None:
    specs = plan()
    assert len({spec.run_id for spec in specs}) == len(specs)
    assert sum(len(spec.faults) for spec in specs) >= 200
    assert {spec.task for spec in specs} == set(SUITE_TASKS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"tasks": ["mnist"]}, "no task mnist"), ({"optimizers": ["lion"]}, "lion"), ({"num_seeds": 0}, "1 seed")],
)
def test_a_plan_of_what_is_not_there_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        plan(**changes)


@pytest.mark.slow
def test_a_suite_writes_its_files_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    faults = ("lr x100", "permutation", "nothing")
    specs = [TrajectorySpec("digits_mlp", "sgd", seed, num_steps=200, faults=faults) for seed in (0, 1)]
    results = [run_attribution(specs, tmp_path / str(n), SOURCE, num_workers=n) for n in (1, 2)]
    for result in results:
        assert not result.failures
        assert len(result.rows) == 8
        assert "wrongful rollbacks" in result.page
    files = [[(r.folder / name).read_bytes() for name in ("cases.jsonl", "summary.md", "summary.csv")] for r in results]
    assert files[0] == files[1]
    stored = [json.loads(line) for line in files[0][0].splitlines()]
    assert sum("outcome" in row for row in stored) == 6


@pytest.mark.slow
def test_the_command_says_what_came_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autotunenet_bench.attribution.command.plan", lambda **kwargs: [small_spec()])
    result = CliRunner().invoke(cli.app, ["attribution", "--out", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    assert "# Labelled causes" in result.output
    assert str(tmp_path / "a") in result.output


def test_the_command_refuses_a_task_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["attribution", "--task", "nope", "--out", str(tmp_path / "a")])
    assert result.exit_code == cli.EXIT_REFUSED
    assert "nope" in result.output
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(not trajectory_module.can_replay(), reason="this tuner cannot replay")
def test_with_replay_the_tuner_trains_on_stored_batches() -> None:
    main = session(150, replay=True)
    live = main.copy()
    live.strike(fault_named("permutation"))
    calls: list[int] = []
    train_on = live.task.loss
    object.__setattr__(live.task, "loss", lambda model, batch: calls.append(live.step) or train_on(model, batch))
    for _ in range(20):
        live.advance()
    assert len(calls) > 20


def small_spec() -> TrajectorySpec:
    return TrajectorySpec("digits_mlp", "sgd", 0, num_steps=200, faults=("lr x100", "nothing"))


def test_faults_are_plain_values() -> None:
    assert Fault("x") == Fault("x")
    assert Fault("x").cause == "null"
