"""Results of a model's jobs side by side, in words.

A time is a share of the original's that ran by turns with it. Milliseconds of two jobs were
measured at two moments, one of which may have been busy: they are shown and not compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.job_answers import Job
from app.domain.latencies import Latency
from app.domain.reports import Measures, ruined
from app.web.comparison import Figure, quality, time_of
from app.web.figures import scaled


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
    def ruined(self) -> bool:
        """Whether it does not do what the original does."""
        return ruined(self.before, self.after)

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
        speed, interval = self.time.change, self.time.interval
        return f"{speed} ({interval})" if interval else speed


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
    told = latency.deciding
    low, high = told.speedup_low, told.speedup_high
    between = (1 / high, 1 / low) if low and high else None
    return Result(job, before, after, time, 1 / told.speedup, between)


def _share(before: Measures, after: Measures) -> float | None:
    if not before.latency_ms or not after.latency_ms:
        return None
    return after.latency_ms / before.latency_ms
