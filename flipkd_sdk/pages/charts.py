"""Line charts and histograms as inline SVG, with labelled axes; colours come from the stylesheet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipkd_sdk.pages.html import Html, element, join

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 342, 10, 205
_COLOURS = 5
_POINTS = 300
"""Most points of a drawn line: more than this cannot be seen at its width."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Range and ticks of an axis."""

    label: str
    ticks: tuple[float, ...]
    """In rising order; the first and the last one are the ends of the axis."""
    log: bool = False

    def position(self, value: float) -> float:
        """Return where a value is: 0 at the low end, 1 at the high end; values outside are moved to the end."""
        low, high = self._scaled(self.ticks[0]), self._scaled(self.ticks[-1])
        value = max(value, self.ticks[0]) if self.log else value
        return min(max((self._scaled(value) - low) / (high - low), 0.0), 1.0)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value


@dataclass(frozen=True, slots=True)
class Line:
    """A curve."""

    name: str
    """Name in the legend; a curve without one is not in the legend."""
    points: Sequence[tuple[float, float]]
    """Points with a coordinate that is not finite are left out."""
    dots: bool = False
    """Mark each point."""
    colour: int | None = None
    """Number of the colour; None takes the line's position among the lines."""


def share_axis(label: str) -> Axis:
    """Return an axis from 0 to 1."""
    return Axis(label, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def axis_over(label: str, values: Iterable[float]) -> Axis:
    """Return an axis with round ticks that covers the finite values."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return Axis(label, tuple(round(i * step, 12) for i in range(first, last + 1)))


def log_axis(label: str, values: Iterable[float]) -> Axis:
    """Return a logarithmic axis with round ticks that covers the positive finite values."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    marks = [step * 10.0**power for power in range(-12, 13) for step in (1, 2, 5)]
    first = max((i for i, mark in enumerate(marks) if mark <= min(positive)), default=0)
    last = min((i for i, mark in enumerate(marks) if mark >= max(positive)), default=len(marks) - 1)
    return Axis(label, tuple(marks[first : max(last, first + 1) + 1]), log=True)


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], *, guides: Sequence[Line] = ()) -> Html:
    """Return a figure of curves with a legend.

    Args:
        title: caption.
        x: horizontal axis.
        y: vertical axis.
        lines: the curves.
        guides: grey lines to compare with, such as a diagonal.
    """
    drawn = [_curve(line, x, y, "guide") for line in guides]
    drawn += [_curve(line, x, y, _colour(line, i)) for i, line in enumerate(lines)]
    keys = [(line.name, "line", _colour(line, i)) for i, line in enumerate(lines) if line.name]
    keys += [(line.name, "line", "guide") for line in guides]
    return _figure(title, x, y, drawn, keys)


def histogram(
    title: str, x: Axis, y_label: str, bars: Sequence[tuple[str, Sequence[float]]], *, mark: float | None = None
) -> Html:
    """Return a figure of counts or shares in bins of equal width over the horizontal axis.

    Args:
        title: caption.
        x: horizontal axis.
        y_label: label of the vertical axis.
        bars: names and counts or shares by bin, side by side in each bin.
        mark: a value that gets a vertical line; scripts move it between its ``data-low`` and ``data-high``.
    """
    y = axis_over(y_label, [0, *(count for _, counts in bars for count in counts)])
    bins = len(bars[0][1])
    width = (_RIGHT - _LEFT) / bins / len(bars)
    drawn = []
    for i, (_, counts) in enumerate(bars):
        for k, count in enumerate(counts):
            top = _y(y, count)
            left = _LEFT + (k * len(bars) + i) * width
            if count:
                drawn.append(_rectangle(left, top, width, _BOTTOM - top, f"bar k{i}"))
    if mark is not None:
        place = _number(_x(x, mark))
        ends = {"data_low": _LEFT, "data_high": _RIGHT}
        drawn.append(element("line", x1=place, x2=place, y1=_TOP, y2=_BOTTOM, class_="mark", **ends))
    keys = [(name, "bar", f"k{i}") for i, (name, _) in enumerate(bars)]
    return _figure(title, x, y, drawn, keys + ([("threshold", "line", "mark")] if mark is not None else []))


def _figure(title: str, x: Axis, y: Axis, drawn: Sequence[Html], keys: Sequence[tuple[str, str, str]]) -> Html:
    svg = element(
        "svg",
        element("title", f"{title}. Horizontal: {x.label}. Vertical: {y.label}."),
        *_frame(x, y),
        *drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
    )
    legend = element("ul", *(_key(*key) for key in keys), class_="legend")
    return element("figure", element("figcaption", title), svg, legend, class_="chart")


def _frame(x: Axis, y: Axis) -> Iterator[Html]:
    for tick in y.ticks:
        place = _number(_y(y, tick))
        yield element("line", x1=_LEFT, x2=_RIGHT, y1=place, y2=place, class_="grid")
        yield element("text", _tick(tick), x=_LEFT - 6, y=place, dy="0.35em", class_="end")
    for tick in x.ticks:
        place = _number(_x(x, tick))
        yield element("line", x1=place, x2=place, y1=_BOTTOM, y2=_BOTTOM + 4, class_="axis")
        yield element("text", _tick(tick), x=place, y=_BOTTOM + 17, class_="middle")
    yield element("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM, class_="axis")
    middle = (_TOP + _BOTTOM) / 2
    yield element("text", x.label, x=(_LEFT + _RIGHT) / 2, y=_HEIGHT - 8, class_="middle label")
    turned = f"rotate(-90 12 {middle:g})"
    yield element("text", y.label, x=12, y=f"{middle:g}", transform=turned, class_="middle label")


def _curve(line: Line, x: Axis, y: Axis, colour: str) -> Html:
    finite = [point for point in line.points if all(map(math.isfinite, point))]
    places = [(_number(_x(x, a)), _number(_y(y, b))) for a, b in _thinned(finite)]
    path = " ".join(f"{a},{b}" for a, b in dict.fromkeys(places))
    dots = [element("circle", cx=a, cy=b, r=3.5, class_=f"dot {colour}") for a, b in places] if line.dots else []
    return join([element("polyline", points=path, class_=f"line {colour}") if len(places) > 1 else Html(), *dots])


def _thinned(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield at most `_POINTS` points, evenly spaced over the horizontal axis, with both ends."""
    if len(points) <= _POINTS:
        yield from points
        return
    step = (points[-1][0] - points[0][0]) / (_POINTS - 2)
    due = points[0][0]
    for point in points[:-1]:
        if point[0] >= due:
            yield point
            due = point[0] + step
    yield points[-1]


def _key(name: str, kind: str, colour: str) -> Html:
    if kind == "bar":
        sample = _rectangle(6, 2, 10, 10, f"bar {colour}")
    else:
        sample = element("line", x1=1, x2=21, y1=7, y2=7, class_=f"line {colour}")
    return element("li", element("svg", sample, viewBox="0 0 22 14", class_="swatch", aria_hidden="true"), name)


def _rectangle(left: float, top: float, width: float, height: float, kind: str) -> Html:
    return element("rect", x=_number(left), y=_number(top), width=_number(width), height=_number(height), class_=kind)


def _colour(line: Line, place: int) -> str:
    return f"k{(place if line.colour is None else line.colour) % _COLOURS}"


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.position(value) * (_RIGHT - _LEFT)


def _y(axis: Axis, value: float) -> float:
    return _BOTTOM - axis.position(value) * (_BOTTOM - _TOP)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
