"""What all figures have in common: colours, line styles, settings, and how one comes to stand in a page.

Everything goes through `matplotlib.figure.Figure`: no pyplot, no global figure, and settings only inside `rc_context`.
The same input gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color) without its yellow, illegible on white."""

DARK_COLORS = ("#4BA8E8", "#F0813A", "#2FC79A", "#DD97BC", "#F0B132", "#8CCBF2", "#E8ECEF")
"""The same colours on a dark page, in the same order: lighter, and white for black."""

INKS = {
    "grid": "#e4e4e4",
    "axis": "#888888",
    "tick": "#444444",
    "line": "#555555",
    "label": "#222222",
    "paper": "#f4f6f8",
}
"""Greys of a figure, by what they draw; paper is what a figure lies on."""

DARK_INKS = {
    "grid": "#333a41",
    "axis": "#727c86",
    "tick": "#b4bdc6",
    "line": "#a3adb7",
    "label": "#dfe4e8",
    "paper": "#1e2429",
}
"""The same on a dark page."""

LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)), (0, (4, 1.5, 1, 1.5, 1, 1.5)))
"""Five, so that with seven colours the first 35 controllers all differ, and neighbours differ in both."""

WIDTH = 9.2
"""Inches of a figure."""

LOG_RATIO = 20.0
"""A positive quantity that spans more than this ratio is drawn on a log axis."""

SETTINGS: Any = {  # Any: the type of its keys differs between versions of matplotlib
    "svg.fonttype": "none",  # text as text: small, searchable
    "svg.hashsalt": "autotunenet",  # the same ids every time
    "text.parse_math": False,  # labels are anybody's words: a "$" in one is a dollar sign
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # bundled with matplotlib: the same layout on every machine
    "font.size": 9.0,
    "figure.facecolor": "none",  # the page's own
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INKS["grid"],
    "grid.linewidth": 0.6,
    "axes.edgecolor": INKS["axis"],
    "axes.linewidth": 0.7,
    "xtick.color": INKS["tick"],
    "ytick.color": INKS["tick"],
    "axes.labelcolor": INKS["label"],
    "text.color": INKS["label"],
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "path.simplify": True,
}

BAND_ALPHA = 0.13

Style = dict[str, Any]


def styles(controllers: Sequence[str]) -> dict[str, Style]:
    """Colour and line style of every controller; the same in all figures of a report.

    >>> [style["color"] for style in styles(["a", "b"]).values()]
    ['#0072B2', '#D55E00']
    """
    return {
        name: {"color": COLORS[index % len(COLORS)], "linestyle": LINE_STYLES[index % len(LINE_STYLES)]}
        for index, name in enumerate(controllers)
    }


def line_handles(controllers: Sequence[str], style_of: dict[str, Style]) -> list[Line2D]:
    """The entries of a legend, one a controller."""
    # A name that begins with an underscore is a name too; matplotlib would leave it out of a legend it makes itself.
    return [Line2D([], [], label=name, **style_of[name]) for name in controllers]


def legend_columns(handles: Sequence[Line2D]) -> int:
    """In how many columns the entries fit the width of a figure."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(4, len(handles), 110 // (longest + 8)))


def legend_inches(handles: Sequence[Line2D]) -> float:
    """Height that the legend takes."""
    return 0.2 * -(-len(handles) // legend_columns(handles))


def add_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Put the legend below the panels, so that no label is long enough to cover a curve."""
    columns = legend_columns(handles)
    figure.legend(handles=list(handles), loc="outside lower left", ncols=columns, frameon=False, handlelength=3.2)


def vertical_line(ax: Axes, at: float, gid: str) -> None:
    """A dotted line at an event; in the SVG with the id `gid`."""
    ax.axvline(at, color=INKS["line"], linewidth=0.9, linestyle=(0, (2, 2)), zorder=1).set_gid(gid)


def annotate_line(ax: Axes, at: float, words: str, *, to_the_left: bool = False) -> None:
    """Words at the upper end of a vertical line, to its right if nothing else is said."""
    ax.annotate(
        words,
        (at, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if to_the_left else 3, 2),
        ha="right" if to_the_left else "left",
        textcoords="offset points",
        fontsize=8,
        color=INKS["label"],
    )


def plain_numbers(axis: Axis) -> None:
    """Labels of a log axis as plain numbers: powers are set in several pieces of text, which browsers space at will."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def plain_log_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks of a log axis from `low` to `high`, with `plain_numbers`."""
    subs = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)  # powers of ten alone may give no tick at all
    axis.set_major_locator(LogLocator(subs=subs))
    plain_numbers(axis)


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document without a date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return text.getvalue()


def inline_svg(svg: str, prefix: str) -> str:
    """Make an SVG document fit to stand inside HTML beside others.

    The prolog, the metadata and the namespaces go (a parser of HTML knows them), ids get a prefix because two figures
    share names like ``axes_1``, and width and height go so that the page decides about the size. Colours of `COLORS`
    and `INKS` become variables of the page's style sheet (`color_variables`), so that a dark page has light lines.

    >>> inline_svg('<?xml version="1.0"?><svg width="9pt"><g id="a"/><use xlink:href="#a"/></svg>', "f1-")
    '<svg><g id="f1-a"/><use xlink:href="#f1-a"/></svg>'
    >>> inline_svg('<svg><path style="stroke: #0072b2; fill: none"/></svg>', "f1-")
    '<svg><path style="stroke: var(--fig-0); fill: none"/></svg>'
    """
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", head)
    svg = f"{head}>{rest}"
    svg = re.sub(r'(\sid=")', rf"\g<1>{prefix}", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)
    return re.sub(r'\sstyle="[^"<>]*"', lambda found: _themed(found[0]), svg)


def color_variables(*, dark: bool) -> str:
    """The variables that `inline_svg` refers to, as declarations of CSS."""
    colors, inks = (DARK_COLORS, DARK_INKS) if dark else (COLORS, INKS)
    named = {**{str(index): color for index, color in enumerate(colors)}, **inks}
    return " ".join(f"--fig-{name}: {color};" for name, color in named.items())


_VARIABLES = {
    color.lower(): f"var(--fig-{name})"
    for name, color in [*((str(index), color) for index, color in enumerate(COLORS)), *INKS.items()]
}


def _themed(style: str) -> str:
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), style)
