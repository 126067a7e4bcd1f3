"""The report says what was run, and nothing else: numbers, missing runs, hostile names, equal bytes."""

import csv
import io
import math
import random
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console

from autotunenet.files import write_atomically
from autotunenet.types import Action, Decision, Health, Observation
from autotunenet_bench.config import RunConfig
from autotunenet_bench.config.specs import expand
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.heuristic import HeuristicConfig
from autotunenet_bench.metrics import METRICS, summarize
from autotunenet_bench.report import summary_table, write_report
from autotunenet_bench.report.aggregate import Stat, aggregate
from autotunenet_bench.report.columns import MAIN_COLUMNS
from autotunenet_bench.report.csvs import curves_csv, decisions_csv, summary_csv
from autotunenet_bench.report.curves import band, hyperparam_curve, train_loss_curve
from autotunenet_bench.report.drawing import COLORS, LINE_STYLES, styles
from autotunenet_bench.report.figures import curves_figure
from autotunenet_bench.report.html import render
from autotunenet_bench.report.sections import MAX_EVENTS
from autotunenet_bench.report.tables import LESS_NEEDED, SPREAD
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.types import DataInfo

SVG = "{http://www.w3.org/2000/svg}"
NAN, INF = math.nan, math.inf
NUM_EPOCHS, STEPS_PER_EPOCH = 4, 5
DATA = {"name": "digits", "source": "scikit-learn", "num_train": 80, "num_val": 20, "sha256": "ab" * 32}


