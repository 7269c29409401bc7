"""How near a model is to the first one, as the command line says it."""

from dataclasses import dataclass

import pytest

from planish.cli.consoles import nearness

ANSWERS, VARIANCE = "same answers as the first", "variance of the first that is kept"


@dataclass(frozen=True)
class Found:
    agreement: float
    explained: float | None
    bounded: str = "agreement"


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        (Found(1.0, 1.0), {ANSWERS: "100.0 %"}),
        (Found(0.9999, 0.99), {ANSWERS: "99.99 %"}),
        (Found(0.98, None, "explained"), {ANSWERS: "98.0 %"}),
        (Found(0.98, 0.4), {ANSWERS: "98.0 %", VARIANCE: "40.0 %"}),
        (Found(0.98, -3.0), {ANSWERS: "98.0 %", VARIANCE: "nothing"}),
        (Found(0.98, 0.99999, "explained"), {VARIANCE: "99.999 %"}),
    ],
)
def test_equal_answers_do_not_hide_what_is_lost(found: Found, rows: dict[str, str]) -> None:
    assert {name: said for name, _, said in nearness(found)} == rows
