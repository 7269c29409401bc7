"""A job whose price list is gone from the storage measures by itself."""

from dataclasses import replace
from pathlib import Path

from app.domain.directory import PRICES
from app.domain.jobs import JobRequest
from app.store.price_lists import PriceList
from tests.workers.claimed import SHA256, claim_of
from workers.runs.layout import lay_out
from workers.worker import Worker


def test_a_lost_list_does_not_fail_the_job(worker: Worker, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"a model")
    stored = worker.blobs.put_file(file).sha256
    request = JobRequest.model_validate({"model": "mdl_1", "steps": [{"method": "quantize"}] * 2})
    claimed = replace(
        claim_of("job_1", request),
        onnx_sha256=stored,
        graph_sha256=stored,
        price_lists={0: PriceList("lost", SHA256), 1: PriceList("kept", stored)},
    )
    lay_out(worker, claimed, tmp_path / "job")
    assert [path.read_bytes() for path in sorted(tmp_path.glob(f"job/**/{PRICES}"))] == [b"a model"]
