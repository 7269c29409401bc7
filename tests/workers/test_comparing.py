"""What `planish compare` calls worse: sure of time, strict of quality."""

import pytest

from app.domain.latencies import Comparison, Latency, Spread
from app.domain.reports import Evaluation, Fidelity, Measures
from workers.compression.comparing import Compared


def compared(agreement: float, *, low: float, speedup: float, high: float) -> Compared:
    spread = Spread(median=1.0, p10=1.0, p90=1.0, runs=50)
    latency = Latency(
        original=spread, compressed=spread, speedup=speedup, speedup_low=low, speedup_high=high
    )
    assert isinstance(latency, Comparison)
    figures = {"size_bytes": 1, "parameters": 1, "nonzero_parameters": 1, "macs": 1}
    before = Measures(**figures, latency_ms=1.0, quality=None, fidelity=None)
    fidelity = Fidelity(sqnr_db=20.0, agreement=agreement)
    evaluation = Evaluation(
        metric=None, split="held_out", indices=[0], threads=1, runtime="it", latency=latency
    )
    after = before.model_copy(update={"fidelity": fidelity})
    return Compared(first=before, second=after, evaluation=evaluation, verdict="")


@pytest.mark.parametrize(
    ("drop", "slowdown", "faults"),
    [(None, None, 0), (0.03, None, 0), (0.01, None, 1), (None, 0.1, 1), (None, 0.3, 0), (0, 0, 2)],
)
def test_what_is_beyond_a_bound_is_said(
    drop: float | None, slowdown: float | None, faults: int
) -> None:
    found = compared(0.98, low=0.7, speedup=0.75, high=0.8)
    assert len(found.beyond(drop, slowdown)) == faults


def test_what_may_be_noise_is_no_slowdown() -> None:
    assert compared(1.0, low=0.5, speedup=0.9, high=1.1).beyond(0, 0) == []
