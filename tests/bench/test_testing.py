"""The public contracts: a member that breaks a rule is found out by that rule, and told why."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest
import torch
from pydantic import ConfigDict, Field
from torch import nn

from autotunenet.controllers import Controller, Fixed
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.fixed import FixedConfig
from autotunenet_bench.data import as_tensor_batches
from autotunenet_bench.regimes import DataShift, Stationary, TriggeredConfig
from autotunenet_bench.regimes.base import TriggeredRegime
from autotunenet_bench.tasks import DigitsMlp
from autotunenet_bench.testing import (
    CONTROLLER_RULES,
    REGIME_RULES,
    TASK_RULES,
    Subject,
    check_controller,
    check_regime,
    check_task,
    findings,
)
from autotunenet_bench.testing.runs import Ran, check_resume, check_run, make_spec, run, suits

# What takes long is looked at by itself.
LONG = ("keeps_the_contract_of_the_core", "runs_under_every_regime", "resumes_where_it_was_cut_off")


def broken(rules, member: type, **fields: Any) -> dict[str, str]:
    """The reasons of the rules that a member breaks, by their names."""
    quick = [rule for rule in rules if rule.name not in LONG]
    return {found.rule.name: found.reason for found in findings(quick, Subject(member, fields)) if not found.is_ok}


# -- any member ------------------------------------------------------------------------------------------------------


class Undescribed(FixedConfig):
    """Short."""

    rate: float = 0.5


class Thawed(FixedConfig):
    """Changes nothing, but may be changed itself and takes any key."""

    model_config = ConfigDict(extra="ignore", frozen=False)


class Forgetful(FixedConfig):
    """Changes nothing, and is read as another config than was stored."""

    def model_dump_json(self, **options: Any) -> str:
        return '{"label": null}'


class Unnamed(FixedConfig):
    """Changes nothing, under a name that no label replaces."""

    @property
    def display(self) -> str:
        return ""


class Demanding(FixedConfig):
    """Changes nothing, and wants to be told how much of it."""

    rate: float = Field(description="of nothing")


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (Undescribed, {"is_described": "the first line has 6 characters: 'Short.'"}),
        (Thawed, {"is_frozen": "label could be set", "refuses_unknown_keys": "no_such_key was taken"}),
        (Forgetful, {"survives_json": '{"label": null} came back as Forgetful('}),
        (Unnamed, {"has_a_display_name": "display is ''"}),
        (Demanding, {"can_be_made": "ValidationError: 1 validation error for Demanding rate Field required"}),
    ],
)
def test_what_a_config_must_not_be(member, expected):
    found = broken(CONTROLLER_RULES, member)
    assert found.keys() == expected.keys()
    assert all(found[name].startswith(reason) for name, reason in expected.items()), found


@pytest.mark.filterwarnings("ignore:Field name")
def test_a_key_that_hides_something_of_the_base_is_found():
    class Hiding(DataShift):
        """Has a key for the place, which nothing reads."""

        where: str = Field("here", description="of something")
        start: int = Field(1, description="of something else")

    assert Hiding(where="there").where == ""  # the words of the base
    reason = broken(REGIME_RULES, Hiding)["hides_nothing_of_its_base"]
    assert reason == "where, start is something else there"


def test_a_class_that_cannot_be_imported_goes_to_no_other_process():
    class Local(FixedConfig):
        """Changes nothing, and lives inside a function."""

    assert broken(CONTROLLER_RULES, Local).keys() == {"survives_pickle"}


def test_keys_that_are_needed_can_be_given():
    assert broken(CONTROLLER_RULES, Demanding, rate=0.5) == {}


# -- controllers -----------------------------------------------------------------------------------------------------


class Odd(FixedConfig):
    """Breaks the rules of its family that need no run."""

    @property
    def interval(self) -> int:
        return 0

    def idle_keys(self) -> dict[str, str]:
        return {"no_such_key": "because", "label": ""}

    def build_guard(self, space):
        return lambda current, proposed, step: {name: 2 * value for name, value in proposed.items()}


def test_controllers_that_break_a_rule():
    found = broken(CONTROLLER_RULES, Odd)
    assert found["has_a_control_interval"] == "interval is 0"
    assert found["idle_keys_say_why"] == "no_such_key is no key"
    assert found["max_delta_and_space_are_respected"].startswith("lr 2e-06, asked for 1e-12, max_delta 0.25: it allows")
    assert found["null_means_unbounded"] == "from 1 to 1e9 it allows [2000000000.0, 2000000000.0, 2000000000.0]"
    assert "guard_keeps_the_contract_of_the_core" in found


class Wild(Controller):
    """Proposes a negative learning rate, and forgets how far it is."""

    def __init__(self):
        self._num_seen = 0

    def observe(self, metric, step):
        self._num_seen += 1

    def propose(self, current_params):
        return {"lr": -1.0 if self._num_seen == 2 else 0.1}


class Restless(Controller):
    """Draws from the generator that is the user's."""

    def observe(self, metric, step):
        pass

    def propose(self, current_params):
        return {"lr": current_params["lr"] * random.uniform(0.9, 1.1)}


