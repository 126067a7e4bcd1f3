"""A curve as lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LOG_RATIO = 20.0
"""A positive quantity that spans more than this ratio is drawn on a log axis."""

MOST_DECADES = 6
"""Of a log axis below its top: a loss that has become exactly zero would press everything else together."""

LABEL_WIDTH = 10
"""Columns on the left for the values."""


class Strokes(NamedTuple):
    """What a curve is drawn with: level, upright, corners on the way up and on the way down, edges, a single point."""

    level: str
    upright: str
    from_below: str  # the curve comes from below and goes on to the right
    to_above: str  # it comes from the left and goes up
    from_above: str
    to_below: str
    edge: str
    corner: str
    point: str


class Size(NamedTuple):
    """How large a chart is.

    Attributes:
        last: Step at the right edge, at least 1.
        width: Columns, those of the values included; at least ``LABEL_WIDTH + 2``.
        height: Lines, at least 2.
    """

    last: int
    width: int
    height: int


UNICODE = Strokes("─", "│", "╭", "╯", "╰", "╮", "┤", "└", "•")
ASCII = Strokes("-", "|", "/", "/", "\\", "\\", "|", "+", "o")


def chart(
    curve: Sequence[tuple[int, float]],
    size: Size,
    points: Sequence[tuple[int, float]] = (),
    *,
    strokes: Strokes = UNICODE,
    mean: bool = True,
) -> list[tuple[str, str]]:
    """Return the lines of a chart from the top, each in two parts: the value that it stands for, if any, and the rest.

    Args:
        curve: Pairs of step, counted from 1, and value, in order; a value holds until the next one. One that is not
            finite leaves a gap.
        size: Of the whole.
        points: The same for a second quantity, drawn as single points.
        strokes: What it is drawn with.
        mean: Whether a column shows the mean of the values in it, or the last one.

    >>> for label, line in chart([(1, 1.0), (3, 2.0), (5, 3.0)], Size(last=6, width=16, height=3), strokes=ASCII):
    ...     print(label + line)
            3|    /-
             |  /-/
            1|--/
    """
    last, height, columns = size.last, size.height, size.width - LABEL_WIDTH
    values, dots = held(curve, last, columns, mean=mean), placed(points, last, columns)
    scale = Scale([value for value in (*values, *dots) if value is not None], height)
    canvas = [[" "] * columns for _ in range(height)]
    _draw_line(canvas, [None if value is None else scale.row(value) for value in values], strokes)
    for column, value in enumerate(dots):
        if value is not None:
            canvas[scale.row(value)][column] = strokes.point
    labels = scale.labels()
    return [
        (labels.get(row, "").rjust(LABEL_WIDTH - 1), strokes.edge + "".join(canvas[row]).rstrip())
        for row in reversed(range(height))
    ]


class Scale:
    """Puts values on rows, 0 at the bottom; a quantity above 0 that spans a large ratio by its logarithm.

    Args:
        values: All that are drawn; finite.
        height: Number of rows.
    """

    def __init__(self, values: Sequence[float], height: int) -> None:
        self._height = height
        positive = [value for value in values if value > 0]
        self.is_log = bool(positive) and min(values) >= 0 and max(positive) > LOG_RATIO * min(values)
        self._floor = max(min(positive), max(positive) / 10**MOST_DECADES) if self.is_log else -math.inf
        scaled = [self._scaled(value) for value in values]
        self._low, self._high = (min(scaled), max(scaled)) if scaled else (0.0, 0.0)

    def row(self, value: float) -> int:
        """Return the row of a value; the middle one where all are alike."""
        if self._low == self._high:
            return self._height // 2
        # Halved before they are subtracted: a loss may be as large as a float can be.
        share = (self._scaled(value) / 2 - self._low / 2) / (self._high / 2 - self._low / 2)
        return round(share * (self._height - 1))

    def labels(self) -> dict[int, str]:
        """Return the values that the lowest, the middle and the highest row stand for."""
        if self._low == self._high:
            return {self._height // 2: _short(self._value(0.5))}
        top = self._height - 1
        return {row: _short(self._value(row / top)) for row in {0, top // 2, top} if top >= 4 or row in (0, top)}

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self._floor)) if self.is_log else value

    def _value(self, share: float) -> float:
        value = self._low * (1 - share) + self._high * share
        return float(10**value) if self.is_log else value


def held(curve: Sequence[tuple[int, float]], last: int, columns: int, *, mean: bool = True) -> list[float | None]:
    """Return what a curve has in each column: of its finite values there the mean, or the last; else what it came with.

    >>> held([(2, 5.0), (6, 7.0)], last=8, columns=4)
    [5.0, 5.0, 7.0, 7.0]
    """
    found: list[list[float]] = [[] for _ in range(columns)]
    for step, value in curve:
        found[column_of(step, last, columns)].append(value)
    values: list[float | None] = []
    current: float | None = None
    for each in found:
        finite = [value for value in each if math.isfinite(value)]
        if each:
            shown = finite if mean else finite[-1:]
            current = math.fsum(value / len(shown) for value in shown) if shown else None
        values.append(current)
    return values


def placed(points: Sequence[tuple[int, float]], last: int, columns: int) -> list[float | None]:
    """Return the last finite value in each column; None where there is none."""
    values: list[float | None] = [None] * columns
    for step, value in points:
        if math.isfinite(value):
            values[column_of(step, last, columns)] = value
    return values


def column_of(step: int, last: int, columns: int) -> int:
    """Return the column of a step, where the steps from 1 to `last` share `columns`."""
    return min((max(step, 1) - 1) * columns // max(last, 1), columns - 1)


def axis(last: int, width: int, strokes: Strokes = UNICODE) -> list[str]:
    """Return the two lines of the axis of steps: the line itself, and numbers at its ends and in its middle."""
    columns = width - LABEL_WIDTH
    left, middle, right = "1", f"{(1 + last) // 2:,}", f"{last:,}"
    gap = columns - len(left) - len(middle) - len(right)
    if gap > 3:
        numbers = left + " " * (gap // 2) + middle + " " * (gap - gap // 2) + right
    else:
        numbers = (right if len(right) <= columns else "").rjust(columns)
    indent = " " * (LABEL_WIDTH - 1)
    return [indent + strokes.corner + strokes.level * columns, indent + " " + numbers]


def _draw_line(canvas: list[list[str]], rows: Sequence[int | None], strokes: Strokes) -> None:
    """Draw a line through the row of each column; None is a gap."""
    before: int | None = None
    for column, row in enumerate(rows):
        if row is None:
            pass
        elif before is None or row == before:
            canvas[row][column] = strokes.level
        else:
            rises = row > before
            canvas[row][column] = strokes.from_below if rises else strokes.from_above
            canvas[before][column] = strokes.to_above if rises else strokes.to_below
            for between in range(min(row, before) + 1, max(row, before)):
                canvas[between][column] = strokes.upright
        before = row


def _short(value: float) -> str:
    text = f"{value:.3g}"
    return text if len(text) < LABEL_WIDTH else f"{value:.1e}"
