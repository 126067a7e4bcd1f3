"""Configs: every fault is reported at once, each with its place, its value, the rule and the mend."""

# ruff: noqa: E501  (messages are tested as they are read: on one line)

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet.space import Float
from autotunenet_bench.config import (
    PROTOCOL_VERSION,
    ConfigError,
    RunConfig,
    RunSpec,
    SuiteConfig,
    expand,
    find_config,
    load_config,
    parse_config,
    shipped_configs,
)
from autotunenet_bench.config.overrides import apply_override
from autotunenet_bench.config.sets import load_members
from autotunenet_bench.config.yaml import MAX_BYTES, Document
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.types import DataInfo, Horizon

RUN = """\
task: digits_mlp
regime: {name: data_shift, severity: 0.4}
controller:
  name: heuristic
  max_delta: 0.5
num_epochs: 4
seeds: [0, 1]
"""
SUITE = """\
tasks: [digits_mlp]
regimes: [stationary]
controllers: [fixed, cosine]
num_epochs: 4
seeds: [0, 1]
"""
DATA = DataInfo(name="digits", source="test", num_train=10, num_val=5, sha256="ab")


def complaints(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "a.yaml", overrides)
    return str(caught.value).splitlines()


def complaint(text: str, *overrides: str) -> str:
    lines = complaints(text, *overrides)
    assert len(lines) == 1, lines
    return lines[0]


def edited(old: str, new: str, text: str = RUN) -> str:
    assert old in text
    return text.replace(old, new)


# -- what is right ---------------------------------------------------------------------------------------------------


def test_a_bare_name_stands_for_a_mapping() -> None:
    short = parse_config(edited("task: digits_mlp", "task: {name: digits_mlp}"), "a.yaml")
    assert short == parse_config(RUN, "a.yaml")
    assert short.controllers[0] == CONTROLLERS["heuristic"](name="heuristic", max_delta=0.5)


def test_numbers_follow_yaml_1_2() -> None:
    config = parse_config(edited("max_delta: 0.5", "max_delta: 1e-3"), "a.yaml")
    assert config.controllers[0].max_delta == 1e-3


def test_a_text_with_plural_keys_is_a_suite() -> None:
    assert isinstance(parse_config(RUN, "a.yaml"), RunConfig)
    assert isinstance(parse_config(SUITE, "a.yaml"), SuiteConfig)


