"""A curve without axes, as a piece of SVG that stands in a line of HTML."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

_LOG_RATIO = 20.0
_MOST_DECADES = 6
_MOST_POINTS = 300
_WIDTH, _HEIGHT, _MARGIN = 260, 44, 4


def sparkline(values: Sequence[float], marked: Collection[int] = ()) -> str:
    """Return a curve of `values`; a quantity above 0 that spans more than a factor of 20 is drawn by its logarithm.

    Args:
        values: Drawn from left to right; where one is not finite there is a gap.
        marked: Indices at which a vertical line is drawn.

    >>> sparkline([1.0, 2.0]).count("<polyline")
    1
    """
    heights = _heights(values)
    across = (_WIDTH - 2 * _MARGIN) / max(len(values) - 1, 1)
    stride = max(len(values) // _MOST_POINTS, 1)
    pieces = _pieces([(_MARGIN + across * index, heights[index]) for index in range(0, len(values), stride)])
    curve = "".join(f'<polyline fill="none" stroke="#0072B2" stroke-width="1.5" points="{each}"/>' for each in pieces)
    lines = "".join(
        f'<path d="M{_MARGIN + across * index:.1f} 0v{_HEIGHT}" stroke="#D55E00" stroke-opacity=".7"/>'
        for index in sorted(marked)
    )
    box = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {box}>{lines}{curve}</svg>'


def _heights(values: Sequence[float]) -> list[float | None]:
    """Return how far from the top each value is drawn; None where it is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    if positive and min(finite) >= 0 and max(positive) > _LOG_RATIO * min(finite):
        floor = max(min(positive), max(positive) / 10**_MOST_DECADES)
        scaled = [math.log(max(value, floor)) if math.isfinite(value) else math.nan for value in values]
    else:
        scaled = [float(value) for value in values]
    known = [value for value in scaled if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    # Halved before they are subtracted: a loss may be as large as a float can be.
    share = ((value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5 for value in scaled)
    reach = _HEIGHT - 2 * _MARGIN
    return [_MARGIN + reach * (1 - each) if math.isfinite(each) else None for each in share]


def _pieces(points: Sequence[tuple[float, float | None]]) -> list[str]:
    """Cut a curve at its gaps; a single point becomes a short line."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((x, y))
    drawn = ([*piece, (piece[0][0] + 1, piece[0][1])] if len(piece) == 1 else piece for piece in pieces if piece)
    return [" ".join(f"{x:.1f},{y:.1f}" for x, y in piece) for piece in drawn]
