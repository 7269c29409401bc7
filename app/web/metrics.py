"""``/metrics``: what this process served, and what the job store holds, for Prometheus."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from app.domain.jobs import JobStatus
from app.store import stats

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
