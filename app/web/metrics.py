"""``/metrics``: what this process served, and what the job store holds, for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from app.services import figures

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


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
        held = figures.stored(self._session)
        jobs = GaugeMetricFamily("planish_jobs", "Jobs by status.", labels=["status"])
        for status, count in held.jobs.items():
            jobs.add_metric([status], count)
        yield jobs
        for name, text, value in (
            ("planish_queue_age_seconds", "Wait of the oldest queued job.", held.queue_age),
            ("planish_webhook_backlog", "Deliveries still to be made.", held.backlog),
            ("planish_stored_bytes", "Bytes that count against quotas.", held.stored_bytes),
        ):
            yield GaugeMetricFamily(name, text, value)
        steps = SummaryMetricFamily(
            "planish_step_seconds", "Duration of the stored steps.", labels=["method"]
        )
        for method, (count, seconds) in held.steps.items():
            steps.add_metric([method], count, seconds)
        yield steps
        seen = GaugeMetricFamily(
            "planish_workers",
            "Worker processes seen in the last minute.",
            labels=["queue", "device", "state"],
        )
        for state, number in held.workers.items():
            seen.add_metric(list(state), number)
        yield seen
        for counted in figures.of_workers(self._session):
            family = CounterMetricFamily(counted.name, counted.text, labels=[counted.label])
            for label, total in counted.values.items():
                family.add_metric([label], total)
            yield family
