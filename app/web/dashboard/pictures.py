"""Pictures as numbers: where marks lie, for templates that draw them as SVG."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.events import MetricValue
from app.domain.job_answers import Job
from app.web.figures import scaled

_WIDTH, _HEIGHT, _MARGIN = 640, 320, 56
_LEFT, _BOTTOM, _ACROSS, _UP = 20, 180, 600, 160
"""Of the picture of a training, which is 640 by 200: where curves begin, and how far they go."""
_CURVES = 3
"""As many curves have colours."""


@dataclass(frozen=True)
class Mark:
    """A point of a scatter plot."""

    x: float
    y: float
    label: str
    href: str
    original: bool = False


@dataclass(frozen=True)
class Scatter:
    """Sizes to the right, latencies upwards: what lies at the lower left is better."""

    marks: list[Mark]
    width: int
    height: int
    margin: int
    largest: str
    slowest: str


@dataclass(frozen=True)
class Curve:
    """A figure of a training, by epoch, on a scale of its own."""

    name: str
    points: str
    """The points of an SVG polyline."""
    last: str
    """The figure after the last epoch."""


@dataclass(frozen=True)
class Training:
    """The curves of one step's training."""

    step: int
    """From 1."""
    curves: list[Curve]


def of_trainings(figures: Sequence[MetricValue]) -> list[Training]:
    """Return the curves of each step that trained, as ``live.js`` draws them while it runs.

    Args:
        figures: of epochs, in the order in which they were measured. What an attempt measured again
            takes the place of what was there.
    """
    values: dict[int, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for figure in figures:
        if figure.epoch is not None:
            values[figure.step][figure.name][figure.epoch] = figure.value
    return [
        Training(step + 1, [_curve(name, series[name]) for name in list(series)[:_CURVES]])
        for step, series in sorted(values.items())
    ]


def _curve(name: str, series: Mapping[int, float]) -> Curve:
    low, last = min(series.values()), max(*series, 1)
    span = max(series.values()) - low or 1
    points = [
        f"{_LEFT + epoch / last * _ACROSS:.1f},{_BOTTOM - (series[epoch] - low) / span * _UP:.1f}"
        for epoch in sorted(series)
    ]
    return Curve(name, " ".join(points), f"{series[max(series)]:.4g}")


def of_jobs(jobs: Sequence[Job]) -> Scatter | None:
    """Return the results of a model's jobs in one picture; None where there is nothing to compare.

    Args:
        jobs: of one model; those without a measured result are left out.
    """
    measured = [job for job in jobs if job.baseline and job.compressed]
    if not measured:
        return None
    first = measured[-1].baseline
    assert first is not None
    points = [("original", "", first.size_bytes, first.latency_ms or 0.0, True)]
    for job in measured:
        assert job.compressed is not None
        figures = job.compressed
        label = f"{job.name or job.id}: {_quality(job)}"
        latency = figures.latency_ms or 0.0
        points.append((label, f"/jobs/{job.id}", figures.size_bytes, latency, False))
    most_bytes = max(size for _, _, size, _, _ in points)
    most_ms = max(latency for _, _, _, latency, _ in points) or 1.0
    marks = [
        Mark(
            x=round(_MARGIN + size / most_bytes * (_WIDTH - 2 * _MARGIN), 1),
            y=round(_HEIGHT - _MARGIN - latency / most_ms * (_HEIGHT - 2 * _MARGIN), 1),
            label=f"{label}, {scaled(size, 'B').text}, {latency:.2f} ms",
            href=href,
            original=original,
        )
        for label, href, size, latency, original in points
    ]
    return Scatter(
        marks, _WIDTH, _HEIGHT, _MARGIN, scaled(most_bytes, "B").text, f"{most_ms:.2f} ms"
    )


def _quality(job: Job) -> str:
    assert job.compressed is not None
    if job.compressed.quality is not None:
        return f"{job.compressed.quality.metric} {job.compressed.quality.value:.4f}"
    if job.compressed.fidelity is not None:
        return f"{job.compressed.fidelity.agreement:.1%} of answers the same"
    return "not compared"
