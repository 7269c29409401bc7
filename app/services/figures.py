"""What the job store holds, in figures for those who run the service."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from sqlalchemy.orm import Session

from app.domain.jobs import JobStatus
from app.domain.request_parts import device_kind
from app.store import counters, stats, workers

WorkerState = tuple[str, str, str]
"""A queue, a kind of device, and whether its workers are able."""

_KINDS = ("job", "model", "dataset")
_STATES: tuple[WorkerState, ...] = (("jobs", "cpu", "able"), ("light", "cpu", "able"))


@dataclass(frozen=True)
class Counted:
    """A figure that workers add to, with a label."""

    name: str
    label: str
    text: str
    values: Mapping[str, float]
    """By the label's values; those that are known are there with 0."""


_OF_WORKERS: tuple[tuple[str, str, str, tuple[str, ...], str], ...] = (
    (
        "planish_worker_claims",
        counters.CLAIMS,
        "kind",
        _KINDS,
        "Jobs and uploads that workers have claimed.",
    ),
    (
        "planish_worker_lost_leases",
        counters.LOST_LEASES,
        "kind",
        _KINDS,
        "Claims that workers lost: they were silent for too long, or the row was deleted.",
    ),
    (
        "planish_engine_deaths",
        counters.ENGINE_DEATHS,
        "reason",
        ("exited", "killed", "memory", "storage", "deadline"),
        "Engine processes that ended without an answer.",
    ),
    (
        "planish_worker_stage_seconds",
        counters.STAGE_SECONDS,
        "stage",
        ("fetch", "engine", "store", "publish"),
        "Time that workers spent on jobs and uploads.",
    ),
    (
        "planish_worker_device_seconds",
        counters.DEVICE_SECONDS,
        "device",
        ("cpu",),
        "Time in which an engine ran on a device.",
    ),
)
"""Name, counter, label, its values that are shown at 0, description."""


@dataclass(frozen=True)
class Stored:
    """What the job store holds now."""

    jobs: Mapping[str, int]
    """By status."""
    queue_age: float
    """Seconds that the oldest queued job has waited."""
    backlog: int
    """Webhook deliveries still to be made."""
    steps: Mapping[str, tuple[int, float]]
    """By method: how many were stored, and the seconds that they took together."""
    stored_bytes: float
    """Bytes that count against quotas, of all tenants."""
    workers: Mapping[WorkerState, int]


def stored(session: Session) -> Stored:
    """Return what the job store holds now."""
    counts = stats.jobs_by_status(session)
    states = Counter[WorkerState](
        (row.queue, device_kind(row.device), "unable" if row.unable else "able")
        for row in workers.alive(session)
    )
    return Stored(
        jobs={status: counts.get(status, 0) for status in get_args(JobStatus)},
        queue_age=stats.queue_age(session),
        backlog=stats.pending_deliveries(session),
        steps=stats.step_seconds(session),
        stored_bytes=counters.total_of_all(session, counters.STORED_BYTES),
        workers={**dict.fromkeys(_STATES, 0), **states},
    )


def of_workers(session: Session) -> Iterator[Counted]:
    """Yield what workers have counted."""
    for name, counter, label, known, text in _OF_WORKERS:
        totals = counters.totals(session, counter)
        values = {value: totals.get(value, 0.0) for value in sorted({*known, *totals})}
        yield Counted(name, label, text, values)