def test_configs_are_frozen() -> None:
    config = parse_config(RUN, "a.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.num_epochs = 3  # type: ignore[misc]


def test_python_callers_need_no_yaml() -> None:
    config = RunConfig(
        task="digits_mlp",
        regime={"name": "stationary"},
        controller=CONTROLLERS["cosine"](name="cosine"),
        num_epochs=1,
        seeds=[0],
    )
    assert [member.name for member in (config.task, config.regime, config.controller)] == [
        "digits_mlp",
        "stationary",
        "cosine",
    ]


def test_a_range_replaces_that_of_the_task() -> None:
    config = parse_config(RUN + "space: {lr: {low: 1e-4, high: 1, log: true}}", "a.yaml")
    assert expand(config)[0].resolve(DATA).search_space()["lr"] == Float(1e-4, 1.0, log=True)


# -- what is wrong: keys and values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_delta: 0.5", "max_dleta: 0.5", "a.yaml:5: controller.max_dleta = 0.5: unknown key; did you mean 'max_delta'? allowed"),
        ("num_epochs: 4", "num_epochs: 4\nnum_thread: 2", "a.yaml:7: num_thread = 2: unknown key; did you mean 'num_threads'? allowed"),
        ("heuristic", "heuristc", "a.yaml:4: controller.name = 'heuristc': no controller has this name; did you mean 'heuristic'? choose one of fixed"),
        ("task: digits_mlp", "task: digit_mlp", "a.yaml:1: task = 'digit_mlp': no task has this name; did you mean 'digits_mlp'?"),
        ("name: data_shift", "name: zzz", "a.yaml:2: regime.name = 'zzz': no regime has this name; choose one of stationary"),
        ("  name: heuristic\n", "", "a.yaml:3: controller.name: this key is required; choose one of fixed"),
        ("task: digits_mlp", "task: [digits_mlp]", "a.yaml:1: task = ['digits_mlp']: must be a name, or a mapping with the key 'name'"),
        ("max_delta: 0.5", "max_delta: 50", "a.yaml:5: controller.max_delta = 50: must be a number > 0 and <= 10, or null; it is: largest"),
        ("severity: 0.4", "severity: 1.4", "a.yaml:2: regime.severity = 1.4: must be a number >= 0 and <= 1; it is:"),
        ("severity: 0.4", "severity: 0.4, kind: label_nose", "a.yaml:2: regime.kind = 'label_nose': must be one of label_noise"),
        ("max_delta: 0.5", "max_delta: '0.5'", "a.yaml:5: controller.max_delta = '0.5': must be a number > 0 and <= 10, or null; write it as a bare number"),
        ("max_delta: 0.5", "within_space: yes", "a.yaml:5: controller.within_space = 'yes': must be true or false; write true or false"),
        ("max_delta: 0.5", "rollback: ful", "a.yaml:5: controller.rollback = 'ful': must be one of none, hyperparameters, full; did you mean 'full'?"),
        ("num_epochs: 4", "num_epochs: 2.5", "a.yaml:6: num_epochs = 2.5: must be a whole number >= 1 and <= 10000"),
        ("num_epochs: 4", "num_epochs: true", "a.yaml:6: num_epochs = true: must be a whole number"),
        ("num_epochs: 4", "num_epochs: .nan", "a.yaml:6: num_epochs = nan: must be a whole number >= 1 and <= 10000; it is: passes"),
        ("num_epochs: 4", f"num_epochs: 0x{'f' * 9999}", "a.yaml:6: num_epochs = inf: must be a whole number >= 1"),
        ("num_epochs: 4", 'num_epochs: 4\ntitle: "\\ud800"', "a.yaml:1: "),
        ("num_epochs: 4\n", "", "a.yaml:1: num_epochs: this key is required: passes over the training data; it must be a whole number >= 1"),
        ("[0, 1]", "3", "a.yaml:7: seeds = 3: must be a list, each item a whole number >= 0 and <= 4294967295, at least 1 long; write [3]"),
        ("[0, 1]", "[]", "a.yaml:7: seeds = []: must be a list"),
        ("[0, 1]", "[0, -1]", "a.yaml:7: seeds.1 = -1: must be a whole number >= 0"),
        ("[0, 1]", "[0, 1, 0]", "a.yaml:7: seeds = [0, 1, 0]: a seed may stand once, 0 stands 2 times; remove the others"),
        ("max_delta: 0.5", "max_delta: .inf", "a.yaml:5: controller.max_delta = inf: must be a number > 0 and <= 10, or null; it is: largest"),
        ("task: digits_mlp", "task: {name: digits_mlp, lr: .inf}", "a.yaml:1: task.lr = inf: must be a finite number > 0, or null; it is: initial lr"),
        ("num_epochs: 4", "num_epochs: 4\nbogus: .nan", "a.yaml:7: bogus = nan: unknown key"),
        ("[0, 1]", "[-1]", "a.yaml:7: seeds.0 = -1: must be a whole number >= 0"),
        ("[0, 1]", "[1.0]", "a.yaml:7: seeds.0 = 1.0: must be a whole number >= 0"),
        ("severity: 0.4", "trigger_fraction: 1", "a.yaml:2: regime.trigger_fraction = 1: must be a number >= 0 and < 1, or null; it is: share"),
        ("severity: 0.4", "trigger_epoch: 9", "a.yaml:2: regime: trigger_epoch=9 of data_shift lies beyond the run's 4 epochs"),
    ],
)  # fmt: skip
def test_a_faulty_value_is_named_with_rule_and_mend(old: str, new: str, expected: str) -> None:
    assert complaint(edited(old, new)).startswith(expected)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("[1e-5, 1.0]", "a.yaml:8: space.lr = [1e-05, 1.0]: a range is not a list, which could as well mean a choice; write {low: 1e-05, high: 1.0, log: true}"),
        ("{low: 2, high: 1}", "a.yaml:8: space.lr: Float: low must be below high, got low=2.0, high=1.0"),
        ("{low: 0, high: 1, log: true}", "a.yaml:8: space.lr: Float: a logarithmic range needs low > 0, got low=0.0; raise low"),
        ("{low: 0, hihg: 1}", "a.yaml:8: space.lr.high: this key is required"),
        ("{low: 0.5, high: 1}", "a.yaml:8: space.lr: digits_mlp starts from 0.001, outside of this range; change low or high, or set task.lr"),
    ],
)  # fmt: skip
def test_a_faulty_range_is_named_with_rule_and_mend(space: str, expected: str) -> None:
    assert complaints(f"{RUN}space: {{lr: {space}}}")[0].startswith(expected)


