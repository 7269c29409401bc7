"""Figures of graphs, of runs and of steps, as tests of verdicts want them."""

from app.domain.latencies import Latency
from app.domain.metrics import Metric
from app.domain.reports import (
    Evaluation,
    Fidelity,
    LayerChange,
    Measures,
    Quality,
    Split,
    StepReport,
    Worst,
)
from app.domain.steps import Skipped


def measures(
    value: float | None, metric: Metric = "top1", size: int = 100, latency: float = 1.0,
    agreement: float | None = None,
) -> Measures:  # fmt: skip
    quality = None if value is None else Quality(metric=metric, value=value, samples=10)
    fidelity = None if agreement is None else Fidelity(sqnr_db=30.0, agreement=agreement)
    return Measures(
        size_bytes=size, parameters=1, nonzero_parameters=1, macs=1, latency_ms=latency,
        quality=quality, fidelity=fidelity,
    )  # fmt: skip


def how(split: Split = "held_out", latency: Latency | None = None, threads: int = 1) -> Evaluation:
    return Evaluation(
        metric=None, split=split, indices=[], threads=threads, runtime="it", latency=latency
    )


def step(*, changed: bool = True) -> StepReport:
    layer = LayerChange(node="n", operator="Conv", change="c", bytes_before=4, bytes_after=1)
    return StepReport(
        index=0, method="quantize", parameters={}, seconds=0, before=measures(1.0),
        after=measures(1.0), layers=[layer] if changed else [], changed=changed,
        skipped=[Skipped(node="x", reason="it is too old")],
    )  # fmt: skip


def like(
    agreement: float, explained: float, worst: Worst | None = None, *, scores: bool
) -> Measures:
    """Return what is known of a graph without targets."""
    fidelity = Fidelity(
        sqnr_db=30.0, agreement=agreement, explained=explained, worst=worst,
        bounded="agreement" if scores else "explained",
    )  # fmt: skip
    return measures(None).model_copy(update={"fidelity": fidelity})


def with_commonest(after: Measures, commonest: float) -> Measures:
    """Return the figures of a graph whose original gives one answer to this share of samples."""
    assert after.fidelity is not None
    fidelity = after.fidelity.model_copy(update={"commonest": commonest})
    return after.model_copy(update={"fidelity": fidelity})