def make_trace(
    controller="fixed",
    *,
    task="digits MLP",
    regime="stationary",
    seed=0,
    val_loss=None,
    train_loss=None,
    trigger_epoch=None,
    num_rollbacks=0,
    num_accepts=0,
    restarts_at=(),
    reason="the loss blew up",
    finished=True,
    configs=None,
    **spec,
):
    """A run with plausible numbers; `val_loss` and `train_loss` replace all of its losses."""
    rng = random.Random(f"{controller} {seed}")
    labels = {"task": task, "regime": regime, "controller": controller}
    spec = {"task": {"name": task, "sizes": [8, 4]}, "seed": seed, "num_threads": 1, **spec, **(configs or {})}
    spec |= {"num_epochs": NUM_EPOCHS, "protocol": "1.0", "data": DATA, "labels": labels}
    events = [{"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.3, "accuracy": 0.1}}]
    lr = 0.1
    for epoch in range(1, NUM_EPOCHS + 1 if finished else 3):
        step = epoch * STEPS_PER_EPOCH
        if epoch == trigger_epoch:
            events.append({"event": "trigger", "epoch": epoch, "step": step - 4, "description": "labels replaced"})
        losses = [2 / epoch + rng.random() if train_loss is None else train_loss for _ in range(STEPS_PER_EPOCH)]
        loss = 2 / epoch + rng.random() if val_loss is None else val_loss
        val = {"loss": loss, "accuracy": 0.5 + 0.1 * epoch}
        clock = {"train_seconds": rng.random(), "eval_seconds": 0.1, "control_seconds": 0.01}
        epoch_row = {"event": "epoch", "epoch": epoch, "step": step, "losses": losses, "val": val}
        events.append({**epoch_row, "hyperparams": {"lr": lr}, "clock": clock})
        seen = Observation(step, loss, {"lr": lr})
        action = Action.ADAPT if epoch % 2 else Action.HOLD
        after = lr / 2 if epoch % 2 else lr
        row = Decision(seen, Health.STABLE, action, {"lr": lr / 3}, {"lr": after}, 0, "planned")
        events.append({"event": "decision", **row.to_record()})
        lr = after
    for _ in range(num_rollbacks):
        seen = Observation(9, INF, {"lr": lr})
        row = Decision(seen, Health.UNSTABLE, Action.ROLLBACK, {"lr": lr}, {"lr": 0.01}, 4, reason)
        events.append({"event": "decision", **row.to_record()})
    for _ in range(num_accepts):
        seen = Observation(13, 5.0, {"lr": lr})
        row = Decision(seen, Health.UNSTABLE, Action.ACCEPT, {"lr": lr}, {"lr": lr}, 0, "going back was futile")
        events.append({"event": "decision", **row.to_record()})
    for step in restarts_at:
        seen = Observation(step, 2.0, {"lr": lr})
        row = Decision(seen, Health.STABLE, Action.ADAPT, {"lr": lr}, {"lr": lr}, 5, "trial <1> is over")
        events.append({"event": "decision", **row.to_record()})
    if finished:
        events.append({"event": "end", "num_restarts": len(restarts_at), "weights_sha256": "cd" * 32})
    return Trace.from_events(spec, events)


CASES = {
    "one run": [make_trace()],
    "seeds, controllers, regimes": [
        make_trace(controller, regime=regime, seed=seed, trigger_epoch=trigger, num_rollbacks=seed)
        for controller in ("fixed", "cosine", "random")
        for regime, trigger in (("stationary", None), ("label noise 0.4 @ epoch 3", 3))
        for seed in range(3)
    ],
    "no run": [],
    "no finished run": [make_trace(finished=False)],
    "some unfinished": [make_trace(seed=0), make_trace(seed=1, finished=False), make_trace("b", finished=False)],
    "NaN everywhere": [make_trace(val_loss=NAN, train_loss=NAN), make_trace("b", val_loss=NAN, train_loss=NAN)],
    "infinite losses": [make_trace(val_loss=INF, train_loss=INF, seed=seed) for seed in range(2)],
    "huge losses": [make_trace(val_loss=1e300, train_loss=1e308), make_trace("b")],
    "negative losses": [make_trace(val_loss=-3.0, train_loss=-1.0), make_trace("b")],
    "hostile name": [make_trace("<script>alert(1)</script>", num_rollbacks=1, reason="a < b & <b>c</b> [bold]")],
    "40 controllers": [make_trace(f"controller {index:02d}") for index in range(40)],
}
every_case = pytest.mark.parametrize("traces", CASES.values(), ids=CASES)


class WellFormed(HTMLParser):
    """Checks that tags nest; collects ids, tags, attributes and text."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.links, self.text = [], [], set(), [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "xlink:href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_csv(text):
    return list(csv.DictReader(io.StringIO("".join(text))))


def terminal(traces, width=100):
    console = Console(width=width, file=io.StringIO(), no_color=True)
    console.print(summary_table(traces))
    return console.file.getvalue()


def assert_well_formed_and_loads_nothing(text):
    page = WellFormed(text)
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert "http" not in text
    assert "@import" not in text


@every_case
def test_terminal_table_fits_100_columns(traces):
    assert all(len(line.rstrip()) <= 100 for line in terminal(traces).splitlines())


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_terminal_table_keeps_names_and_numbers_whole(width):
    names = ["fixed", "heuristic", "random_walk", "a_name_of_27_cells_is_whole"]
    traces = [make_trace(name, seed=seed, regime=regime) for name in names for seed in (0, 1) for regime in "ab"]
    lines = [line.rstrip() for line in terminal(traces, width).splitlines()]
    assert max(map(len, lines)) <= width
    assert all(sum(line.split()[:1] == [name] for line in lines) == 3 for name in names)  # one over both
    for row in (row for group in aggregate(traces) for row in group.rows):
        loss = MAIN_COLUMNS[0].text(row).replace(" ", "")
        assert any(
            loss in line or f" {loss.split('±')[0]}" in line for line in lines if line.startswith(row.controller)
        )
    assert "…" not in "".join(lines)
    assert "diverged: runs with a divergence event, of those finished" in lines


def test_terminal_table_drops_columns_in_the_stated_order():
    traces = [make_trace(name, seed=seed) for name in ("fixed", "random_walk") for seed in (0, 1)]
    numbers = []
    for width in range(120, 20, -1):
        text = terminal(traces, width)
        words = " ".join(text.split())
        left_out = words.partition("left out, for want of width: ")[2]
        assert left_out in [", ".join(LESS_NEEDED[:n]) for n in range(len(LESS_NEEDED) + 1)]
        assert ("±" in text.partition("mean")[0]) == (SPREAD not in left_out)
        assert ("control" in words.partition("mean ")[0].replace("controller", "")) == ("control" not in left_out)
        numbers.append(left_out)
    assert sorted(numbers, key=len) == numbers
    assert len(set(numbers)) == len(LESS_NEEDED) + 1
    assert {column.head for column in MAIN_COLUMNS} | {SPREAD} == {*LESS_NEEDED, "final val loss"}


def test_a_name_longer_than_the_terminal_folds_and_loses_nothing():
    name = "n" * 60
    text = terminal([make_trace(name), make_trace("b")], width=40)
    assert text.count("n" * 20) == 3
    assert all(len(line.rstrip()) <= 40 for line in text.splitlines())


@every_case
def test_page_is_well_formed_and_bytes_depend_neither_on_time_nor_on_the_order_of_the_seeds(traces, tmp_path):
    first = write_report(traces, tmp_path / "a", "T & <co>")
    assert_well_formed_and_loads_nothing(first.html.read_text(encoding="utf-8"))
    labels = list(dict.fromkeys(trace.label for trace in traces))
    by_seed_downwards = sorted(traces, key=lambda trace: (labels.index(trace.label), -trace.spec["seed"]))
    second = write_report(by_seed_downwards, tmp_path / "b", "T & <co>")
    files = [name for name in (field.name for field in fields(first)) if isinstance(getattr(first, name), Path)]
    assert len(files) == 9
    for name in files:
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
    assert first.answer == second.answer
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        *("claims.csv", "curves.csv", "decisions.csv", "overall.csv", "report.html", "report.md", "score.csv"),
        *("summary.csv", "tables.tex"),
    ]


def test_names_and_reasons_are_escaped():
    page = WellFormed(render(CASES["hostile name"], title="<i>t</i>", description="<u>d</u>"))
    for words in ("<script>alert(1)</script>", "a < b & <b>c</b> [bold]", "<i>t</i>", "<u>d</u>"):
        assert words in page.text
    assert not page.tags & {"script", "b", "i", "u"}
    assert "<script>" in terminal(CASES["hostile name"], width=200)


def test_page_says_what_was_run_and_what_is_missing():
    text = WellFormed(
        render(CASES["some unfinished"], title="T", failures={"run-7": "ValueError: lr must be positive"})
    ).text
    for words in (DATA["sha256"], "scikit-learn", "80 training and 20 validation", "1 of 4 runs finished", "run-7"):
        assert words in text
    assert "ValueError: lr must be positive" in text
    assert "fixed: 1 of 2 runs did not finish (seed 1)" in text
    assert "digits MLP · stationary · b, seed 0: 2 of 4 epochs" in text
    assert all(metric.formula in text for metric in METRICS.values() if not metric.needs)


def test_missing_runs_are_named_and_counted_once():
    names = {"task": "digits_mlp", "regime": "stationary", "controller": "fixed"}
    spec = expand(RunConfig(**names, num_epochs=4, seeds=[0]))[0].resolve(DataInfo(**DATA))
    started = replace(make_trace(finished=False), spec=spec.model_dump(mode="json"))
    missing = {"run-8": "not started", "run-7": "interrupted", spec.run_id: "stopped by hand"}
    page = WellFormed(render([make_trace("b"), started], title="T", missing=missing, failures={"run-7": "it broke"}))
    assert "1 of 4 runs finished" in page.text
    assert "seed 0: 2 of 4 epochs (stopped by hand)" in page.text
    assert page.text.index("Runs that are missing") < page.text.index("run-8: not started")
    assert spec.run_id not in page.text
    assert page.text.count("run-7") == 1
    assert "missing" in page.ids
    assert "Runs that are missing" not in render([make_trace()], title="T")


def test_missing_runs_alone_make_a_page(tmp_path):
    paths = write_report([], tmp_path, "T", missing={"run-8": "not started"})
    text = WellFormed(paths.html.read_text()).text
    for words in ("0 of 1 runs finished", "No run has finished yet", "run-8: not started"):
        assert words in text


def test_page_says_how_everything_was_set():
    plain = HeuristicConfig().model_dump(mode="json")
    shift = {"name": "data_shift", "label": None, "trigger_epoch": 3, "trigger_fraction": None, "severity": 0.4}
    careful = plain | {"max_delta": None, "rollback": "none", "label": "careful", "new": 1}
    foreign = {"name": "unheard_of", "label": None, "depth": 3, "on": True}
    traces = [
        make_trace("heuristic", configs={"controller": plain}),
        make_trace("careful", configs={"controller": careful}),
        make_trace("from elsewhere", configs={"controller": foreign}),
        make_trace("bare", regime="noise at 3", configs={"regime": shift}),
    ]
    page = render(traces, title="T")
    for words in (
        "<dd>heuristic: defaults<br>careful: heuristic, max_delta null, rollback none, new 1<br>"
        "from elsewhere: unheard_of, depth 3, on true<br>bare: settings not recorded</dd>",
        "<dd>digits MLP: sizes [8, 4]</dd>",
        "<dd>digits MLP: lr 0.1</dd>",
        "<dd>stationary<br>noise at 3: data_shift, trigger_epoch 3, severity 0.4</dd>",
    ):
        assert words in page


def test_defaults_of_every_controller_are_known():
    configs = {name: CONTROLLERS[name]().model_dump(mode="json") for name in CONTROLLERS}
    words = []
    for name, config in configs.items():
        always = ", ".join(f"{key} {config[key]}" for key in ("num_trials", "search_share") if key in config)
        words.append(f"{name}: {always or 'defaults'}")
    page = render([make_trace(name, configs={"controller": config}) for name, config in configs.items()], title="T")
    assert f"<dd>{'<br>'.join(words)}</dd>" in page


def test_zero_finished_runs_are_said_so():
    assert "No run has finished yet" in render(CASES["no finished run"], title="T")
    assert "There are no runs" in render([], title="T")
    assert "There are no runs" in terminal([])


def test_rollbacks_are_told_up_to_a_limit_and_the_rest_is_counted():
    text = WellFormed(render([make_trace(num_rollbacks=MAX_EVENTS + 7)], title="T")).text
    assert text.count("the loss blew up") == MAX_EVENTS
    assert "and 7 more" in text


@pytest.mark.parametrize(("num_seeds", "words"), [(1, "1 finished seed:"), (5, "can reach is 0.0625"), (10, "")])
def test_few_seeds_are_no_evidence(num_seeds, words):
    text = render([make_trace(seed=seed) for seed in range(num_seeds)], title="T")
    assert ("With fewer than 10 seeds" in text) == bool(words)
    assert words in text


def test_runs_of_one_name_that_differ_in_more_than_the_seed_are_reported():
    traces = [make_trace(seed=0), make_trace(seed=1, num_threads=2)]
    assert "differ in more than the seed (num_threads)" in " ".join(terminal(traces, width=300).split())
    assert "differ in more than the seed" not in terminal([make_trace(seed=0), make_trace(seed=1)], width=300)


def test_aggregate_counts_every_run_and_averages_the_finished_ones():
    traces = [make_trace(val_loss=1.0), make_trace(seed=1, val_loss=NAN, train_loss=NAN)]
    (group,) = aggregate([*traces, make_trace(seed=2, finished=False)])
    (row,) = group.rows
    assert (row.num_runs, len(row.finished), row.num_diverged) == (3, 2, 1)
    assert row.stats["final_val_loss"].values == (1.0, 2.3)
    assert row.stats["final_val_loss"].mean == pytest.approx(1.65)
    assert row.stats["final_val_loss"].sd == pytest.approx(1.3 / math.sqrt(2))


def test_best_follows_the_metrics_direction():
    (group,) = aggregate([make_trace("a", val_loss=1.0), make_trace("b", val_loss=0.5), make_trace("c", val_loss=INF)])
    assert group.best("final_val_loss") == {"b"}
    assert group.best("final_val_accuracy") == set()  # all equal
    assert group.best("rollback_count") == set()  # no direction
    assert "0.500*" in terminal([make_trace("a", val_loss=1.0), make_trace("b", val_loss=0.5)])


def test_stat_of_what_is_not_finite():
    assert Stat((1.0, INF)).mean == INF
    assert math.isnan(Stat((1.0, INF)).sd)
    assert math.isnan(Stat((1.0, NAN)).mean)


@every_case
def test_csv_reads_back_to_the_same_numbers(traces):
    rows = read_csv(summary_csv(traces))
    assert len(rows) == len(traces)
    by_label = {(*trace.label, trace.spec["seed"]): trace for trace in traces}
    for row in rows:
        trace = by_label[row["task"], row["regime"], row["controller"], int(row["seed"])]
        for name, value in summarize(trace).items():
            assert float(row[name]) == value or math.isnan(value)
        assert row["spec.data.sha256"] == DATA["sha256"]
        assert row["spec.task.sizes"] == "[8, 4]"
        assert row["finished"] == str(trace.finished)
    epochs = read_csv(curves_csv(traces))
    assert len(epochs) == sum(len(trace.epochs) for trace in traces)
    assert len(read_csv(decisions_csv(traces))) == sum(
        decision.action is not Action.HOLD for trace in traces for decision in trace.decisions
    )


def test_curves_csv_holds_raw_values():
    (row, *_) = read_csv(curves_csv([make_trace(val_loss=NAN, train_loss=INF)]))
    assert row["val_loss"] == "nan"
    assert row["num_non_finite_losses"] == "5"
    assert (row["epoch"], row["step"], row["lr"]) == ("1", "5", "0.1")


def test_decisions_csv_has_before_and_after():
    row = read_csv(decisions_csv([make_trace(num_rollbacks=1)]))[0]
    assert (row["action"], row["in_force.lr"], row["applied.lr"], row["step"]) == ("adapt", "0.1", "0.05", "5")


def test_hyperparam_curve_is_a_step_function_from_the_decisions():
    steps, values = hyperparam_curve(make_trace(), "lr")
    assert steps.tolist() == [0, 5, 15, 20]
    assert values.tolist() == [0.1, 0.05, 0.025, 0.025]


def test_band_spans_the_seeds_and_ends_where_runs_end():
    short = (np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    long = (np.array([0.0, 1.0, 2.0]), np.array([3.0, 5.0, 7.0]))
    over = band([short, long])
    assert over.mean.tolist() == [2.0, 3.0, 7.0]
    assert (over.low.tolist(), over.high.tolist()) == ([1.0, 1.0, 7.0], [3.0, 5.0, 7.0])
    assert band([short, long], geometric=True).mean == pytest.approx([math.sqrt(3), math.sqrt(5), 7.0])


def test_losses_that_are_not_finite_are_drawn_at_the_worst():
    assert set(train_loss_curve(make_trace(train_loss=NAN))[1].tolist()) == {2.3}


def test_huge_losses_do_not_flatten_the_others():
    assert set(train_loss_curve(make_trace(train_loss=1e30))[1].tolist()) == {100 * 2.3}


def test_figure_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    (group,) = aggregate([make_trace(trigger_epoch=3, num_rollbacks=1, train_loss=NAN)])
    svg = curves_figure(group, styles(["fixed"]))
    assert dict(mpl.rcParams) == before
    for words in (">trigger, step 11<", ">rollback<", ">training loss not finite<", ">fixed<", ">lr<"):
        assert words in svg


def figure(*traces):
    (group,) = aggregate(traces)
    return ElementTree.fromstring(curves_figure(group, styles([row.controller for row in group.rows])))


def steps_of(svg, name):
    """Steps at which the artists of this name stand, one list a panel, read off the axis that the figure itself has."""
    groups = {group.get("id"): group for group in svg.iter(f"{SVG}g") if group.get("id")}
    ticks = [
        group for key, group in groups.items() if key.startswith("xtick_") and group.find(f".//{SVG}text") is not None
    ]
    labels = [float(tick.find(f".//{SVG}text").text) for tick in ticks]
    slope, offset = np.polyfit([float(tick.find(f".//{SVG}use").get("x")) for tick in ticks], labels, 1)
    found = [group for key, group in groups.items() if key.startswith(f"{name}-")]
    xs = [
        [use.get("x") for use in group.iter(f"{SVG}use")]
        or re.findall(r"[ML] (\S+)", group.find(f"{SVG}path").get("d"))
        for group in found
    ]
    return [sorted({round(slope * float(x) + offset, 3) for x in panel}) for panel in xs]


def test_figure_marks_trigger_rollbacks_and_accepted_levels_at_their_steps():
    svg = figure(make_trace(trigger_epoch=3, num_rollbacks=2, num_accepts=1), make_trace("plain"))
    assert steps_of(svg, "trigger") == [[11]] * 4  # in every panel
    assert steps_of(svg, "rollback") == [[9]] * 2  # training loss and lr
    assert steps_of(svg, "accept") == [[13]] * 2
    assert "new level accepted" in "".join(svg.itertext())


def test_figure_marks_nothing_where_nothing_happened():
    svg = figure(make_trace(), make_trace("b"))
    assert [steps_of(svg, name) for name in ("trigger", "rollback", "accept", "restart")] == [[], [], [], []]
    assert not any(words in "".join(svg.itertext()) for words in ("trigger", "rollback", "accepted", "anew"))


def test_dollar_signs_in_names_are_no_formula():
    svg = figure(make_trace("\\bad{x$"), make_trace("$\\frac$ and $x$"))
    assert {"\\bad{x$", "$\\frac$ and $x$"} <= set(svg.itertext())


def test_accepted_levels_are_told_on_the_page():
    text = WellFormed(render([make_trace(num_rollbacks=1, num_accepts=1)], title="T")).text
    assert "step 9, rollback: the loss blew up (4 steps discarded" in text
    assert "step 13, new level accepted: going back was futile" in text


def test_restarts_are_marked_told_and_remarked_on():
    traces = [make_trace("search", restarts_at=(5, 10)), make_trace("plain")]
    svg = figure(*traces)
    assert steps_of(svg, "restart") == [[5, 10]] * 2  # training loss and lr
    assert "training began anew" in "".join(svg.itertext())
    assert [len(trace.restarts) for trace in traces] == [2, 0]
    text = WellFormed(render(traces, title="T")).text
    assert "step 5, training began anew: trial <1> is over (5 steps discarded)" in text
    for words in (text, terminal(traces)):
        assert "search: training began anew 2 times in a run; a loss on the way is that of the model" in words
        assert "plain: training began anew" not in words
    assert "began anew 1 time in a run" in render([make_trace(restarts_at=(5,))], title="T")


def test_a_controller_that_asks_for_nothing_finite_is_remarked_on():
    def asked(name, *proposals):
        trace = make_trace(name)
        decisions = [replace(one, proposed={"lr": lr}) for one, lr in zip(trace.decisions, proposals, strict=True)]
        return replace(trace, decisions=decisions)

    traces = [asked("broken", NAN, NAN, INF, NAN), asked("odd", 0.1, NAN, 0.1, 0.1), make_trace("sound")]
    for words in (WellFormed(render(traces, title="T")).text, " ".join(terminal(traces).split())):
        assert "broken: all 4 proposals were not finite and were refused, so that what was in force stayed" in words
        assert "odd: 1 of 4 proposals were not finite" in words
        assert not re.search(r"sound: \w+ (of )?\d+ proposals", words)


def test_35_controllers_look_different():
    looks = {(style["color"], str(style["linestyle"])) for style in styles([str(n) for n in range(35)]).values()}
    assert len(looks) == len(COLORS) * len(LINE_STYLES) == 35


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