def test_a_range_of_an_unknown_hyperparameter_points_at_its_line() -> None:
    line = complaint(RUN + "space:\n  lrr: {low: 1e-4, high: 1}\n")
    assert line == "a.yaml:9: space.lrr: digits_mlp has no such hyperparameter; did you mean 'lr'? it has lr"


def test_entries_that_tables_would_merge_are_refused() -> None:
    line = complaint(edited("[fixed, cosine]", "[fixed, cosine, fixed]", SUITE))
    assert line.startswith(
        "a.yaml:3: controllers = ['fixed', 'cosine', 'fixed']: items 0 and 2 are both shown as 'fixed'"
    )
    assert "label" in line
    parse_config(edited("[fixed, cosine]", "[fixed, {name: fixed, label: again}]", SUITE), "a.yaml")


def test_an_item_of_a_suite_is_named_by_its_index() -> None:
    line = complaint(edited("[fixed, cosine]", "\n  - fixed\n  - name: cosine\n    final: 2", SUITE))
    assert line.startswith("a.yaml:6: controllers.1.final = 2: must be a number >= 0 and <= 1")


def test_every_fault_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = "task: digit_mlp\nregime: {name: data_shift, severity: 7}\ncontroller:\n  name: heuristic\n  max_delta: 50\n"
    lines = complaints(text + "  warmup: 1\n  warmup: 2\nnum_epoch: 3\nseeds: [0]\n", "controller.cooldown=-1")
    assert [line.partition(": ")[0] for line in lines] == [
        "a.yaml:1",  # num_epochs is missing
        "a.yaml:1",
        "a.yaml:2",
        "a.yaml:5",
        "a.yaml:7",
        "a.yaml:8",
        "--set controller.cooldown=-1",
    ]


@pytest.mark.parametrize("name", ["one_cycle", "warmup_stable_decay"])
def test_a_schedule_that_does_not_fit_into_the_run_is_refused_in_the_words_of_the_config(name: str) -> None:
    short = edited("[fixed, cosine]", f"[fixed, {{name: {name}, per: epoch}}]", SUITE)
    parse_config(edited("num_epochs: 4", "num_epochs: 2", short), "a.yaml")
    assert complaint(edited("num_epochs: 4", "num_epochs: 1", short)) == (
        f"a.yaml:3: controllers.1: {name} per epoch goes up and down, which takes num_epochs >= 2, got num_epochs=1; "
        "train longer, or write per: step"
    )
    # Per step it depends on the data, which are known later.
    config = parse_config(RUN, "a.yaml", [f"controller={name}", "num_epochs=1"])
    with pytest.raises(ValueError, match=f"{name} per step goes up and down, which takes 2 steps, got 1; raise num_ep"):
        config.controllers[0].build(Horizon(num_epochs=1, steps_per_epoch=1), config.tasks[0].space, seed=0)


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        ("{name: cosine, observe: val_loss}", "controller.observe = 'val_loss': has no effect because a schedule per step is never shown"),
        ("{name: plateau, backoff: 0.5}", "controller.backoff = 0.5: has no effect because rollback is none"),
        ("{name: heuristic, rollback: none, backoff: 0.3}", "controller.backoff = 0.3: has no effect because rollback is none"),
    ],
)  # fmt: skip
def test_a_key_that_nothing_reads_is_refused(controller: str, expected: str) -> None:
    line = complaint(RUN, f"controller={controller}")
    assert line.startswith(f"--set controller={controller}: {expected}")
    assert line.endswith("; remove it")


@pytest.mark.parametrize(
    "controller",
    ["{name: cosine, per: epoch, observe: val_loss}", "{name: cosine, rollback: full, backoff: 0.5}", "plateau"],
)
def test_a_key_that_is_read_or_not_given_is_no_fault_and_its_spec_can_be_read_again(controller: str) -> None:
    spec = expand(parse_config(RUN, "a.yaml", [f"controller={controller}"]))[0].resolve(DATA)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


