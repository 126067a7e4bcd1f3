"""The figures of a report: drawn from whatever runs there are, the same every time, for light pages and dark ones."""

from __future__ import annotations

import dataclasses
import math
import re
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import pytest
from test_report import WellFormed, make_trace
from test_scoring import FLOPS, make

from autotunenet_bench.report import figures
from autotunenet_bench.report import sections as sections_module
from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.drawing import COLORS, DARK_COLORS, DARK_INKS, INKS, color_variables, inline_svg, styles
from autotunenet_bench.report.group_figures import budget_figure, budget_words, recovery_figure
from autotunenet_bench.report.html import MAX_MAPS, render
from autotunenet_bench.report.lr_figure import lr_figure
from autotunenet_bench.report.profile_figure import MAX_BANDS, MIN_RUNS, profile_figure
from autotunenet_bench.report.sensitivity import lr_maps, sensitivity_figure
from autotunenet_bench.report.verdicts import judge

NAN, INF = math.nan, math.inf


def group_of(*traces):
    (group,) = aggregate(traces)
    return group, styles([row.controller for row in group.rows])


def words_in(svg):
    return {text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()}


def lr_runs(losses, *, lrs=(0.01, 0.1, 1.0), **options):
    """Two seeds a controller and lr, with the same loss."""
    return [
        make([1.5, loss], controller=name, cell=f"A, lr {lr}", seed=seed, task={"name": "A", "lr": lr}, **options)
        for name, row in losses.items()
        for lr, loss in zip(lrs, row, strict=True)
        for seed in (0, 1)
    ]


# -- whatever there is -------------------------------------------------------------------------------------------------

MORE_CASES = {  # besides those of test_report, which makes pages of them too
    "scored": [make([1.0, 0.5], controller=name, seed=seed) for name in "ab" for seed in range(6)],
    "scored, all lost": [make([NAN, INF], controller=name, seed=seed) for name in "ab" for seed in range(6)],
    "one seed each": [make([1.0, 0.5], controller=name) for name in "ab"],
    "negative losses at the budget": [
        make([-1.0, -2.0], controller=name, seed=seed) for name in "ab" for seed in range(6)
    ],
    "lr grid": lr_runs({"a": [1.0, 0.5, NAN], "b": [0.4, 0.4, INF]}),
    "lr grid, unfinished": lr_runs({"a": [1.0, 0.5, 0.2]}, is_finished=False),
    "more spent": [make([1.0, 0.5], [9, 18], controller="a"), make([NAN, INF], controller="b")],
    "a trigger, all lost": [
        make_trace(val_loss=NAN, trigger_epoch=2),
        make_trace("b", val_loss=1e300, trigger_epoch=2),
    ],
    "a trigger at once": [make_trace(trigger_epoch=1), make_trace("b", finished=False, trigger_epoch=1)],
    "a trigger in the last epoch": [make_trace(trigger_epoch=4)],
}


@pytest.mark.parametrize("traces", MORE_CASES.values(), ids=MORE_CASES)
@pytest.mark.filterwarnings("error")
def test_a_page_is_made_of_all_of_them_and_twice_the_same(traces):
    text = render(traces, title="T")
    page = WellFormed(text)
    assert len(page.ids) == len(set(page.ids))
    assert render(traces, title="T") == text


def test_figures_leave_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    for name in ("scored", "lr grid", "more spent", "a trigger, all lost"):
        render(MORE_CASES[name], title="T")
    assert dict(mpl.rcParams) == before


# -- dark pages --------------------------------------------------------------------------------------------------------


def test_every_colour_of_a_figure_is_a_variable_of_both_pages():
    traces = [make_trace(name, trigger_epoch=3) for name in "xy"] + MORE_CASES["scored"] + MORE_CASES["more spent"]
    text = render(traces, title="T")
    figures = "".join(re.findall(r"<figure>.*?</figure>", text, re.DOTALL))
    assert figures.count("<svg") > 3
    assert not set(re.findall(r"#[0-9a-fA-F]{6}\b", figures))
    for name in set(re.findall(r"var\((--fig-\w+)\)", figures)):
        assert f"{name}: " in color_variables(dark=False)
        assert f"{name}: " in color_variables(dark=True)
    assert color_variables(dark=True) in text.partition("prefers-color-scheme: dark")[2].partition("}")[0]


