"""Nobody is judged silent while the database could not be seen."""

from datetime import UTC, datetime, timedelta

import pytest

from app.sight import Sight

START = datetime(2030, 1, 1, tzinfo=UTC)


def spans(sight: Sight, *seconds: float) -> list[float]:
    return [sight.span(START + timedelta(seconds=each)) for each in seconds]


def test_looks_that_follow_one_another_add_up() -> None:
    assert spans(Sight(6), 0, 2, 4, 9) == [0, 2, 4, 9]


@pytest.mark.parametrize("later", [20, -20], ids=["a long sleep", "another server's clock"])
def test_a_gap_begins_anew(later: float) -> None:
    assert spans(Sight(6), 0, 2, 2 + later, 4 + later) == [0, 2, 0, 2]


def test_a_look_that_fails_begins_anew() -> None:
    sight = Sight(6)
    assert spans(sight, 0, 2) == [0, 2]
    sight.lose()
    assert spans(sight, 4, 6) == [0, 2]
