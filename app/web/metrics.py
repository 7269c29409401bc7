"""``/metrics``: what this process served, and what the job store holds, for Prometheus."""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from app.domain.jobs import JobStatus
from app.domain.request_parts import device_kind
from app.store import counters, stats, workers

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

_KINDS = ("job", "model", "dataset")
_STATES = (("jobs", "cpu", "able"), ("light", "cpu", "able"))
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
"""Counters of workers: name, figure, label, its values that are shown at 0, description."""


class Metrics:
    """The figures of one gateway process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Histogram(
            "planish_http_request_seconds",
            "Time until an answer was sent, by route.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def render(self, session: Session) -> bytes:
        """Return everything in Prometheus' text format."""
        store = CollectorRegistry()
        store.register(_Store(session))
        return generate_latest(self._registry) + generate_latest(store)


class _Store(Collector):
    def __init__(self, session: Session) -> None:
        self._session = session

    def describe(self) -> Iterator[Metric]:
        """Say nothing beforehand, so that registering asks no database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Ask the job store."""
        counts = stats.jobs_by_status(self._session)
        jobs = GaugeMetricFamily("planish_jobs", "Jobs by status.", labels=["status"])
        for status in get_args(JobStatus):
            jobs.add_metric([status], counts.get(status, 0))
        yield jobs
        age = stats.queue_age(self._session)
        yield GaugeMetricFamily("planish_queue_age_seconds", "Wait of the oldest queued job.", age)
        backlog = stats.pending_deliveries(self._session)
        yield GaugeMetricFamily("planish_webhook_backlog", "Deliveries still to be made.", backlog)
        steps = SummaryMetricFamily(
            "planish_step_seconds", "Duration of the stored steps.", labels=["method"]
        )
        for method, (count, seconds) in stats.step_seconds(self._session).items():
            steps.add_metric([method], count, seconds)
        yield steps
        stored = counters.total_of_all(self._session, counters.STORED_BYTES)
        yield GaugeMetricFamily("planish_stored_bytes", "Bytes that count against quotas.", stored)
        yield self._workers()
        yield from self._of_workers()

    def _workers(self) -> Metric:
        labels = ["queue", "device", "state"]
        family = GaugeMetricFamily(
            "planish_workers", "Worker processes seen in the last minute.", labels=labels
        )
        states = Counter[tuple[str, str, str]](
            (row.queue, device_kind(row.device), "unable" if row.unable else "able")
            for row in workers.alive(self._session)
        )
        for state in _STATES:
            family.add_metric(list(state), states.pop(state, 0))
        for state, count in states.items():
            family.add_metric(list(state), count)
        return family

    def _of_workers(self) -> Iterator[Metric]:
        for name, figure, label, known, text in _OF_WORKERS:
            family = CounterMetricFamily(name, text, labels=[label])
            totals = counters.totals(self._session, figure)
            for value in sorted({*known, *totals}):
                family.add_metric([value], totals.get(value, 0.0))
            yield family
