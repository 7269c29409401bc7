"""Pictures as numbers: where marks lie, for templates that draw them as SVG."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.events import MetricValue
from app.domain.job_answers import Job
from app.domain.reports import Measures
from app.web.comparison import milliseconds, quality
from app.web.dashboard import names
from app.web.figures import scaled

_WIDTH, _HEIGHT, _MARGIN = 640, 320, 56
_LEFT, _BOTTOM, _ACROSS, _UP = 20, 180, 600, 160
"""Of the picture of a training, which is 640 by 200: where curves begin, and how far they go."""
_CURVES = 3
"""As many curves have colours."""


@dataclass(frozen=True)
class Mark:
    """A point of a scatter plot."""

    number: int
    """As it is named in the picture; 0 is the original."""
    x: float
    y: float
    label: str
    figures: str
    """Its size, latency and quality, in words."""
    href: str


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
    points = [("The original", "", first)]
    points += [
        (names.of_job(job), f"/jobs/{job.id}", job.compressed) for job in measured if job.compressed
    ]
    most_bytes = max(figures.size_bytes for _, _, figures in points)
    most_ms = max(figures.latency_ms or 0.0 for _, _, figures in points) or 1.0

    def mark(number: int, label: str, href: str, figures: Measures) -> Mark:
        latency = figures.latency_ms or 0.0
        said = [scaled(figures.size_bytes, "B").text]
        said.append(milliseconds(latency).text if latency else "not timed")
        if number or figures.quality:
            said.append(quality(figures))
        return Mark(
            number=number,
            x=round(_MARGIN + figures.size_bytes / most_bytes * (_WIDTH - 2 * _MARGIN), 1),
            y=round(_HEIGHT - _MARGIN - latency / most_ms * (_HEIGHT - 2 * _MARGIN), 1),
            label=label,
            figures=", ".join(said),
            href=href,
        )

    marks = [mark(number, *point) for number, point in enumerate(points)]
    largest, slowest = scaled(most_bytes, "B").text, milliseconds(most_ms).text
    return Scatter(marks, _WIDTH, _HEIGHT, _MARGIN, largest, slowest)
