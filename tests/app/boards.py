"""What tests of devices share: a board, what its agent calls, and jobs that it times."""

import os
import subprocess
import sys
from typing import Any

import httpx

from tests.app.service import Service

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


def agent(url: str, *options: str, **environment: str) -> "subprocess.Popen[str]":
    """Start ``planish agent`` as the board does; what it says is in ``stderr``."""
    command = [sys.executable, "-m", "planish", "agent", "--target", "my-board"]
    command += ["--threads", "1", "--seconds", "1", "--url", url, *options]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )


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
