"""Times of single layers: kept with what they hold for, and taken by later jobs of the tenant."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import onnx_ir as ir
import pytest
from sqlalchemy import func, select, update

from app.domain import ids
from app.domain.directory import Compress, MeasureSensitivity
from app.domain.jobs import JobRequest
from app.domain.layer_times import form_of
from app.domain.steps import LowRank
from app.store import layer_times, measured, retention
from app.store.tables import JobRow, LayerTimeRow
from tests.workers import zoo
from tests.workers.claimed import claim_of, store_model
from tests.workers.worker import CAPABILITIES, settings_of, worker_with
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.operators import is_layer
from workers.compression.known_times import KnownTimes
from workers.compression.measure.clock import LayerTimes
from workers.compression.methods.low_rank.budget import time_of
from workers.compression.methods.low_rank.layers import select as factorizable
from workers.compression.methods.prune.groups import analyse
from workers.compression.methods.prune.latency import layer_time
from workers.compression.methods.prune.survey import Survey, survey_graph
from workers.compression.samples.context import Context
from workers.runs.order import order
from workers.worker import Worker

CONV, GEMM = form_of("a convolution"), form_of("a product")


@pytest.fixture
def worker(database: str, redis_url: str, storage_url: str, tmp_path: Path) -> Iterator[Worker]:
    """A worker that has announced its machine, and starts no engine."""
    with worker_with(settings_of(database, redis_url, storage_url), tmp_path) as made:
        made.ability.capabilities = CAPABILITIES
        yield made


def given(worker: Worker, tenant: str, **asked: object) -> dict[str, float]:
    """Return the times that the engine is given for a job of a tenant."""
    with worker.sessions.begin() as session:
        model = store_model(session, tenant)
        job = JobRow(id=ids.new("job"), tenant=tenant, tags=[], model_id=model, request={})
        session.add(job)
    request = JobRequest.model_validate({"model": model, "dataset": "dst_1", **asked})
    told = order(worker, claim_of(job.id, request), {})
    assert isinstance(told, Compress | MeasureSensitivity)
    return told.layer_times


def keep(worker: Worker, times: dict[str, float], conditions: str | None = None) -> None:
    with worker.sessions.begin() as session:
        here = conditions or worker.conditions
        assert here is not None
        layer_times.keep(session, "t", here, times)


def grow_old(worker: Worker) -> None:
    """Let all times have been measured longer ago than they count."""
    long_ago = func.now() - timedelta(days=measured.DAYS + 1)
    with worker.sessions.begin() as session:
        session.execute(update(LayerTimeRow).values(measured_at=long_ago))


def test_a_job_that_times_layers_is_given_what_earlier_ones_measured(worker: Worker) -> None:
    timed = [{"method": "prune", "of": "latency"}]
    assert given(worker, "t", steps=timed) == {}
    keep(worker, {CONV: 1.5, GEMM: 0.5})
    keep(worker, {CONV: 9.0}, "another machine")
    assert given(worker, "t", steps=timed) == {CONV: 1.5, GEMM: 0.5}
    assert given(worker, "t", measure="sensitivity") == {CONV: 1.5, GEMM: 0.5}
    assert given(worker, "t", steps=[{"method": "prune"}]) == {}, "it times none"
    assert given(worker, "other", steps=timed) == {}


def test_the_less_disturbed_time_counts_and_old_ones_are_measured_again(worker: Worker) -> None:
    timed = [{"method": "low_rank", "of": "latency"}]
    keep(worker, {CONV: 1.5, GEMM: 0.5})
    keep(worker, {CONV: 1.0, GEMM: 0.75})
    assert given(worker, "t", steps=timed) == {CONV: 1.0, GEMM: 0.5}
    grow_old(worker)
    assert given(worker, "t", steps=timed) == {}
    keep(worker, {CONV: 2.0})
    assert given(worker, "t", steps=timed) == {CONV: 2.0}


def test_old_times_go_though_their_tenant_never_comes_back(worker: Worker) -> None:
    keep(worker, {CONV: 1.5})
    grow_old(worker)
    with worker.sessions.begin() as session:
        assert worker.conditions is not None
        layer_times.keep(session, "other", worker.conditions, {CONV: 1.5})
        retention.forget_expired(session, idempotency_hours=24)
        assert session.scalars(select(LayerTimeRow.tenant)).all() == ["other"]


def test_no_more_times_are_kept_than_a_job_is_given(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_times, "MOST", 3)
    keep(worker, {form_of(number): 1.0 for number in range(5)})
    assert len(given(worker, "t", measure="sensitivity")) == 3
    with worker.sessions() as session:
        assert session.query(LayerTimeRow).count() == 3


def surveyed() -> tuple[ir.Model, Survey]:
    model = zoo.graph("residual")
    name_nodes(model)
    return model, survey_graph(model, Context(train=None, seed=0, threads=1))


def timed(known: KnownTimes) -> list[float]:
    """Time the layers of a graph, whole and with all units removed that may be."""
    model, survey = surveyed()
    analysis = analyse(model, survey.shapes, lambda _: False)
    times, narrow = LayerTimes(1, known), analysis.none_removed()
    for group in analysis.groups:
        narrow[group.units[8:]] = True
    return [
        layer_time(node, removed, analysis, survey.sample, times)
        for node in model.graph
        if is_layer(node)
        for removed in (analysis.none_removed(), narrow)
    ]


def test_layers_of_the_same_form_are_known_in_a_later_run() -> None:
    first = KnownTimes()
    found = timed(first)
    assert len(first.handed_on) > 4
    assert first.note() == []
    second = KnownTimes(first.handed_on)
    assert timed(second) == found
    assert second.measured == {}
    assert second.note()[0].startswith(f"{len(first.measured)} times of layers were measured by")


def test_what_one_method_timed_another_one_knows() -> None:
    known = KnownTimes()
    timed(known)
    before, (model, survey) = dict(known.measured), surveyed()
    layers, _ = factorizable(model, LowRank(), survey.sample, 1)
    assert layers
    for layer in layers:
        assert time_of(layer, None, LayerTimes(1, known)) in before.values()
    assert known.measured == before
