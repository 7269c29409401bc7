"""What a step chose from is drawn: loss against size and time, and a bar a layer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.reports import Choice, LayerPrice
from app.web.choices import HEIGHT, MARGIN, WIDTH, bars, curves, gain


def choice(size: int, speedup: float | None, lost: float | None, *, chosen: bool = False) -> Choice:
    return Choice(title="a graph", size_bytes=size, speedup=speedup, lost=lost, chosen=chosen)


def test_the_front_holds_what_nothing_surpasses() -> None:
    graphs = [choice(100, None, 0.0), choice(50, None, 0.02, chosen=True), choice(80, None, 0.03)]
    (curve,) = curves(graphs)
    assert curve.name == "size"
    assert [point.chosen for point in curve.points] == [False, True, False]
    places = [f"{point.x},{point.y}" for point in curve.points]
    assert curve.front.split() == [places[1], places[0]]


def test_time_is_drawn_of_graphs_that_were_timed() -> None:
    size, time = curves([choice(4, 1.0, 0.0), choice(2, 2.0, 0.1), choice(3, None, 0.05)])
    assert (len(size.points), len(time.points)) == (3, 2)
    assert time.points[1].label == "\u2068a graph\u2069: 50 % of the time, 10.00 % lost"


def test_one_graph_is_no_curve() -> None:
    assert curves([choice(4, 1.0, 0.0), choice(4, 1.0, None)]) == []


@given(
    st.lists(
        st.builds(
            choice,
            st.integers(0, 10**12),
            st.none() | st.floats(0.01, 100),
            st.none() | st.floats(-1, 1e6),
        )
    )
)
def test_points_lie_in_the_picture(graphs: list[Choice]) -> None:
    for curve in curves(graphs):
        for point in curve.points:
            assert MARGIN <= point.x <= WIDTH - MARGIN
            assert MARGIN <= point.y <= HEIGHT - MARGIN


def price(lost: float, *, unit: str = "time") -> LayerPrice:
    return LayerPrice.model_validate(
        {"node": "n", "lost": lost, "gain": 0.25 if unit == "time" else 2048, "unit": unit,
         "priced_together": 1, "quantized": lost < 0.5}
    )  # fmt: skip


@given(st.lists(st.floats(0, 1), max_size=50))
def test_bars_stand_side_by_side_in_order(losses: list[float]) -> None:
    found = bars([price(lost) for lost in losses])
    assert len(found) == len(losses)
    assert [bar.x for bar in found] == sorted(bar.x for bar in found)
    assert all(MARGIN <= bar.y <= HEIGHT - MARGIN for bar in found)


@pytest.mark.parametrize(("unit", "words"), [("time", "25.0 % of the time"), ("bytes", "2.05 kB")])
def test_what_is_saved_is_told_in_its_unit(unit: str, words: str) -> None:
    assert gain(price(0.1, unit=unit)) == words
