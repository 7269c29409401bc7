"""What tests of devices share: a board, what its agent calls, and jobs that it times."""

from typing import Any

import httpx
import pytest

from tests.app.service import EVALUATION, Service

Json = dict[str, Any]

BOARD = {
    "name": "my-board",
    "formats": ["onnx"],
    "runtime": "onnxruntime 1.32.0, CPUExecutionProvider",
    "machine": "a board",
    "threads": 4,
}
RUN = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 16], "below": None}],
    "samples": 1,
}
SPREAD = {"median": 4.0, "p10": 3.9, "p90": 4.2, "runs": 50}
TIMES: Json = {
    "original": SPREAD,
    "compressed": {"median": 1.0, "p10": 0.9, "p90": 1.1, "runs": 50},
    "speedup": 4.0,
    "speedup_low": 3.95,
    "speedup_high": 4.05,
    "certain": True,
    "left_out": 2,
}


@pytest.fixture
def timed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports say what a timed run reads, as those of this version do."""
    monkeypatch.setitem(EVALUATION, "run", RUN)


def register(http: httpx.Client, **changes: Any) -> Json:
    answer = http.post("/v1/devices", json={**BOARD, **changes})
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


def ask(http: httpx.Client, device: Json, path: str, body: Json | None = None) -> httpx.Response:
    """Call as the device's agent does."""
    headers = {"Planish-Device-Token": device["token"]}
    return http.post(f"/v1/devices/{device['id']}/measurements/{path}", json=body, headers=headers)


def claim(http: httpx.Client, device: Json) -> Json | None:
    answer = ask(http, device, "claim")
    assert answer.status_code == 200, answer.text
    task: Json | None = answer.json()["task"]
    return task


def claimed(service: Service, device: Json) -> Json:
    task = claim(service.http, device)
    assert task is not None
    return task


def finding(task: Json, **changes: Any) -> Json:
    body = {"token": task["token"], "sha256": task["candidate"]["sha256"], "latency": TIMES}
    return {**body, **changes}


def report(service: Service, device: Json, task: Json, **changes: Any) -> httpx.Response:
    return ask(service.http, device, f"{task['id']}/report", finding(task, **changes))


def filed(service: Service, **more: Any) -> str:
    """Let a job for the board end; return its id."""
    job: str = service.job(target="my-board", **more)["id"]
    service.start(job)
    service.finish(job)
    return job


def measured(service: Service, job: str) -> list[Json]:
    answer = service.http.get(f"/v1/jobs/{job}/measurements")
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items
