"""Results of a model's jobs side by side: in words, and as a picture of sizes and times.

A time is a share of the original's that ran by turns with it. Milliseconds of two jobs were
measured at two moments, one of which may have been busy: they are shown and not compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain import job_names
from app.domain.job_answers import Job
from app.domain.latencies import Latency
from app.domain.reports import Measures
from app.web.comparison import Figure, quality, time_of
from app.web.figures import scaled

_WIDTH, _HEIGHT, _MARGIN = 640, 320, 56
_ACROSS, _UP = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN


@dataclass(frozen=True)
class Result:
    """What a job made of the model, beside the original of the same moment."""

    job: Job
    before: Measures
    after: Measures
    time: Figure | None
    """None where they were not timed."""
    share: float | None
    """Of the original's time."""
    between: tuple[float, float] | None
    """The shares that it lies between, where that is known."""

    @property
    def figures(self) -> str:
        """Return the size, speed and quality of the result, in words."""
        size = scaled(self.after.size_bytes, "B").text
        return ", ".join((size, self.speed, quality(self.after)))

    @property
    def speed(self) -> str:
        """Return how much faster the result is, and how sure that is, in words."""
        if self.time is None:
            return "not timed"
        speed = "as fast" if self.time.change == "unchanged" else self.time.change
        return f"{speed} ({self.time.interval})" if self.time.interval else speed


@dataclass(frozen=True)
class Dot:
    """A job of the picture."""

    number: int
    """As it is named in the picture, from 1."""
    x: float
    y: float | None
    """None where it was not timed: then it is in the list alone."""
    between: tuple[float, float] | None
    """The heights that the true one lies between, where that is known."""
    label: str
    figures: str
    href: str


@dataclass(frozen=True)
class Picture:
    """Sizes to the right, times upwards: what lies at the lower left is better."""

    dots: list[Dot]
    original: tuple[float, float]
    original_figures: str
    width: int
    height: int
    margin: int
    largest: str
    longest: str


def results(jobs: Sequence[Job], latencies: Mapping[str, Latency]) -> list[Result]:
    """Return the results of jobs; those without a measured one are left out.

    Args:
        jobs: of one model.
        latencies: how each result compared with the original in time, by the job's id.
    """
    return [
        _result(job, job.baseline, job.compressed, latencies.get(job.id))
        for job in jobs
        if job.baseline and job.compressed
    ]


def _result(job: Job, before: Measures, after: Measures, latency: Latency | None) -> Result:
    time = time_of(before, after, latency)
    if latency is None:
        return Result(job, before, after, time, _share(before, after), None)
    low, high = latency.speedup_low, latency.speedup_high
    between = (1 / high, 1 / low) if low and high else None
    return Result(job, before, after, time, 1 / latency.speedup, between)


def _share(before: Measures, after: Measures) -> float | None:
    if not before.latency_ms or not after.latency_ms:
        return None
    return after.latency_ms / before.latency_ms


def picture(shown: Sequence[Result]) -> Picture | None:
    """Return results in one picture with the original; None where there is none."""
    if not shown:
        return None
    original = shown[-1].before
    most_bytes = max(original.size_bytes, *(result.after.size_bytes for result in shown))
    longest = max(1.0, *(result.share or 0.0 for result in shown))

    def right(size_bytes: int) -> float:
        return round(_MARGIN + size_bytes / most_bytes * _ACROSS, 1)

    def up(share: float) -> float:
        return round(_HEIGHT - _MARGIN - min(share / longest, 1.0) * _UP, 1)

    dots = [
        Dot(
            number=number,
            x=right(result.after.size_bytes),
            y=None if result.share is None else up(result.share),
            between=result.between and (up(result.between[0]), up(result.between[1])),
            label=result.job.name or job_names.work_of(result.job),
            figures=result.figures,
            href=f"/jobs/{result.job.id}",
        )
        for number, result in enumerate(shown, 1)
    ]
    said = [scaled(original.size_bytes, "B").text]
    if original.quality:
        said.append(quality(original))
    return Picture(
        dots=dots,
        original=(right(original.size_bytes), up(1.0)),
        original_figures=", ".join(said),
        width=_WIDTH,
        height=_HEIGHT,
        margin=_MARGIN,
        largest=scaled(most_bytes, "B").text,
        longest="the original's" if longest <= 1 else f"{longest:.2f} times the original's",
    )
