"""A model by its address, through a whole service: fetched, inspected, compressed."""

from pathlib import Path

import pytest

import planish
from planish import embedded
from tests.e2e.service import small_model
from tests.fileserver import content, files


def test_a_model_is_fetched_inspected_and_compressed(tmp_path: Path) -> None:
    with files() as host:
        host.answers["/net.onnx"] = content(small_model())
        allowed = {"FETCH_ALLOWED": host.url, "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128"}
        with embedded.running(**allowed) as url, planish.Client(url) as client:
            model = client.models.upload(f"{host.url}/net.onnx")
            assert (model.status, model.size_bytes) == ("ready", len(small_model()))
            step = {"method": "quantize", "mode": "float16", "force": True}
            job = client.jobs.create(model, [step]).wait(progress=False)
            assert job.download(tmp_path / "small.onnx").stat().st_size > 0
            with pytest.raises(planish.Rejected, match="404"):
                client.models.upload(f"{host.url}/none.onnx")
