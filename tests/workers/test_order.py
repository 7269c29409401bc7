"""What the engine is told of a job: the chart of its model goes to a step that reads it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain import ids
from app.domain.directory import Compress
from app.domain.jobs import JobRequest
from app.store import sensitivities
from app.store.tables import JobRow
from tests.app.test_sensitivity import chart
from tests.workers.claimed import claim_of, store_model
from tests.workers.worker import settings_of, worker_with
from workers.runs.order import order
from workers.worker import Worker


@pytest.fixture
def worker(database: str, redis_url: str, storage_url: str, tmp_path: Path) -> Iterator[Worker]:
    """A worker that starts no engine."""
    with worker_with(settings_of(database, redis_url, storage_url), tmp_path) as made:
        yield made


@pytest.fixture
def model(worker: Worker) -> str:
    """A model with a chart on the dataset ``dst_1``."""
    with worker.sessions.begin() as session:
        made = store_model(session, "t")
        job = JobRow(
            id=ids.new("job"), tenant="t", tags=[], model_id=made, dataset_id="dst_1", request={}
        )
        sensitivities.keep(session, job, chart())
        return made


@pytest.mark.parametrize(
    ("steps", "dataset", "given"),
    [
        ([{"method": "quantize"}], "dst_1", True),
        ([{"method": "quantize", "mode": "static"}], "dst_1", True),
        ([{"method": "quantize"}], "dst_2", False),
        ([{"method": "quantize", "mode": "static", "weights": "int4"}], "dst_1", False),
        ([{"method": "prune"}, {"method": "quantize"}], "dst_1", False),
    ],
    ids=["auto", "static", "of other data", "in other bits", "after another step"],
)
def test_a_first_step_that_reads_the_chart_gets_it(
    worker: Worker, model: str, steps: list[dict[str, str]], dataset: str, *, given: bool
) -> None:
    request = JobRequest.model_validate({"model": model, "dataset": dataset, "steps": steps})
    made = order(worker, claim_of(ids.new("job"), request), {})
    assert isinstance(made, Compress)
    assert made.chart == (chart() if given else None)
