"""A model that is logged in a real MLflow server is compressed, and logged as its next version.

MLflow's packages disagree with ours: ``PLANISH_MLFLOW_PYTHON`` names a Python that has them
(an environment of its own with ``pip install '.[mlflow]'``); without it the test is skipped.
"""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from planish import embedded
from tests.e2e.service import small_model
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("PLANISH_MLFLOW_PYTHON", "")


@contextmanager
def tracking(directory: Path) -> Iterator[str]:
    """Run a tracking server that keeps all in a directory."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db", "--workers", "1"]
    options += ["--artifacts-destination", str(directory / "files"), "--port", str(port)]
    argv = [PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", *options]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        try:
            eventually(lambda: _answers(f"{url}/health"), 90, "MLflow's answer")
            yield url
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # it has workers that take their time
            server.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.mark.skipif(not PYTHON, reason="PLANISH_MLFLOW_PYTHON names no Python with mlflow")
@pytest.mark.timeout(300)
def test_a_logged_model_becomes_a_smaller_version_with_its_report(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(small_model())
    rows = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", allow_pickle=False, x=rows)
    with tracking(tmp_path) as mlflow, embedded.running() as service:
        script = str(Path(__file__).with_name("mlflow_session.py"))
        done = subprocess.run(
            [PYTHON, script, mlflow, service, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"] in {2, "2"}
    assert found["tags"]["planish.source"] == "models:/net/1"
    assert found["tags"]["planish.job"].startswith("job_")
    assert found["artifacts"] == ["report.html", "report.json"]
    assert found["metrics"]["original_size_bytes"] > 0
    assert 0 <= found["metrics"]["agreement"] <= 1
    assert "MatMulInteger" in found["operators"] or "DynamicQuantizeLinear" in found["operators"]
