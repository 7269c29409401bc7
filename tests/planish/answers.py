"""Resources as the service shows them."""

import hashlib
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
CONTENT = b"a small model"
MEASURES = {
    "size_bytes": 4000,
    "parameters": 1300,
    "nonzero_parameters": 1300,
    "macs": 500_000,
    "latency_ms": 1.5,
    "quality": None,
    "fidelity": None,
}
DONE: dict[str, Any] = {
    **JOB,
    "name": "[bold]mine[/]",
    "baseline": MEASURES,
    "compressed": {**MEASURES, "size_bytes": 1000},
    "verdict": "4 times smaller",
    "artifacts": [
        {
            "id": "art_1",
            "format": "onnx",
            "filename": "mine-quantize.onnx",
            "size_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "href": "/v1/artifacts/art_1/content",
        }
    ],
}
"""A job whose result can be downloaded: `CONTENT`."""
NO_MODEL: dict[str, Any] = {
    "type": "invalid-request",
    "title": "The request is invalid",
    "status": 422,
    "detail": "There is no model ''.",
    "errors": [{"pointer": "#/model", "detail": "There is no model ''."}],
}
"""The answer to the plan of a job whose model is not uploaded yet, where nothing else is wrong."""

_SPREAD = {"p10": 1.0, "p90": 20.0, "runs": 9}
REPORT: dict[str, Any] = {
    "evaluation": {
        "threads": 2,
        "sample_sizes": {"width": 40},
        "latency": {
            "original": {**_SPREAD, "median": 7.0},
            "compressed": {**_SPREAD, "median": 2.0},
            "speedup": 1.6,
            "speedup_low": 1.4,
            "speedup_high": 1.75,
            "certain": False,
            "what_a_newer_service_tells": 1,
        },
    }
}
"""What was measured on a busy machine, whose two medians are of different moments."""
UPLOAD: dict[str, Any] = {
    "id": "upl_1",
    "length": 1000,
    "offset": 0,
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-02T00:00:00Z",
}
"""One that was begun."""