@pytest.mark.parametrize(("colors", "paper"), [((*COLORS, *INKS.values()), "#f4f6f8"), (DARK_COLORS, "#1e2429")])
def test_lines_stand_out_from_their_card(colors, paper):
    lines = [color for color in colors if color not in (INKS["grid"], INKS["axis"], INKS["paper"])]
    assert min(contrast(color, paper) for color in lines) > 2.0
    assert contrast(INKS["label"], "#f4f6f8") > 7
    assert contrast(DARK_INKS["label"], "#1e2429") > 7


def contrast(one, other):
    """The contrast ratio of WCAG 2.1."""

    def luminance(color):
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_words_of_a_figure_are_left_as_they_are():
    assert inline_svg('<svg><text style="fill: #222222">lr #0072b2</text></svg>', "p-") == (
        '<svg><text style="fill: var(--fig-label)">lr #0072b2</text></svg>'
    )


# -- profiles ----------------------------------------------------------------------------------------------------------


def test_profiles_need_two_controllers_and_some_runs():
    def drawn(num_seeds, names="ab"):
        traces = [make([1.0, 0.5], controller=name, seed=seed) for name in names for seed in range(num_seeds)]
        return profile_figure(judge(traces, num_resamples=10), styles(list(names)))

    assert drawn(MIN_RUNS) is not None
    assert drawn(MIN_RUNS - 1) is None
    assert drawn(MIN_RUNS, names="a") is None


def test_with_many_controllers_only_the_subject_has_a_band():
    names = [f"method {index:02d}" for index in range(MAX_BANDS + 1)]

    def num_bands(used):
        traces = [make([1.0, 0.5 + 0.1 * (s % 3)], controller=n, seed=s) for n in used for s in range(6)]
        return profile_figure(judge(traces, num_resamples=10), styles(names)).count("fill-opacity")

    assert num_bands(names) == 2  # one a panel
    assert num_bands(names[:-1]) == 2 * MAX_BANDS


# -- sensitivity -------------------------------------------------------------------------------------------------------


def test_a_map_worked_by_hand():
    # L_0 is 2.0, which a lost run counts as. Sensitivity: mean less the lowest.
    (one,) = lr_maps(lr_runs({"a": [1.0, 0.5, NAN], "b": [0.5, 0.4, 0.3]}))
    assert (one.title, one.controllers, one.lrs) == ("A · stationary", ("a", "b"), (0.01, 0.1, 1.0))
    assert one.losses.tolist() == [[1.0, 0.5, 2.0], [0.5, 0.4, pytest.approx(0.3)]]
    assert one.sensitivity == (pytest.approx(3.5 / 3 - 0.5), pytest.approx(0.1))
    words = words_in(sensitivity_figure(one))
    assert {"0.01", "0.1", "1", "1.00", "0.500", "2.00", "0.400", "0.300", "0.667", "0.100", "initial lr"} <= words


def test_problems_and_regimes_have_maps_of_their_own():
    traces = lr_runs({"a": [1.0, 0.5, 0.5]})
    traces += [
        make([1.0], controller="a", cell="A, sgd", task={"name": "A", "lr": lr, "optimizer": "sgd"}) for lr in (1, 2)
    ]
    traces += [make([1.0], controller="a", cell="only one")]
    assert [one.title for one in lr_maps(traces)] == ["A · stationary", "A, optimizer sgd · stationary"]


