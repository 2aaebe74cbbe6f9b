from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from flipkd_sdk.evaluation.scored import Scored
from flipkd_sdk.pages.charts import Line, axis_over, histogram, line_chart, log_axis, share_axis
from flipkd_sdk.pages.curves import precision_recall_chart, reliability_chart, score_histogram

UNIT = share_axis("x"), share_axis("y")


def svg(figure: str) -> ET.Element:
    return next(ET.fromstring(figure).iter("svg"))  # noqa: S314 - our own markup


def points(figure: str, kind: str) -> list[tuple[float, float]]:
    path = next(line for line in svg(figure).iter("polyline") if kind in line.attrib["class"].split())
    return [(float(x), float(y)) for x, y in (point.split(",") for point in path.attrib["points"].split())]


def test_a_curve_is_where_its_values_are_between_the_axes() -> None:
    drawn = points(line_chart("t", *UNIT, [Line("a", [(0, 0), (0.5, 1), (1, 0.25)])]), "k0")
    (left, bottom), (middle, top), (right, quarter) = drawn
    assert middle == pytest.approx((left + right) / 2)
    assert (bottom - quarter) == pytest.approx((bottom - top) / 4, abs=0.1)


def test_points_that_are_not_finite_are_left_out() -> None:
    figure = line_chart("t", *UNIT, [Line("a", [(0, math.nan), (0.5, 0.5), (math.inf, 1)], dots=True)])
    assert len(list(svg(figure).iter("circle"))) == 1
    assert not list(svg(figure).iter("polyline"))


def test_both_axes_have_labels_and_the_chart_a_description() -> None:
    figure = line_chart("title", share_axis("recall"), share_axis("precision"), [])
    texts = [text.text for text in svg(figure).iter("text")]
    assert {"recall", "precision", "0", "0.2", "1"} <= set(texts)
    assert svg(figure).find("title").text == "title. Horizontal: recall. Vertical: precision."  # type: ignore[union-attr]


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    x = np.linspace(0, 1, 50_000)
    drawn = points(line_chart("t", *UNIT, [Line("a", list(zip(x, x**2, strict=True)))]), "k0")
    whole = points(line_chart("t", *UNIT, [Line("a", [(0, 0), (1, 1)])]), "k0")
    assert len(drawn) <= 300
    assert (drawn[0], drawn[-1]) == (whole[0], whole[-1])


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [math.nan], [0.71, 0.93], [-3, 12_000], [1e-9, 2e-9]])
def test_round_ticks_cover_all_values(values: list[float]) -> None:
    axis = axis_over("y", values)
    finite = [value for value in values if math.isfinite(value)]
    assert 2 <= len(axis.ticks) <= 8
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(axis.ticks[0] <= value <= axis.ticks[-1] for value in finite)


@pytest.mark.parametrize("values", [[], [0.0, -1], [0.003, 4.2], [1.0], [7e3, 9e3]])
def test_ticks_of_a_logarithmic_axis_cover_the_positive_values(values: list[float]) -> None:
    axis = log_axis("loss", values)
    assert len(axis.ticks) >= 2
    assert all(axis.ticks[0] <= value <= axis.ticks[-1] for value in values if value > 0)
    assert axis.position(0.0) == 0


def test_bars_are_as_high_as_their_counts() -> None:
    figure = histogram("t", share_axis("score"), "pairs", [("a", [0, 4]), ("b", [2, 0])], mark=0.5)
    bars = list(svg(figure).iter("rect"))
    assert float(bars[0].attrib["height"]) == pytest.approx(2 * float(bars[1].attrib["height"]), abs=0.1)
    mark = next(line for line in svg(figure).iter("line") if line.attrib.get("class") == "mark")
    low, high, place = (float(mark.attrib[name]) for name in ("data-low", "data-high", "x1"))
    assert place == (low + high) / 2


SCORE = np.array([0.9, 0.8, 0.4, 0.2, 0.1], np.float32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("label", [[1, 0, 1, 0, 0], [1, 1, 1, 1, 1]])
def test_charts_of_scores_are_drawn_for_any_labels(label: list[int]) -> None:
    scored = Scored("<b>", SCORE, np.array(label))
    for figure in (
        precision_recall_chart("t", [scored, scored], [0.5, 0.3]),
        reliability_chart("t", [scored]),
        score_histogram("t", scored, 0.5),
    ):
        assert "nan" not in str(figure)
        assert "<b>" not in figure
        svg(figure)
