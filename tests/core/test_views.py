"""What a tuner shows of itself: a figure, a table, a box in a notebook, a line."""

from __future__ import annotations

import math
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib._pylab_helpers import Gcf
from test_reporting import train

from autotunenet import Action, AutoTuneNet, Decision, Float, Health, Observation, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import Fixed
from autotunenet.types import Cause
from autotunenet.views import plot, to_frame, to_html
from autotunenet.views.sparkline import sparkline

pytestmark = pytest.mark.xdist_group("views")


@pytest.fixture(scope="module")
def tuner():
    _, _, tuner = train([], num_steps=400)
    return tuner


def decision(
    step, metric=0.5, action=Action.HOLD, health=Health.STABLE, *, lr=0.1, discarded=0, cause=None, reason="."
):
    seen = Observation(step, metric, {"lr": lr, "momentum": 0.9})
    return Decision(seen, health, action, {"lr": 2 * lr}, {"lr": lr / 2, "momentum": 0.9}, discarded, reason, cause)


EVERY_VERDICT = [
    decision(3, 2.0, Action.PROBE, lr=30.0, discarded=2),
    *(decision(step, 1 / step) for step in range(10, 100, 10)),
    decision(100, 9.0, Action.PROBE, Health.UNSTABLE),
    decision(105, math.inf, Action.ROLLBACK, Health.UNSTABLE, discarded=20, cause=Cause.KNOB),
    decision(120, math.nan, Action.RESTORE_SUSPECT, Health.UNSTABLE, cause=Cause.DATA),
    decision(130, 0.0, Action.ACCEPT, Health.UNSTABLE, cause=Cause.BOTH),
    decision(140, 3.0, Action.HOLD, Health.UNSTABLE),
    decision(150, 0.2, Action.ADAPT),
]


# -- the table -------------------------------------------------------------------------------------------------------


def test_a_frame_has_a_row_a_decision_and_a_column_a_value(tuner):
    frame = tuner.to_frame()
    assert len(frame) == len(tuner.history)
    rows = list(frame.itertuples())
    for row, seen in zip(rows, tuner.history, strict=True):
        assert (row.step, row.action, row.reason) == (seen.observation.step, seen.action.value, seen.reason)
        assert (row.lr_in_force, row.lr_applied) == (seen.observation.hyperparams["lr"], seen.applied["lr"])
        assert row.metric == pytest.approx(seen.observation.metric, nan_ok=True)
    assert frame.query("action == 'rollback'").discarded_steps.sum() > 0
    assert frame.step.dtype == "int64"
    assert frame.columns[-1] == "reason"


def test_evidence_has_columns_of_its_own():
    seen = Observation(1, 0.5, {"lr": 0.1})
    plain = Decision(seen, Health.STABLE, Action.HOLD, {}, {}, 0, "")
    judged = Decision(seen, Health.UNSTABLE, Action.ROLLBACK, {}, {}, 3, "", Cause.KNOB, {"loss_again": 0.25})
    frame = to_frame([plain, judged])
    assert frame.evidence_loss_again.tolist()[1] == 0.25
    assert frame.evidence_loss_again.isna().tolist() == frame.cause.isna().tolist() == [True, False]
    assert frame.lr_applied.isna().all()


def test_a_frame_of_nothing_has_columns():
    frame = to_frame([])
    assert len(frame) == 0
    assert {"step", "metric", "action", "reason"} <= set(frame.columns)
    assert pd.concat([frame, to_frame(EVERY_VERDICT)])["step"].dtype == "int64"


# -- the figure ------------------------------------------------------------------------------------------------------


def lines_of(ax):
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 1]


def test_a_figure_shows_loss_lr_and_what_happened(tuner):
    figure = tuner.plot([(100, 0.5), (300, 0.25)], title="a $ and a <")
    launch_loss, loss, launch_lr, lr = figure.axes
    assert (launch_loss.get_ylabel(), launch_lr.get_ylabel()) == ("training loss, log scale", "lr, log scale")
    assert loss.get_yscale() == lr.get_yscale() == "log"
    assert launch_loss.get_xlim()[1] < loss.get_xlim()[1]
    (way,) = [line for line in lines_of(lr) if line.get_drawstyle() == "steps-pre"]
    assert list(way.get_xdata())[1:-1] == [each.observation.step for each in tuner.history]
    in_force = [each.observation.hyperparams["lr"] for each in tuner.history]
    assert list(way.get_ydata())[1:-1] == [max(value, max(in_force) / 1e6) for value in in_force]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"training loss", "validation", "steps thrown away"} <= set(labels)
    assert [label for label in labels if label.startswith("rollback")]
    assert figure.get_suptitle() == "a $ and a <"
    shaded = [patch.get_extents() for patch in loss.patches]
    assert len(shaded) == sum(each.discarded_steps > 0 for each in tuner.history)


