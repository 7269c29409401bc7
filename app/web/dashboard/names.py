"""What things are called that people have given no name."""

from collections.abc import Iterable

from app.domain.job_answers import Job
from app.domain.methods import methods
from app.domain.steps import Step


def of_job(job: Job) -> str:
    """Return the job's name, or else what it does."""
    return job.name or work_of(job)


def work_of(job: Job) -> str:
    """Return what a job does, in few words."""
    if job.steps:
        return methods_of(job.steps)
    if job.measure:
        return "Measurement of layers"
    return "Search" if job.objective else "Other formats"


def methods_of(steps: Iterable[Step]) -> str:
    """Return the methods of steps, in their order, as pages call them."""
    titles = {method.method: method.title for method in methods()}
    return " → ".join(titles[step.method] for step in steps)
