"""The front of a search: what no other point is at least as good as."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.searches import SearchPoint, front


def point(cost: float, drop: float, name: str = "p") -> SearchPoint:
    return SearchPoint(
        id=name,
        trial=1,
        steps=[],
        size_bytes=1,
        latency_ms=None,
        macs=1,
        quality=None,
        fidelity=None,
        cost=cost,
        drop=drop,
        holds=drop <= 0.01,
    )


FIGURES = st.floats(0, 2, allow_nan=False)


@given(st.lists(st.tuples(FIGURES, FIGURES), max_size=30))
def test_a_front_holds_what_nothing_is_better_than(figures: list[tuple[float, float]]) -> None:
    points = [point(cost, drop) for cost, drop in figures]
    kept = front(points)
    assert [each.cost for each in kept] == sorted(each.cost for each in kept)
    for one in kept:
        assert not any(
            other.cost <= one.cost
            and other.drop <= one.drop
            and (other.cost, other.drop) != (one.cost, one.drop)
            for other in points
        )
    for left_out in points:
        assert any(each.cost <= left_out.cost and each.drop <= left_out.drop for each in kept), (
            "what is not on the front is no better than something on it"
        )