def test_every_verdict_has_a_mark_a_shape_and_an_entry():
    figure = plot(EVERY_VERDICT)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    verdicts = {"rollback (knob)", "restore suspect (data)", "accept (both)", "hold"}
    assert labels == {"training loss", "trial of the launch, taken back", "steps thrown away", *verdicts}
    marks = [line for line in figure.axes[1].get_lines() if not line.get_clip_on()]
    assert sorted(line.get_xdata()[0] for line in marks) == [105, 120, 130, 140]
    assert len({line.get_marker() for line in marks}) == 4
    assert [ax.get_ylabel() for ax in figure.axes][::2] == ["training loss, log scale", "lr, log scale", "momentum"]
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "history",
    [
        [],
        [decision(1, math.nan)],
        [decision(1, -3.0), decision(2, 5.0)],
        [decision(1, 0.0, lr=0.0)],
        [decision(step, 1e300 * (-1) ** step) for step in (1, 2, 3)],
        [decision(5, 2.0, Action.PROBE), decision(9, 1.0, Action.PROBE)],
    ],
    ids=["nothing", "nan", "negative", "zero", "huge", "launch alone"],
)
def test_any_history_can_be_drawn_and_shown(history, recwarn):
    assert plot(history)._repr_png_()
    assert to_html("Tuner", "running", 3, {}, history)
    assert not [str(each.message) for each in recwarn]


def test_drawing_leaves_matplotlib_alone():
    settings = dict.copy(mpl.rcParams)  # without choosing a backend, as reading "backend" would
    figures, styled = Gcf.get_all_fig_managers(), mpl.rcParams["axes.grid"]
    plot(EVERY_VERDICT)._repr_png_()
    assert Gcf.get_all_fig_managers() == figures
    assert dict.copy(mpl.rcParams) == settings
    assert mpl.rcParams["axes.grid"] == styled


def test_a_dark_style_of_the_users_does_not_make_it_unreadable():
    with mpl.rc_context({"figure.facecolor": "black", "text.color": "white", "axes.facecolor": "black"}):
        figure = plot(EVERY_VERDICT)
        assert figure.get_facecolor() == figure.axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)
        assert figure.legends[0].get_texts()[0].get_color() == "#222222"


def test_a_notebook_shows_the_figure_without_pyplot():
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(plot(EVERY_VERDICT))
    assert shown["image/png"].startswith(b"\x89PNG")


def test_a_tuner_on_a_metric_says_so():
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    space = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
    tuner = Tuner(TorchRun(model, optimizer, names=space), space, controller=Fixed())
    tuner.observe(0.5)
    assert tuner.plot().axes[0].get_ylabel() == "metric (lower is better)"


# -- notebooks and lines ---------------------------------------------------------------------------------------------


class Balanced(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("br", "path", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_a_notebook_shows_a_box(tuner):
    box = Balanced(tuner._repr_html_())
    assert not box.open
    assert box.seen.count("svg") == 2
    assert "polyline" in box.seen
    last = [each for each in tuner.history if each.action is Action.ROLLBACK][-1]
    for words in ("running, step 400", last.reason, f"{len(tuner.history)} decisions", "Last verdicts"):
        assert words in box.words


def test_html_is_escaped():
    evil = "<script>alert('&')</script>"
    seen = Observation(1, 0.5, {evil: 0.1})
    history = [Decision(seen, Health.UNSTABLE, Action.ROLLBACK, {}, {evil: 0.2}, 0, evil, Cause.KNOB)] * 2
    text = to_html(evil, evil, 1, {f"autotunenet/{evil}": 0.1}, history)
    assert "script" not in Balanced(text).seen
    assert text.count("&lt;script&gt;") == text.count("script&gt;") / 2 == 6


def test_a_line_says_what_the_tuner_is_doing(tuner):
    text = repr(tuner)
    rollbacks = sum(each.action is Action.ROLLBACK for each in tuner.history)
    assert text.startswith(
        f"<Tuner: running, step 400, stable, lr {tuner.metrics()['autotunenet/lr']:.4g}; {rollbacks} r"
    )
    assert "0x" not in text
    model = torch.nn.Linear(1, 1)
    fresh = AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert repr(fresh).startswith("<Tuner: launching, step 0, stable, lr ")
    fresh.close()
    assert "closed" in repr(fresh)
    assert "closed" in fresh._repr_html_()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_a_sparkline_stays_in_its_box(values):
    svg = sparkline(values, range(0, len(values), 3))
    assert not Balanced(svg).open
    for piece in svg.split('points="')[1:]:
        points = [tuple(map(float, point.split(","))) for point in piece.split('"')[0].split()]
        assert len(points) > 1
        assert all(0 <= x <= 260 and 0 <= y <= 44 for x, y in points)


@pytest.mark.parametrize(("module", "show"), [("matplotlib", plot), ("pandas", to_frame)])
def test_what_is_not_installed_names_the_extra(module, show, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way of saying that there is none
    with pytest.raises(ImportError, match=r"pip install 'autotunenet\[plot\]'"):
        show(EVERY_VERDICT)