def own(controller: type[Controller], **fields: Any) -> ControllerConfig:
    class Own(ControllerConfig):
        name: Literal["own"] = "own"

        def build(self, horizon, space, seed):
            return controller()

    return Own(**fields)


def test_runs_that_break_a_rule():
    with pytest.raises(
        AssertionError, match=r"values \{'lr': -1.0\} were in force; finite ones from 0 on of lr may be"
    ):
        check_run(make_spec(own(Wild), Stationary(), num_epochs=3))
    with pytest.raises(AssertionError, match="cut off and resumed, its events differ"):
        check_resume(make_spec(own(Wild, within_space=True), Stationary(), num_epochs=3))
    with pytest.raises(AssertionError, match="belong to the user; Python's was touched"):
        check_run(make_spec(own(Restless), Stationary()))
    check_run(make_spec(own(Fixed), Stationary()))


def test_values_out_of_the_guard_are_found():
    ran = run(make_spec(CONTROLLERS["heuristic"](max_delta=None, within_space=False, raise_patience=1), Stationary()))
    tight = ran.spec.model_copy(update={"controller": CONTROLLERS["heuristic"](max_delta=1e-3)})
    from autotunenet_bench.testing import runs

    with pytest.raises(AssertionError, match=r"lr went from 0.001 to 0.00105, max_delta is 0.001"):
        runs._check_values(Ran(tight, ran.events, ran.trace))


def test_a_regime_that_an_optimizer_has_no_entry_for_does_not_suit():
    from autotunenet_bench.regimes import OptimizerShift

    momentum = OptimizerShift(kind="momentum")
    assert suits(FixedConfig(), momentum)
    assert not suits(CONTROLLERS["dog"](), momentum)
    assert suits(FixedConfig(), DataShift(kind="rotation"))  # on images


def test_check_controller_takes_both_sorts_and_names_the_rule():
    with pytest.raises(AssertionError, match=r"Its docstring begins .* 'Short.'; write Field"):
        check_controller(Undescribed)
    with pytest.raises(AssertionError, match="keeps that family's contract"):
        check_controller(Wild)


# -- regimes ---------------------------------------------------------------------------------------------------------


@dataclass
class GainRegime(TriggeredRegime):
    """Scales the inputs, in one of several wrong ways."""

    flaw: str = ""
    description: str = "inputs are scaled"
    given: list[Any] = field(default_factory=list)

    def apply(self, epoch, model, data, optimizer):
        stream = as_tensor_batches(data.train, "gain")
        strength = self.strength(epoch)
        if self.flaw == "early":
            strength = self.severity
        if self.flaw == "always":
            strength = self.strength(epoch) and 0.5
        if self.flaw == "never":
            strength = 0.0
        if self.flaw == "generator" and strength:
            random.random()
        if self.flaw == "in place" and strength:
            stream.pristine.inputs.mul_(0.9)
        if self.flaw == "trace" and epoch == self.trigger_epoch:
            optimizer.param_groups[0]["lr"] *= 2
        start = stream if self.flaw == "compounds" else stream.pristine
        data.train = start.with_tensors(inputs=start.inputs * (1 - strength / 2)) if strength else start


class Gain(TriggeredConfig):
    """From the trigger on the inputs are scaled."""

    name: Literal["gain"] = "gain"
    flaw: str = Field("", description="what it does wrong")

    def start(self, horizon, seed):
        regime = GainRegime(self.onset(horizon, seed), self.severity, seed, flaw=self.flaw)
        regime.description += self.onset(horizon, seed).words
        if self.flaw == "other seed":
            regime.seed += 1
        return regime


