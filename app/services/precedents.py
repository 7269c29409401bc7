"""What finished jobs tell of steps: how much faster and smaller they made models like another."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, Literal

from sqlalchemy import Row
from sqlalchemy.orm import Session

from app.domain import metrics
from app.domain.generated import GENERATED
from app.domain.jobs import JobRequest
from app.domain.latencies import Latency
from app.domain.makeup import alike, likeness
from app.domain.models import ModelDescription
from app.domain.percentages import percent_kept
from app.domain.reports import Measures, quality_drop, ruined
from app.domain.steps import AnyStep
from app.services.inputs import Inputs
from app.store import precedents

_TELLING: dict[str, tuple[str, ...]] = {
    "quantize": ("mode", "prefer", "weights", "unpack"),
    "prune": ("granularity", "ratio", "of", "sparsity", "n", "m"),
    "low_rank": ("ratio", "of", "energy", "rank"),
    "cluster": ("clusters",),
    "distill": ("student",),
    "supernet": (),
    "subnet": ("ratio", "of"),
}
"""The parameters that decide what comes of a step; the others make it a little better or worse."""

_SORTS = ("mode", "granularity")
"""The parameters that make of a method quite another one."""


def _sorts(steps: Iterable[AnyStep]) -> list[tuple[object, ...]]:
    return [(step.method, *(getattr(step, name, None) for name in _SORTS)) for step in steps]


def signature(steps: Iterable[AnyStep]) -> str:
    """Return what two lists of steps have in common whose results can be compared."""
    return json.dumps([_telling(step) for step in steps], sort_keys=True)


def _telling(step: AnyStep) -> dict[str, Any]:
    given = step.model_dump(mode="json")
    told = {name: given[name] for name in _TELLING[step.method]}
    return {"method": step.method, **told, "trained": given.get("recover") is not None}


@dataclass(frozen=True)
class Precedent:
    """A job that ended with figures."""

    job: str
    name: str | None
    model: str
    steps: Sequence[AnyStep]
    samples: str | None
    """What its steps saw: a dataset, or ``generated``; None for nothing."""
    judged_on: str | None
    """The same of what it was judged on; None for random inputs."""
    baseline: Measures
    compressed: Measures
    latency: Latency | None
    minutes: float

    @cached_property
    def signature(self) -> str:
        """What its steps have in common with others whose results can be compared."""
        return signature(self.steps)

    @property
    def faster(self) -> float | None:
        """How many times faster the result is; None where its report cannot tell."""
        return self.latency.speedup if self.latency and self.latency.certain else None

    @property
    def smaller(self) -> float:
        """The original's bytes over the result's."""
        return self.baseline.size_bytes / max(self.compressed.size_bytes, 1)

    @property
    def lighter(self) -> float:
        """The original's multiply-accumulates over the result's."""
        return max(self.baseline.macs, 1) / max(self.compressed.macs, 1)

    @property
    def drop(self) -> float:
        """The quality that was lost; negative where it rose."""
        before, after = self.baseline.quality, self.compressed.quality
        return quality_drop(before, after, self.compressed.fidelity)

    @property
    def ruined(self) -> bool:
        """Whether the result does not do what the original does."""
        return ruined(self.baseline, self.compressed)


@dataclass(frozen=True)
class Experience:
    """What jobs of the same steps came to; medians."""

    jobs: Sequence[Precedent]
    """Not empty; the latest first."""
    of_this_model: bool
    """Whether all of them ran on the model in question."""

    @property
    def faster(self) -> float | None:
        """How many times faster the results are; None where no job could tell."""
        found = [job.faster for job in self.jobs if job.faster is not None]
        return median(found) if found else None

    @property
    def smaller(self) -> float:
        """How many times smaller the files are."""
        return median(job.smaller for job in self.jobs)

    @property
    def lighter(self) -> float:
        """How many times fewer multiply-accumulates there are."""
        return median(job.lighter for job in self.jobs)

    @property
    def drop(self) -> float:
        """The quality that was lost."""
        return median(job.drop for job in self.jobs)

    @property
    def ruined(self) -> bool:
        """Whether most of the results do not do what the original does."""
        return 2 * sum(job.ruined for job in self.jobs) > len(self.jobs)

    @property
    def is_proof(self) -> bool:
        """Whether all of it was measured on the model in question, with real samples."""
        real = all(job.judged_on not in {None, GENERATED} for job in self.jobs)
        return self.of_this_model and real

    @property
    def quality(self) -> str:
        """What became of the quality, as the latest job measured it."""
        lost, latest = self.drop, self.jobs[0]
        if lost <= 0:
            return "no quality was lost"
        before, after = latest.baseline.quality, latest.compressed.quality
        if before and after:
            return f"quality fell by {metrics.amount(after.kind, lost)}"
        kept, fidelity = percent_kept(1 - lost), latest.compressed.fidelity
        if fidelity and fidelity.bounded == "explained":
            return f"{kept} of the outputs' variance was kept"
        return f"{kept} of answers stayed the same"

    @property
    def minutes(self) -> float:
        """How long the jobs ran."""
        return median(job.minutes for job in self.jobs)


@dataclass(frozen=True)
class History:
    """The jobs on a model and on those that are like it, with the data that advice is asked for.

    On the model they had the very same; other models have data of their own, and any tells.
    """

    model: str
    precedents: Sequence[Precedent]
    """The latest first."""
    with_other_data: Sequence[Precedent] = ()
    """Jobs on the model itself whose results are as large with any data; the latest first."""

    def of(self, steps: Iterable[AnyStep]) -> Experience | None:
        """Return what jobs of these steps came to; those on the model itself count alone."""
        return self.signed(signature(steps))

    def signed(self, wanted: str) -> Experience | None:
        """Return what jobs of a signature came to; those on the model itself count alone."""
        same = [each for each in self.precedents if each.signature == wanted]
        own = [each for each in same if each.model == self.model]
        return Experience(own or same, of_this_model=bool(own)) if same else None

    def size_of(self, steps: Iterable[AnyStep]) -> Experience | None:
        """Return the jobs with other data that tell how large the model is after these steps."""
        wanted = signature(steps)
        same = [each for each in self.with_other_data if each.signature == wanted]
        return Experience(same, of_this_model=True) if same else None

    def ruined_by(self, steps: Sequence[AnyStep]) -> int:
        """Return how many jobs ruined the model itself by such steps, whatever their strength."""
        sorts = _sorts(steps)
        own = (job for job in self.precedents if job.model == self.model and job.ruined)
        return sum(_sorts(job.steps) == sorts for job in own)

    @property
    def latency_ms(self) -> float | None:
        """The latest latency of the model itself; None where it was not timed."""
        own = (each.baseline.latency_ms for each in self.precedents if each.model == self.model)
        return next((latency for latency in own if latency is not None), None)


def ruined_before(session: Session, tenant: str, request: JobRequest, inputs: Inputs) -> str | None:
    """Return the job that did what is asked for and ruined the model; None where none did.

    It is the latest of those with the same steps on the same samples.
    """
    description = inputs.model.description
    if description is None or not request.steps:
        return None
    steps = [step.model_dump(mode="json") for step in request.steps]
    key = likeness(description)
    for row in precedents.of_same_steps(session, tenant, key, request.model, steps):
        if JobRequest.model_validate(row.request).samples == request.samples:
            figures = (Measures.model_validate(each) for each in (row.baseline, row.compressed))
            return (row.name or row.id) if ruined(*figures) else None
    return None


def history(
    session: Session, tenant: str, model: str, description: ModelDescription, samples: str | None
) -> History:
    """Return what the tenant's jobs measured on a model and on those that are like it.

    With other data steps choose otherwise, samples have other sizes, and quality is another: so
    only jobs count that had the same data, or none where none is given. Jobs on the model itself
    with other data tell how large it gets, where steps need no samples to know that.

    Args:
        session: of the transaction.
        tenant: whose jobs they are.
        model: the id of the model.
        description: what is known of it.
        samples: the id of a dataset, or ``generated``; None for no data.
    """
    rows = precedents.of_like_models(session, tenant, alike(likeness(description)))
    alike_in_data, with_other_data = list[Precedent](), list[Precedent]()
    for row in rows:
        request = JobRequest.model_validate(row.request)
        if not request.steps:
            continue
        if _alike_in_data(request, model, samples):
            alike_in_data.append(_precedent(row, request, request.steps))
        elif request.model == model and all(step.sized_by_parameters for step in request.steps):
            with_other_data.append(_precedent(row, request, request.steps))
    return History(model, alike_in_data, with_other_data)


def _precedent(row: Row[Any], request: JobRequest, steps: Sequence[AnyStep]) -> Precedent:
    return Precedent(
        job=row.id,
        name=row.name,
        model=row.model_id,
        steps=steps,
        samples=request.samples,
        judged_on=request.evaluate.dataset or request.samples,
        baseline=Measures.model_validate(row.baseline),
        compressed=Measures.model_validate(row.compressed),
        latency=row.latency and Latency.model_validate(row.latency),
        minutes=row.running_seconds / 60,
    )


def _alike_in_data(request: JobRequest, model: str, samples: str | None) -> bool:
    if request.model == model:
        return request.samples == samples
    return _sort_of(request.samples) == _sort_of(samples)


def _sort_of(samples: str | None) -> Literal["none", "generated", "dataset"]:
    if samples is None:
        return "none"
    return "generated" if samples == GENERATED else "dataset"