def test_a_hole_in_the_grid_has_no_sensitivity_and_says_so():
    traces = lr_runs({"a": [1.0, 0.5, 0.4], "b": [1.0, 0.5, 0.4]})
    (one,) = lr_maps(traces[:-2])
    assert math.isnan(one.losses[1, 2])
    assert math.isnan(one.sensitivity[1])
    assert one.remarks == ("b: not finished from every initial lr, so its sensitivity is not told",)
    assert one.remarks[0] in WellFormed(render(traces[:-2], title="T")).text
    assert {"-", "n/a"} <= words_in(sensitivity_figure(one))


def test_the_lr_of_a_known_task_is_that_of_its_config_and_not_that_of_a_launch():
    tasks = [
        {"name": "digits_mlp"},
        {"name": "mnist_cnn_poor_init"},
        {"name": "digits_mlp", "optimizer": "sgd", "lr": 3.0},
    ]
    spec = [make([1.0], cell=str(i), task=task) for i, task in enumerate(tasks)]
    found = [
        one.lrs
        for one in lr_maps(spec + [make([1.0], cell=f"{i}+", task={**t, "lr": 0.5}) for i, t in enumerate(tasks)])
    ]
    assert found == [(1e-3, 0.5), (0.1, 50.0), (0.5, 3.0)]


def test_maps_beyond_the_limit_are_counted(monkeypatch):
    monkeypatch.setattr(sections_module, "MAX_DRAWN_SECTIONS", 0)  # a figure takes its time
    traces = [
        make([1.0], cell=f"{index}, {lr}", task={"name": str(index), "lr": lr})
        for index in range(MAX_MAPS + 2)
        for lr in (0.1, 1.0)
    ]
    page = render(traces, title="T")
    assert page.count('id="lr') > 0
    assert "and 2 more; all losses are in summary.csv" in page


# -- budget and recovery -----------------------------------------------------------------------------------------------


def test_a_budget_curve_is_drawn_where_costs_differ():
    group, style_of = group_of(make([1.0, 0.5], [9, 18], controller="a"), make([1.0, 0.5], controller="b"))
    svg = budget_figure(group, style_of)
    # 2 epochs of 600 and 3 validations of 100 FLOP are 1500.
    assert {"budget of the plain run", "operations spent [FLOP]", "a", "b"} <= words_in(svg)
    assert budget_words(group) == ""


def test_where_all_cost_the_same_a_sentence_says_what():
    group, style_of = group_of(make([1.0, 0.5], controller="a"), make([1.0, 0.5], controller="b"))
    assert budget_figure(group, style_of) is None
    assert budget_words(group).startswith("Every finished run spent what the plain run spends, 1.5e+03 FLOP")
    assert budget_words(group) in WellFormed(render(MORE_CASES["scored"], title="T")).text
    big = {name: 10**12 * value for name, value in FLOPS.items() if name != "num_batches"} | {"num_batches": 6}
    assert "spends, 1.5 PFLOP" in budget_words(group_of(make([1.0, 0.5], flops=big))[0])


def test_operations_that_were_not_recorded_are_told():
    group, style_of = group_of(make([1.0], flops=None))
    assert budget_figure(group, style_of) is None
    assert "were not recorded" in budget_words(group)


def test_recovery_starts_at_the_last_loss_before_the_trigger():
    group, style_of = group_of(make_trace(trigger_epoch=3), make_trace("no trigger"))
    words = words_in(recovery_figure(group, style_of))
    assert {"trigger", "epochs under the new regime", "fixed", "0", "2"} <= words
    assert "no trigger" not in words
    assert recovery_figure(*group_of(make_trace())) is None
    assert recovery_figure(*group_of(make_trace(finished=False, trigger_epoch=2))) is None


def test_a_lost_run_does_not_flatten_the_recovery_of_the_others():
    traces = [make_trace("a", trigger_epoch=3), make_trace("b", val_loss=2.0, trigger_epoch=3)]
    broken = dataclasses.replace(traces[1].epochs[3], val={"loss": 1e9})
    traces[1] = dataclasses.replace(traces[1], epochs=[*traces[1].epochs[:3], broken])
    words = words_in(recovery_figure(*group_of(*traces)))
    assert {"1", "10", "100"} <= words
    assert not any("$" in word for word in words)  # a power that nobody set


