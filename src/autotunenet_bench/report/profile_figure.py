"""Which share of its runs a controller brings how far: run-score distributions and performance profiles."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autotunenet_bench.report import drawing
from autotunenet_bench.report.drawing import Style
from autotunenet_bench.report.verdicts import Verdicts
from autotunenet_bench.statistics import Profile, profile, ratio_to_best

MIN_RUNS = 6
"""Runs a controller from which on shares are drawn; with fewer they are a handful of steps."""

MAX_BANDS = 6
"""Controllers up to which all have a band; with more only the subject has, for nobody could tell twelve apart."""

NUM_RESAMPLES = 2000
"""Of a band: a pixel is wider than what more of them would change."""

MAX_RATIO = 100.0
_NUM_TAUS = 81


def profile_figure(verdicts: Verdicts, style_of: dict[str, Style]) -> str | None:
    """Two panels: the distribution of the regrets, and the performance profile of the losses at the budget.

    The first is `autotunenet_bench.statistics.profile` of the regrets (Agarwal et al. 2021), the second that of the
    ratios of `autotunenet_bench.statistics.ratio_to_best` (Dolan and Moré 2002); a run that has learnt nothing reaches
    no ratio. The bands are 95 % bootstrap intervals at each threshold.

    Args:
        verdicts: Of `autotunenet_bench.report.verdicts.judge`.
        style_of: Line properties by controller, from `autotunenet_bench.report.drawing.styles`.

    Returns:
        An SVG document; None without scores, for one controller alone, and for fewer than `MIN_RUNS` runs each. The
        second panel is left out where a loss is below 0.
    """
    scores = verdicts.scores
    if len(scores) < 2 or sum(map(len, scores[0].regrets)) < MIN_RUNS:
        return None
    names = [score.controller for score in scores]
    taus = np.linspace(0.0, 1.0, _NUM_TAUS)
    distributions = {score.controller: _profile(score.regrets, taus) for score in scores}
    ratios = _ratios(verdicts, names)
    with mpl.rc_context(drawing.SETTINGS):
        handles = drawing.line_handles(names, style_of)
        figure = Figure(figsize=(drawing.WIDTH, 3.0 + drawing.legend_inches(handles)), layout="constrained")
        axes: list[Axes] = list(figure.subplots(1, 2 if ratios else 1, sharey=True, squeeze=False)[0])
        _draw(axes[0], distributions, verdicts, style_of)
        axes[0].set_xlabel("regret at the budget: 0 the oracle, 1 nothing learnt")
        axes[0].set_ylabel("share of the runs\nat or below")
        axes[0].set_ylim(-0.02, 1.02)
        axes[0].set_xlim(0, 1)
        if ratios:
            _draw(axes[1], ratios, verdicts, style_of)
            highest = float(next(iter(ratios.values())).taus[-1])
            axes[1].set_xscale("log")
            drawing.plain_log_ticks(axes[1].xaxis, 1.0, highest)
            axes[1].set_xlim(1.0, highest)
            axes[1].set_xlabel("loss at the budget, over the best of all on the same run")
        drawing.add_legend(figure, handles)
        return drawing.to_svg(figure)


def _draw(ax: Axes, profiles: dict[str, Profile], verdicts: Verdicts, style_of: dict[str, Style]) -> None:
    for name, one in profiles.items():
        ax.plot(one.taus, one.shares, drawstyle="steps-post", **style_of[name])
        if len(profiles) <= MAX_BANDS or name == verdicts.subject:
            shade: Style = {"color": style_of[name]["color"], "alpha": drawing.BAND_ALPHA, "linewidth": 0}
            ax.fill_between(one.taus, one.low, one.high, step="post", **shade)


def _ratios(verdicts: Verdicts, names: list[str]) -> dict[str, Profile]:
    """The performance profile of each controller; empty where a ratio of losses says nothing."""
    rows = {name: [np.asarray(row, dtype=np.float64) for row in verdicts.losses[name]] for name in names}
    losses = np.stack([np.concatenate(rows[name]) for name in names])  # (controllers, runs)
    if (losses < 0).any():
        return {}
    ratios = ratio_to_best(losses)
    reached = ratios[np.isfinite(ratios)]
    highest = min(MAX_RATIO, max(2.0, float(reached.max()) if reached.size else 2.0))
    taus = np.exp(np.linspace(0.0, math.log(highest), _NUM_TAUS))
    ends = np.cumsum([len(row) for row in rows[names[0]]])[:-1]
    return {name: _profile(np.split(mine, ends), taus) for name, mine in zip(names, ratios, strict=True)}


def _profile(rows: object, taus: np.ndarray) -> Profile:
    return profile(rows, taus, seed=0, num_resamples=NUM_RESAMPLES)  # type: ignore[arg-type]
