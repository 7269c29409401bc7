"""How near a model is to the first one, as the command line says it."""

from dataclasses import dataclass

import pytest

from planish.cli.rows import nearness

ANSWERS, VARIANCE = "same answers as the first", "variance of the first that is kept"


@dataclass(frozen=True)
class Found:
    agreement: float
    explained: float | None
    bounded: str = "agreement"
    samples: int | None = None


@pytest.mark.parametrize(
    ("found", "name", "said"),
    [
        (Found(1.0, 1.0), ANSWERS, "100.0 %"),
        (Found(0.9999, 0.99), ANSWERS, "99.99 %"),
        (Found(0.98, None, "explained"), ANSWERS, "98.0 %"),
        (Found(0.98, -3.0), ANSWERS, "98.0 %"),
        (Found(0.98, 0.99999, "explained"), VARIANCE, "99.999 %"),
        (Found(0.98, -3.0, "explained"), VARIANCE, "nothing"),
        (Found(0.5, 1.0, samples=6), f"{ANSWERS}, 6 samples only", "50.0 %"),
    ],
)
def test_what_counts_is_said(found: Found, name: str, said: str) -> None:
    assert nearness(found) == (name, "", said)