# -- large suites ------------------------------------------------------------------------------------------------------


def test_a_large_suite_has_few_figures_and_all_tables(monkeypatch):
    monkeypatch.setattr(sections_module, "MAX_DRAWN_SECTIONS", 2)
    traces = [make_trace(task=f"task {index}", num_rollbacks=1) for index in range(5)]
    text = render(traces, title="T")
    page = WellFormed(text)
    assert (text.count("<svg"), text.count("<details>"), text.count(">Outcome<")) == (
        4,
        3,
        5,
    )  # curves, and the way through lr and loss
    assert text.count("the loss blew up") == 2
    assert page.text.count("Figures and rollbacks are shown for the first 2 cells only") == 3
    assert {f"group-{number}" for number in range(1, 6)} <= set(page.ids)


# -- lr against loss ---------------------------------------------------------------------------------------------------


def lr_trace(lrs, losses, *, controller="a", seed=0, is_finished=True):
    trace = make(losses, controller=controller, seed=seed, is_finished=is_finished)
    epochs = [dataclasses.replace(epoch, hyperparams={"lr": lr}) for epoch, lr in zip(trace.epochs, lrs, strict=True)]
    return dataclasses.replace(trace, epochs=epochs)


def test_the_way_through_lr_and_loss_has_a_line_a_controller_and_its_seeds_behind():
    runs = [lr_trace([0.1, 0.01, 0.001], [1.0, 0.5, 0.2], seed=seed) for seed in (0, 1)]
    group, style_of = group_of(*runs, lr_trace([0.1, 0.1, 0.1], [1.0, 0.9, 0.8], controller="b"))
    svg = lr_figure(group, style_of)
    assert {"a", "b", "first epoch", "last epoch", "lr at the end of an epoch"} <= words_in(svg)
    assert svg.count("stroke-opacity: 0.45") == 2  # the two seeds of a; b has one
    assert lr_figure(group, style_of) == svg


@pytest.mark.parametrize(
    "trace",
    [
        lr_trace([0.1, 0.1], [1.0, 0.5]),  # nobody has moved it
        lr_trace([0.1, 0.01], [1.0, 0.5], is_finished=False),
        lr_trace([NAN, NAN], [1.0, 0.5]),
        lr_trace([0.0, -1.0], [1.0, 0.5]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_where_no_lr_has_moved_there_is_no_way_to_draw(trace):
    assert lr_figure(*group_of(trace)) is None


@pytest.mark.filterwarnings("error")
def test_the_way_is_drawn_of_lost_runs_and_of_an_lr_that_lands_at_zero():
    group, style_of = group_of(
        lr_trace([0.1, 0.0], [NAN, INF]), lr_trace([1.0, NAN], [1e300, 0.5], seed=1), lr_trace([0.1], [1.0], seed=2)
    )
    assert "1e-05" in words_in(lr_figure(group, style_of))  # five decades below the highest, and no further


def test_names_that_begin_with_an_underscore_are_in_the_legend():
    group, style_of = group_of(make_trace("_hidden", trigger_epoch=2), make_trace("b", trigger_epoch=2))
    assert {"_hidden", "b"} <= words_in(recovery_figure(group, style_of))


def test_a_log_axis_shows_six_decades_at_the_most():
    """While a launch stands still lr is 1e-8 of the user's: of the rest of the axis that would leave a line."""
    wide, narrow = mpl.figure.Figure().subplots(2)
    panel = figures._Panel(label="lr", curve=None, hold=True)
    for ax, values in ((wide, [1e-11, 1e-3, 0.1]), (narrow, [1e-5, 1e-3, 0.1])):
        ax.plot(values)
        figures._set_scale(ax, panel, values)
    assert wide.get_ylim()[0] == pytest.approx(1e-7)
    assert narrow.get_ylim()[0] <= 1e-5