# -- what is wrong: the text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a.yaml:1: the config is empty; begin with `task:`"),
        ("# nothing\n", "a.yaml:1: the config is empty"),
        ("- task\n", "a.yaml:1: a config is a mapping of keys to values, this is a list"),
        ("task", "a.yaml:1: a config is a mapping of keys to values, this is a single value"),
        ("task:\n\tname: x\n", "a.yaml:2: YAML is indented by spaces, here is a tab; replace the tab by spaces"),
        ("a: [1\nb: 2", "a.yaml:2: not valid YAML: "),
        ("a: b: c", "a.yaml:1: not valid YAML: mapping values are not allowed here; check the indentation"),
        ("a: \x01", "a.yaml:1: the character U+0001 is not allowed in YAML"),
        ("a: *x", "a.yaml:1: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2: not valid YAML: "),
        ("a: !!python/object:os.system x", "a.yaml:1: not valid YAML: could not determine a constructor"),
        ("a: 2024-13-45", "a.yaml:1: not valid YAML: "),
        ("a: &x [*x]", "a.yaml:1: nesting deeper than"),
        ("[" * 5000, "a.yaml:1: nesting deeper than 32"),
    ],
)
def test_a_text_that_is_no_config_is_refused(text: str, expected: str) -> None:
    assert complaint(text).startswith(expected)


def test_every_duplicate_key_is_reported() -> None:
    lines = complaints(RUN + "seeds: [3]\ntask: digits_mlp\n")
    assert lines == [
        "a.yaml:8: seeds: this key stands twice, first in line 7; delete one of them",
        "a.yaml:9: task: this key stands twice, first in line 1; delete one of them",
    ]


def test_a_key_that_is_no_word_is_refused() -> None:
    assert "a.yaml:8: 1: a key must be a word; put it in quotes" in complaints(RUN + "1: 2\n")


