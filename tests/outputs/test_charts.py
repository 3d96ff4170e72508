"""Charts are well-formed, and their bars and dots stand where the numbers say."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

from dpmo_cli.outputs.charts import crowd_chart, histogram_chart, number, percent, share_bar
from dpmo_cli.outputs.statistics import Crowds, Histogram


def titles(chart: Element, tag: str) -> list[str]:
    return [one.findtext("title") or "" for one in chart.iter(tag)]


def values(chart: Element, tag: str, name: str) -> list[float]:
    return [float(one.attrib[name]) for one in chart.iter(tag)]


def texts(chart: Element, kind: str) -> list[str]:
    return [one.text or "" for one in chart.iter("text") if one.get("class") == kind]


def test_bars_are_as_high_as_their_counts() -> None:
    histogram = Histogram((0.0, 0.5, 0.75, 1.0), (10, 0, 40), 0.8, 3)
    chart = fromstring(histogram_chart(histogram, title="Score", axis="score", log=False))
    heights, widths = values(chart, "rect", "height"), values(chart, "rect", "width")
    assert titles(chart, "rect") == ["0 to 0.5: 10", "0.75 to 1: 40"]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.2)
    assert widths[0] == pytest.approx(2 * widths[1], abs=1.5)
    assert chart.attrib["aria-label"] == "Score: score, 50 values from 0 to 1, median 0.8"
    assert texts(chart, "label") == ["median 0.8"]
    assert texts(chart, "title") == ["score", "masks"]
    assert texts(chart, "tick")[:5] == ["0", "10", "20", "30", "40"]


def test_equal_ratios_are_equally_wide_on_a_log_axis() -> None:
    histogram = Histogram((1.0, 10.0, 100.0, 1000.0), (1, 2, 1), 20.0, 0)
    chart = fromstring(histogram_chart(histogram, title="Size", axis="px", log=True))
    assert len(set(values(chart, "rect", "width"))) == 1
    assert {"1", "10", "100", "1,000"} <= set(texts(chart, "tick"))


@pytest.mark.parametrize("log", [False, True], ids=["plain", "log"])
def test_a_histogram_of_nothing(log: bool) -> None:
    histogram = Histogram((1.0, 5.0, 10.0), (0, 0), None, 0)
    chart = fromstring(histogram_chart(histogram, title="Size", axis="px", log=log))
    assert list(chart.iter("rect")) == []
    assert chart.attrib["aria-label"] == "Size: px, no values"


@pytest.mark.parametrize(
    ("people", "flagged", "dots"),
    [
        pytest.param([1], [1], ["1 image, 1 people, 100.0 % to review"], id="one of one"),
        pytest.param([10, 0], [0, 0], ["1 image, 10 people, 0.0 % to review"], id="empty ones"),
        pytest.param(
            [10, 1000],
            [5, 10],
            ["1 image, 10 people, 50.0 % to review", "1 image, 1,000 people, 1.0 % to review"],
            id="two",
        ),
        pytest.param(
            [500] * 70,
            [50] * 70,
            ["70 images, about 500 people, 10.0 % to review"],
            id="many in one place",
        ),
        pytest.param([], [], [], id="no images"),
    ],
)
def test_dots_of_crowds(people: list[int], flagged: list[int], dots: list[str]) -> None:
    chart = fromstring(crowd_chart(Crowds(np.array(people, np.int64), np.array(flagged, np.int64))))
    assert titles(chart, "circle") == dots
    for name, side in (("cx", 560), ("cy", 300)):
        assert all(0 < value < side for value in values(chart, "circle", name))


def test_the_crowded_image_is_right_of_the_other_and_the_flagged_one_above() -> None:
    chart = fromstring(crowd_chart(Crowds(np.array([20, 2000]), np.array([10, 100]))))
    x, y = values(chart, "circle", "cx"), values(chart, "circle", "cy")
    assert x[0] < x[1]
    assert y[0] < y[1]


def test_dots_are_bounded_and_count_every_image() -> None:
    rng = np.random.default_rng(0)
    people = rng.integers(1, 5000, 20_000)
    chart = crowd_chart(Crowds(people, rng.binomial(people, 0.3)))
    assert len(chart) < 300_000
    counts = [title.split()[0].replace(",", "") for title in titles(fromstring(chart), "circle")]
    assert sum(map(int, counts)) == 20_000


@pytest.mark.parametrize(("share", "width"), [(0.0, 0), (0.25, 25), (1.0, 100), (7.0, 100)])
def test_bar_of_a_share(share: float, width: float) -> None:
    assert values(fromstring(share_bar(share)), "rect", "width") == [100, width]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (14.678, "14.7"), (1467.8, "1,468")]
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0 %"), (0.0001, "< 0.1 %"), (0.0005, "0.1 %"), (1, "100.0 %")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("people", "ticks"),
    [
        pytest.param([250, 350], ["200", "300", "400", "500"], id="within a decade"),
        pytest.param([90, 800], ["100", "200", "500", "1,000"], id="a decade"),
        pytest.param([1, 9000], ["1", "10", "100", "1,000", "10,000"], id="many decades"),
    ],
)
def test_ticks_of_a_log_axis(people: list[int], ticks: list[str]) -> None:
    chart = fromstring(crowd_chart(Crowds(np.array(people), np.array([0, 0]))))
    found = [text for text in texts(chart, "tick") if not text.endswith("%")]
    assert found == ticks
