"""Resources as the service shows them."""

from typing import Any

JOB: dict[str, Any] = {
    "id": "job_1",
    "status": "succeeded",
    "stage": "succeeded",
    "progress": 1.0,
    "model": "mdl_1",
    "dataset": None,
    "name": None,
    "tags": [],
    "steps": [],
    "priority": 0,
    "seed": 0,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": None,
    "finished_at": None,
    "attempts": 1,
    "queue_position": None,
    "eta_seconds": None,
    "usage": {"cpu_seconds": 0, "gpu_seconds": 0, "peak_memory_bytes": 0},
    "baseline": None,
    "compressed": None,
    "artifacts": [],
}
MODEL: dict[str, Any] = {
    "id": "mdl_1",
    "name": None,
    "format": None,
    "status": "inspecting",
    "sha256": "0",
    "size_bytes": 5,
    "parameters": None,
    "macs": None,
    "opset": None,
    "inputs": None,
    "outputs": None,
    "operators": None,
    "created_at": "2026-01-01T00:00:00Z",
}
DATASET: dict[str, Any] = {
    "id": "dst_1",
    "name": None,
    "format": None,
    "status": "ready",
    "sha256": "0",
    "size_bytes": 5,
    "samples": 2,
    "arrays": [],
    "targets": None,
    "created_at": "2026-01-01T00:00:00Z",
}
ENDED = 'id: 1\nevent: state\ndata: {"status": "succeeded", "stage": "x"}\n\n'
"""The event that a job ends with."""