def test_a_bomb_of_aliases_is_refused() -> None:
    levels = [f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "aliases written out" in complaint("\n".join(["a: &a [1, 1, 1, 1, 1]", *levels]))


def test_merge_keys_and_anchors_can_be_used() -> None:
    text = edited("{name: data_shift, severity: 0.4}", "&r {name: data_shift, severity: 0.4}")
    text = edited("task: digits_mlp", "task: {<<: {name: digits_mlp}, batch_size: 16}", text)
    assert parse_config(text, "a.yaml").tasks[0].batch_size == 16


# -- files -----------------------------------------------------------------------------------------------------------


def refusal(name: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(str(name))
    return str(caught.value)


def test_a_file_of_your_own_wins_over_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("digits_quick")[1]
    (tmp_path / "digits_quick.yaml").write_text(RUN)
    assert find_config("digits_quick") == (Path("digits_quick.yaml"), False)
    assert load_config("digits_quick.yaml").name == "digits_quick"


@pytest.mark.parametrize(
    "name", ["suites/smoke", "smoke", "smoke.yaml", "configs/suites/smoke.yaml", "./configs/suites/smoke.yaml"]
)
def test_shipped_configs_are_found_from_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_config(name)
    assert (loaded.shipped, loaded.name) == (True, "smoke")


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_are_valid(name: str) -> None:
    config = load_config(f"configs/{name}.yaml").config
    assert config.title
    assert isinstance(config, SuiteConfig) == name.startswith("suites/")


NOT_IN_SMOKE = ("autotunenet_1_0_2",)
"""Members that the shipped smoke suite leaves out: it needs an environment of its own."""


def test_the_smoke_suite_has_every_controller() -> None:
    names = [controller.name for controller in load_config("suites/smoke").config.controllers]
    assert names == [name for name in CONTROLLERS if name not in NOT_IN_SMOKE]


def test_a_missing_file_lists_what_is_near_and_what_is_shipped(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RUN)
    message = refusal(tmp_path / "mime.yaml")
    assert "there is no such file" in message
    assert f"did you mean '{tmp_path / 'mine.yaml'}'?" in message
    assert all(name in message for name in shipped_configs())
    assert "did you mean 'digits_quick'?" in refusal("digits_quik")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RUN)
    assert refusal(tmp_path) == f"{tmp_path}: is a folder, a config is a file; name one of its files: mine.yaml"


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("task: x\ntitle: Größe\n".encode("latin-1"))
    assert refusal(path) == f"{path}:2: the file is not UTF-8 text; save it as UTF-8"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_text(RUN, encoding="utf-8-sig")
    assert load_config(str(path)).config == parse_config(RUN, "a.yaml")


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert "a config may have 256 KiB" in refusal(path)


# -- overrides -------------------------------------------------------------------------------------------------------


def test_an_override_expands_the_short_form() -> None:
    config = parse_config(RUN, "a.yaml", ["task.batch_size=16"])
    assert (config.tasks[0].name, config.tasks[0].batch_size) == ("digits_mlp", 16)
    config = parse_config(SUITE, "a.yaml", ["controllers.1.final=0.5", "regimes.0.label=calm"])
    assert config.controllers[1] == CONTROLLERS["cosine"](name="cosine", final=0.5)  # type: ignore[call-arg]
    assert config.regimes[0].display == "calm"


def test_an_override_makes_missing_mappings() -> None:
    config = parse_config(RUN, "a.yaml", ["space.lr.low=1e-4", "space.lr.high=1"])
    assert config.space["lr"].low == 1e-4


def test_overrides_alone_can_be_a_config() -> None:
    values = ["task=digits_mlp", "regime=stationary", "controller=fixed", "num_epochs=1", "seeds=[0]"]
    assert parse_config("", "a.yaml", values).num_epochs == 1


def test_a_fault_of_an_override_is_placed_at_the_override() -> None:
    line = complaint(RUN, "controller.max_delta=50")
    assert line.startswith("--set controller.max_delta=50: controller.max_delta = 50: must be a number > 0 and <= 10")
    line = complaint(RUN, "controller=cosin")
    assert line.startswith(
        "--set controller=cosin: controller = 'cosin': no controller has this name; did you mean 'cosine'?"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("num_epochs", "--set num_epochs: an override is written key=value"),
        ("=3", "--set =3: an override is written key=value"),
        ("a..b=3", "--set a..b=3: an override is written key=value"),
        ("num_epochs.x=3", "--set num_epochs.x=3: num_epochs = 4: has no keys, so 'x' cannot be set"),
        ("seeds.2=3", "--set seeds.2=3: seeds: is a list of 2, and '2' is no index of it; name an item by its index: 0 (0), 1 (1)"),
        ("seeds.x=3", "--set seeds.x=3: seeds: is a list of 2, and 'x' is no index of it"),
        ("seeds=[0", "--set seeds=[0: not valid YAML"),
        ("task={name: digits_mlp, name: x}", "--set task={name: digits_mlp, name: x}: task.name: this key stands twice"),
        ("num_epochs=", "--set num_epochs=: num_epochs: there is no value after the =; write null, num_epochs=null"),
        ("task.lr= # 3", "--set task.lr= # 3: task.lr: there is no value after the =; write null"),
        ("num_epoch=3", "--set num_epoch=3: num_epoch = 3: unknown key; did you mean 'num_epochs'?"),
    ],
)  # fmt: skip
def test_a_faulty_override_is_refused(override: str, expected: str) -> None:
    assert complaints(RUN, override)[0].startswith(expected)


def test_null_is_a_value() -> None:
    assert parse_config(RUN, "a.yaml", ["controller.max_delta=null"]).controllers[0].max_delta is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("task.lr=1e9", "--set task.lr=1e9: task: the initial lr 1e+09 of digits_mlp lies outside of its space"),
        ("regime.trigger_epoch=9", "--set regime.trigger_epoch=9: regime: trigger_epoch=9 of data_shift lies beyond"),
        ("space.lr.low=0.5", "--set space.lr.low=0.5: space.lr: digits_mlp starts from 0.001, outside of this range"),
        ("task.lr=5", "--set task.lr=5: space.lr: digits_mlp starts from 5, outside of this range"),
    ],
)
def test_a_rule_over_several_keys_is_placed_at_the_override_that_breaks_it(override: str, expected: str) -> None:
    assert complaint(RUN + "space: {lr: {low: 1e-4, high: 1}}", override).startswith(expected)


def test_an_override_elsewhere_is_blamed_only_where_the_rule_names_it() -> None:
    late = edited("severity: 0.4", "trigger_epoch: 4")
    assert complaint(late, "num_epochs=3").startswith("--set num_epochs=3: regime: trigger_epoch=4")
    late = edited("severity: 0.4", "trigger_epoch: 9")
    assert complaint(late, "regime.severity=0.1", "task.batch_size=16").startswith("a.yaml:2: regime: trigger_epoch=9")
    twice = complaint(edited("cosine", "constant", SUITE), "controllers.1=fixed")
    assert twice.startswith("--set controllers.1=fixed: controllers = ")