GAIN_RULES = {
    "": set(),
    "early": {"nothing_happens_on_the_calm_side"},
    "always": set(),  # not scaled by the severity, and still nothing before the trigger and at severity 0
    "never": {"something_happens_on_the_other_side"},
    "generator": {"pristine_data_and_generators_are_left_alone"},
    "in place": {
        "epochs_do_not_compound",
        "an_earlier_epoch_is_as_it_was",
        "pristine_data_and_generators_are_left_alone",
    },
    "trace": {"severity_zero_is_no_effect", "epochs_do_not_compound"},
    "compounds": {"epochs_do_not_compound", "an_earlier_epoch_is_as_it_was"},
    "other seed": {"strikes_and_is_described"},
}  # fmt: skip


@pytest.mark.parametrize("flaw", GAIN_RULES)
def test_regimes_that_break_a_rule(flaw):
    found = broken(REGIME_RULES, Gain, flaw=flaw)
    assert found.keys() == GAIN_RULES[flaw], found


def test_a_severity_of_zero_that_does_something_is_found():
    class Constant(Gain):
        """From the trigger on the inputs are scaled, whatever the severity."""

        def start(self, horizon, seed):
            regime = super().start(horizon, seed)
            regime.strength = lambda epoch: 0.5 * (epoch >= regime.trigger_epoch)
            return regime

    found = broken(REGIME_RULES, Constant)
    assert found["severity_zero_is_no_effect"].startswith("something happens in epochs 6, 7, 8, 9, 10")


class Half(DataShift):
    """Labels are noisy, and of one kind nothing comes."""

    def start(self, horizon, seed):
        return Stationary().start(horizon, seed) if self.kind == "inversion" else super().start(horizon, seed)


def test_a_kind_that_breaks_a_rule_is_named():
    with pytest.raises(AssertionError, match=r"kind inversion: its severity is 0.0, the config's 0.7"):
        check_regime(Half)


# -- tasks -----------------------------------------------------------------------------------------------------------


class Sloppy(DigitsMlp):
    """Digits, with one of several things done wrong."""

    num_classes: ClassVar[int] = 10
    shared: ClassVar[list[nn.Module]] = []

    name: Literal["sloppy"] = "sloppy"
    how: str = Field("", description="what it does wrong")

    def load(self, source):
        data, info = super().load(source)
        if self.how == "other size":
            data.train = as_tensor_batches(data.train, "sloppy")
            return data, type(info)(**{**{k: getattr(info, k) for k in info.__slots__}, "num_train": 3})
        if self.how == "new every time":
            data.train = data.train.with_tensors(inputs=data.train.inputs + torch.rand(()))
        return data, info

    @property
    def defaults(self):
        return {"lr": 1e9} if self.how == "far" and self.optimizer == "sgd" else super().defaults

    def build_model(self):
        if self.how == "shared":
            if not self.shared:
                self.shared.append(super().build_model())
            return self.shared[0]
        model = super().build_model()
        if self.how == "loud":
            with torch.no_grad():
                model[2].weight.mul_(100)
        if self.how == "no gradient":
            model[0].weight.requires_grad_(False)
        return model

    def evaluate(self, model, batches):
        if self.how == "draws":
            torch.rand(1)
        found = super().evaluate(model, batches)
        if self.how == "leaves eval":
            model.eval()
        return {**found, "more": 1.0} if self.how == "more" else found


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("", set()),
        ("far", {"defaults_lie_in_the_space"}),
        ("other size", {"data_are_what_their_info_says"}),
        ("new every time", {"loads_the_same_again"}),
        ("shared", {"one_seed_is_one_run", "builds_share_nothing"}),
        ("loud", {"first_loss_is_that_of_guessing"}),
        ("no gradient", {"loss_is_a_scalar_with_a_graph"}),
        ("draws", {"global_generators_do_not_matter"}),
        ("leaves eval", {"evaluation_changes_nothing"}),
        ("more", {"first_loss_is_that_of_guessing"}),
    ],
)
def test_tasks_that_break_a_rule(how, expected):
    found = broken(TASK_RULES, Sloppy, how=how)
    assert expected <= found.keys(), found
    assert how in ("shared", "far") or found.keys() == expected, found


def test_checking_leaves_the_global_generators_as_they_were():
    before = torch.get_rng_state().tolist(), random.getstate()
    check_task(DigitsMlp)
    assert (torch.get_rng_state().tolist(), random.getstate()) == before
