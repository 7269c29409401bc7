"""Nobody is judged silent while the database could not be seen."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from app.settings import Lease
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


def test_a_stall_counts_as_long_as_no_lease_can_have_run_out_in_it() -> None:
    """The holder renewed a second before it, and a second after it: four of six are left."""
    lease = Lease(seconds=6, renew_seconds=1, scan_seconds=2)
    for stall, expected in ((4, 6), (4.001, 0)):
        assert spans(Sight(lease.blind_seconds), 0, 2, 2 + stall)[-1] == expected


def test_looks_that_are_too_rare_to_judge_anybody_are_refused() -> None:
    Lease(seconds=5, renew_seconds=1, scan_seconds=2)
    with pytest.raises(ValidationError, match="LEASE_SCAN_SECONDS"):
        Lease(seconds=4.9, renew_seconds=1, scan_seconds=2)
