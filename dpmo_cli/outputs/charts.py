"""Charts as inline SVG: histograms, shares by crowd size, bars in a table's cell.

Colours are classes that the page's style sheet gives, so that charts follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from dpmo_cli.outputs.statistics import Crowds, Histogram

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 26, 46
"""Margins round the axes, px: room for ticks, titles, and the mark of the median."""
_CELLS_XY = (60, 30)
"""Dots of a scatter chart lie on such a grid: their number is bounded for any run."""
_CELL_AREA = 14.0
"""Squared radius of a dot for one image; it grows with their number, up to a limit."""
_MAX_RADIUS = 11.0


@dataclass(frozen=True)
class Ticks:
    """Where an axis has its ticks: values from 0 to 1 along it, and their texts."""

    at: tuple[float, ...]
    texts: tuple[str, ...]


def histogram_chart(histogram: Histogram, *, title: str, axis: str, log: bool) -> str:
    """Return the bars of a histogram, with the median marked.

    Args:
        histogram: of the values.
        title: what is counted, for those who can't see the chart.
        axis: name of the values with their unit.
        log: whether the value axis is logarithmic; its edges are positive then.
    """
    edges = histogram.edges
    scale: Callable[[float], float] = math.log10 if log else float
    low, high = scale(edges[0]), scale(edges[-1])

    def place(value: float) -> float:
        return (scale(value) - low) / (high - low)

    most = max(histogram.counts, default=0)
    y_ticks, top = _linear_ticks(most)
    chart = _Chart(f"{title}: {_in_words(histogram, axis)}")
    chart.axes(
        (_log_ticks if log else _plain_ticks)(edges[0], edges[-1], place),
        y_ticks,
        axis,
        "masks",
    )
    for left, right, count in zip(edges[:-1], edges[1:], histogram.counts, strict=True):
        if count:
            text = f"{number(left)} to {number(right)}: {count:,}"
            chart.bar(place(left), place(right), count / top, text)
    if histogram.median is not None:
        chart.mark(place(histogram.median), f"median {number(histogram.median)}")
    return chart.svg()


def crowd_chart(crowds: Crowds) -> str:
    """Return a scatter chart of images: their people, and the share of them to review.

    Images that lie close are one larger dot. Images without people have no share, and no dot.
    """
    some = crowds.people > 0
    people, flagged = crowds.people[some], crowds.flagged[some]
    least, most = (int(people.min()), int(people.max())) if len(people) else (1, 10)
    # Quarters of a decade; the margin keeps the dots off the border.
    low = math.floor(math.log10(least) * 4 - 0.2) / 4
    high = math.ceil(math.log10(most) * 4 + 0.2) / 4

    def place(value: float) -> float:
        return (math.log10(value) - low) / (high - low)

    shares = flagged / np.maximum(people, 1)
    y_ticks, top = _share_ticks(float(shares.max(initial=0.0)))
    words = f"{len(people):,} images with {least:,} to {most:,} people"
    chart = _Chart(f"Share of people to review by people per image: {words}")
    x_ticks = _log_ticks(10**low, 10**high, place)
    chart.axes(x_ticks, y_ticks, "people per image (log)", "to review")
    x = (np.log10(people) - low) / (high - low)
    columns, rows = _CELLS_XY
    cells = np.rint(np.stack([x * columns, shares / top * rows], axis=1)).astype(int)
    found, which, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    for index, count in enumerate(counts.tolist()):
        inside = which == index
        at_x, at_y = (
            (float(x[inside][0]), float(shares[inside][0] / top))
            if count == 1
            else (float(found[index, 0]) / columns, float(found[index, 1]) / rows)
        )
        share = flagged[inside].sum() / people[inside].sum()
        mean = people[inside].mean()
        what = "1 image," if count == 1 else f"{count:,} images, about"
        chart.dot(at_x, at_y, count, f"{what} {mean:,.0f} people, {percent(share)} to review")
    return chart.svg()


def share_bar(share: float) -> str:
    """Return a small bar of a share from 0 to 1, to stand in a table beside the number itself."""
    svg = Element("svg", {"class": "share", "viewBox": "0 0 100 10", "aria-hidden": "true"})
    svg.set("preserveAspectRatio", "none")
    SubElement(svg, "rect", {"class": "track", "width": "100", "height": "10"})
    width = f"{100 * min(max(share, 0.0), 1.0):.2f}"
    SubElement(svg, "rect", {"class": "bar", "width": width, "height": "10"})
    return tostring(svg, encoding="unicode")


def number(value: float) -> str:
    """Return a number as a person reads it: three digits, with "," in thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    """Return a share in per cent with one decimal; what is little but not nothing stays so."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


class _Chart:
    """An SVG that grows: places run from 0 to 1 along both axes, upwards in y."""

    def __init__(self, words: str) -> None:
        self._svg = Element(
            "svg", {"class": "chart", "viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img"}
        )
        self._svg.set("aria-label", words)

    def axes(self, x_ticks: Ticks, y_ticks: Ticks, x_title: str, y_title: str) -> None:
        """Draw grid, ticks and titles."""
        right, bottom = _x(1), _y(0)
        for at, text in zip(y_ticks.at, y_ticks.texts, strict=True):
            self._line("grid", _x(0), _y(at), right, _y(at))
            self._text(text, _x(0) - 7, _y(at) + 4, "end")
        for at, text in zip(x_ticks.at, x_ticks.texts, strict=True):
            self._line("axis", _x(at), bottom, _x(at), bottom + 5)
            self._text(text, _x(at), bottom + 19, "middle")
        self._line("axis", _x(0), bottom, right, bottom)
        self._text(x_title, (_x(0) + right) / 2, _HEIGHT - 6, "middle", "title")
        self._text(y_title, 4, 14, "start", "title")

    def bar(self, left: float, right: float, height: float, text: str) -> None:
        """Draw a bar; `text` is what a pointer over it shows."""
        gap = 0.5
        box = {
            "x": _px(_x(left) + gap),
            "y": _px(_y(height)),
            "width": _px(max(_x(right) - _x(left) - 2 * gap, 1)),
            "height": _px(_y(0) - _y(height)),
        }
        self._titled("rect", {"class": "bar", **box}, text)

    def dot(self, x: float, y: float, weight: int, text: str) -> None:
        """Draw a dot whose area follows its weight."""
        radius = min(math.sqrt(_CELL_AREA * weight), _MAX_RADIUS)
        place = {"cx": _px(_x(x)), "cy": _px(_y(y)), "r": _px(radius)}
        self._titled("circle", {"class": "dot", **place}, text)

    def mark(self, at: float, text: str) -> None:
        """Draw an upright line with a text above."""
        for kind in ("halo", "mark"):
            self._line(kind, _x(at), _y(1) - 6, _x(at), _y(0))
        anchor = "end" if at > 0.8 else "start" if at < 0.2 else "middle"
        self._text(text, _x(at), _y(1) - 10, anchor, "label")

    def svg(self) -> str:
        """Return the chart as text."""
        return tostring(self._svg, encoding="unicode")

    def _titled(self, tag: str, attributes: dict[str, str], text: str) -> None:
        SubElement(SubElement(self._svg, tag, attributes), "title").text = text

    def _line(self, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
        ends = {"x1": _px(x1), "y1": _px(y1), "x2": _px(x2), "y2": _px(y2)}
        SubElement(self._svg, "line", {"class": kind, **ends})

    def _text(self, text: str, x: float, y: float, anchor: str, kind: str = "tick") -> None:
        place = {"class": kind, "x": _px(x), "y": _px(y), "text-anchor": anchor}
        SubElement(self._svg, "text", place).text = text


def _x(at: float) -> float:
    return _LEFT + at * (_WIDTH - _LEFT - _RIGHT)


def _y(at: float) -> float:
    return _HEIGHT - _BOTTOM - at * (_HEIGHT - _TOP - _BOTTOM)


def _px(value: float) -> str:
    return f"{value:.1f}"


def _in_words(histogram: Histogram, axis: str) -> str:
    filled = [index for index, count in enumerate(histogram.counts) if count]
    if histogram.median is None or not filled:
        return f"{axis}, no values"
    low, high = histogram.edges[filled[0]], histogram.edges[filled[-1] + 1]
    values = f"{histogram.total:,} values from {number(low)} to {number(high)}"
    return f"{axis}, {values}, median {number(histogram.median)}"


def _linear_ticks(most: int) -> tuple[Ticks, float]:
    """Return four to seven whole ticks from 0, and the value at the axis's end."""
    step = max(1, math.ceil(_nice_step(most / 5)))
    last = max(1, math.ceil(most / step))
    at = tuple(index / last for index in range(last + 1))
    return Ticks(at, tuple(f"{index * step:,}" for index in range(last + 1))), float(last * step)