def test_overriding_one_use_of_an_anchor_leaves_the_other() -> None:
    text = edited("[stationary]", "[&r {name: data_shift, severity: 0.4}, {<<: *r, label: other}]", SUITE)
    config = parse_config(text, "a.yaml", ["regimes.0.severity=0.1"])
    assert [regime.severity for regime in config.regimes] == [0.1, 0.4]  # type: ignore[attr-defined]


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | printable
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


@given(path=st.lists(words, min_size=1, max_size=4), value=values)
def test_any_value_can_be_set_anywhere(path: list[str], value: object) -> None:
    document = Document("a.yaml", {})
    apply_override(document, f"{'.'.join(path)}={json.dumps(value)}")
    assert document.problems == []
    found = document.data
    for part in path:
        found = found[part]
    assert found == value
    assert document.where(tuple(path)).startswith("--set ")


@given(text=printable)
def test_no_override_ends_in_another_exception(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_config(RUN, "a.yaml", [text])


# -- specs -----------------------------------------------------------------------------------------------------------


def test_a_suite_expands_to_every_combination_in_order() -> None:
    cells = expand(parse_config(SUITE, "a.yaml"))
    assert [(cell.controller.name, cell.seed) for cell in cells] == [
        ("fixed", 0),
        ("fixed", 1),
        ("cosine", 0),
        ("cosine", 1),
    ]


def spec_of(text: str, data: DataInfo = DATA) -> RunSpec:
    return expand(parse_config(text, "a.yaml"))[0].resolve(data)


def test_a_spec_survives_json_and_pickle() -> None:
    spec = spec_of(RUN + "space: {lr: {low: 1e-4, high: 1, log: true}}")
    again = RunSpec.model_validate_json(spec.model_dump_json())
    assert again == spec == pickle.loads(pickle.dumps(spec))
    assert again.run_id == spec.run_id


def test_a_spec_stores_every_default() -> None:
    stored = spec_of(RUN).model_dump(mode="json")
    assert stored["protocol"] == PROTOCOL_VERSION
    assert stored["controller"]["raise_factor"] == 1.05
    assert stored["labels"] == {"task": "digits_mlp", "regime": "label noise 0.4 @ 50 %", "controller": "heuristic"}
    assert stored["data"]["sha256"] == "ab"


def test_a_run_id_is_readable_a_file_name_and_stable() -> None:
    run_id = spec_of(RUN).run_id
    assert run_id.startswith("digits_mlp-data_shift-heuristic-s0-")
    assert set(run_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert run_id == spec_of(edited("severity: 0.4", "severity: 0.40, kind: label_noise")).run_id


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.5", "0.6"), ("severity: 0.4", "severity: 0.5"), ("num_epochs: 4", "num_epochs: 5"), ("[0, 1]", "[1]")],
)
def test_another_setting_is_another_run(old: str, new: str) -> None:
    assert spec_of(RUN).run_id != spec_of(edited(old, new)).run_id


def test_other_data_or_threads_are_another_run() -> None:
    other = DataInfo(name="digits", source="test", num_train=10, num_val=5, sha256="cd")
    assert len({spec_of(RUN).run_id, spec_of(RUN, other).run_id, spec_of(RUN + "num_threads: 2").run_id}) == 3


# -- what a suite asks, and what it does with the whole of the data --------------------------------------------------

ASKED = (
    SUITE
    + """\
experiment:
  question: Is it so?
  subject: cosine
  against: [fixed]
  conclusion: best_of
"""
)
FULL = SUITE + "full: {num_epochs: 9, seeds: [5, 6]}\n"


def test_a_suite_may_ask_a_question() -> None:
    experiment = parse_config(ASKED, "a.yaml").experiment  # type: ignore[union-attr]
    assert experiment is not None
    assert (experiment.subject, experiment.against, experiment.idea) == ("cosine", ("fixed",), "")
    assert parse_config(ASKED, "a.yaml", ["experiment=null"]).experiment is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("subject: cosine", "subject: cosin", "a.yaml:8: experiment.subject = 'cosin': is no controller of this suite; did you mean 'cosine'? choose from fixed, cosine, or set experiment to null"),
        ("[fixed]", "[fixed, momo]", "a.yaml:9: experiment.against.1 = 'momo': is no controller of this suite; choose from fixed, cosine"),
        ("[fixed]", "[fixed, cosine]", "a.yaml:9: experiment.against = ('fixed', 'cosine'): holds the subject, which would be compared with itself; remove it"),
        ("[fixed]", "[fixed, fixed]", "a.yaml:9: experiment.against = ['fixed', 'fixed']: a controller may stand once, 'fixed' stands 2 times"),
        ("[fixed]", "[]", "a.yaml:9: experiment.against = []: must be a list"),
        ("best_of", "best_off", "a.yaml:10: experiment.conclusion = 'best_off': must be one of do_no_harm, best_of, survives, equal_budget, each_task; did you mean 'best_of'?"),
        ("[fixed]", "[fixed]\n  also: [cosin]", "a.yaml:10: experiment.also.0 = 'cosin': is no controller of this suite; did you mean 'cosine'?"),
        ("[fixed]", "[fixed]\n  also: [fixed]", "a.yaml:9: experiment.against = ('fixed',): holds the subject"),
        ("[fixed]", "[fixed]\n  also: [cosine]", "a.yaml:10: experiment.also = ('cosine',): holds the subject, which is asked of anyway; remove it"),
        ("[fixed]", "[fixed]\n  target: {baseline: fix}", "a.yaml:10: experiment.target.baseline = 'fix': is no controller of this suite"),
        ("[fixed]", "[fixed]\n  target: {val_loss: {digits: 0.1}}", "a.yaml:10: experiment.target.val_loss.digits = 'digits': is no task of this suite; did you mean 'digits_mlp'?"),
        ("[fixed]", "[fixed]\n  target: {}", "a.yaml:10: experiment.target: a target is set by a controller, baseline: NAME, or by losses"),
        ("  question: Is it so?\n", "", "a.yaml:6: experiment.question: this key is required"),
        ("  question: Is it so?\n", "  question: Q\n  ideas: x\n", "a.yaml:8: experiment.ideas = 'x': unknown key; did you mean 'idea'?"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_is_refused(old: str, new: str, expected: str) -> None:
    assert complaint(edited(old, new, ASKED)).startswith(expected)


def test_a_run_of_one_controller_asks_nothing() -> None:
    assert "experiment" in complaint(RUN + "experiment: {question: Q}\n")


def test_full_puts_its_section_over_the_config_and_set_has_the_last_word() -> None:
    assert (parse_config(FULL, "a.yaml").num_epochs, parse_config(FULL, "a.yaml").seeds) == (4, (0, 1))
    full = parse_config(FULL, "a.yaml", full=True)
    assert (full.num_epochs, full.seeds) == (9, (5, 6))
    full = parse_config(FULL, "a.yaml", ["num_epochs=2"], full=True)
    assert (full.num_epochs, full.seeds) == (2, (5, 6))
    full = parse_config(FULL, "a.yaml", ["full.num_epochs=7", "seeds.0=3"], full=True)
    assert (full.num_epochs, full.seeds) == (7, (3, 6))  # an index is one of the list that is run
    assert parse_config(SUITE, "a.yaml", full=True) == parse_config(SUITE, "a.yaml")


def test_what_full_says_is_checked_alone_and_with_the_rest() -> None:
    assert complaint(edited("num_epochs: 9", "num_epochs: 0", FULL)).startswith(
        "a.yaml:6: full.num_epochs = 0: must be a whole number"
    )
    assert "unknown key; did you mean 'num_epochs'?" in complaint(edited("num_epochs: 9", "num_epoch: 9", FULL))
    late = edited("stationary", "{name: data_shift, trigger_epoch: 4}", FULL)
    parse_config(late, "a.yaml")
    with pytest.raises(ConfigError, match=r"regimes.0: .*trigger_epoch") as caught:
        parse_config(edited("num_epochs: 9", "num_epochs: 3", late), "a.yaml", full=True)
    assert "a.yaml:2" in str(caught.value)


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_are_valid_at_every_scale(name: str) -> None:
    for scale in load_members(f"configs/{name}.yaml")[0].departure.scales:
        loaded, _ = load_members(f"configs/{name}.yaml", scale=scale)
        assert loaded.folder == f"{loaded.name}-{scale}"


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_are_valid_on_the_whole_of_the_data(name: str) -> None:
    whole, members = load_members(f"configs/{name}.yaml", full=True)
    for config in [loaded.config for loaded in members or [whole]]:
        if config.full and config.full.num_epochs:
            assert config.num_epochs == config.full.num_epochs