def _share_ticks(most: float) -> tuple[Ticks, float]:
    """Return ticks in per cent from 0, and the share at the axis's end."""
    step = max(_nice_step(most / 5), 0.01)
    last = max(1, math.ceil(round(most / step, 6)))
    at = tuple(index / last for index in range(last + 1))
    texts = tuple(f"{100 * index * step:.3g} %" for index in range(last + 1))
    return Ticks(at, texts), last * step


def _nice_step(least: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    if least <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice >= least * (1 - 1e-9))


def _plain_ticks(low: float, high: float, place: Callable[[float], float]) -> Ticks:
    values = np.linspace(low, high, 6).tolist()
    return Ticks(tuple(map(place, values)), tuple(map(number, values)))


def _log_ticks(low: float, high: float, place: Callable[[float], float]) -> Ticks:
    """Return ticks at powers of ten; over few decades also between, with room for their texts."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    decades = math.log10(high / low)
    nice: Sequence[int] = (
        (1,) if decades > 3 else (1, 2, 5) if decades > 0.8 else (1, 2, 3, 4, 5, 7)
    )
    values = [10.0**power * one for power in range(first, last + 1) for one in nice]
    values = [one for one in values if low * (1 - 1e-9) <= one <= high * (1 + 1e-9)]
    return Ticks(tuple(map(place, values)), tuple(map(number, values)))
