"""What tests of the API share: clients, and rows as a worker leaves them behind."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import func

from app.domain import ids
from app.domain.problems import InvalidModel, QualityBelowRequirement
from app.store import blob_rows, counters, events, transitions
from app.store.session import Sessions
from app.store.tables import ArtifactRow, DatasetRow, JobRow, ModelRow, StepRow, WorkerRow

MODEL = {
    "format": "onnx",
    "opset": 20,
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3, 32, 32]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["N", 10]}],
    "operators": {"Conv": 1, "Gemm": 1},
    "parameters": 1300,
    "nonzero_parameters": 1300,
    "macs": 500_000,
    "layers": [
        {"name": "conv", "operator": "Conv", "parameters": 300, "macs": 400_000},
        {"name": "fc", "operator": "Gemm", "parameters": 1000, "macs": 100_000},
    ],
}
DATASET = {
    "format": "npz",
    "samples": 100,
    "arrays": [{"name": "x", "dtype": "float32", "shape": [100, 3, 32, 32]}],
    "targets": {"dtype": "int64", "shape": [100], "classes": 10},
}
MEASURES: dict[str, Any] = {
    "size_bytes": 4000,
    "parameters": 1300,
    "nonzero_parameters": 1300,
    "macs": 500_000,
    "latency_ms": 1.5,
    "quality": {"metric": "top1", "value": 0.9, "split": "held_out", "samples": 20},
    "fidelity": None,
}
FIDELITY: dict[str, Any] = {
    "sqnr_db": 31.0,
    "agreement": 0.98,
    "explained": 0.97,
    "worst": {"output": "<b>y</b>", "channel": 3, "explained": -0.5, "others": 0.99},
    "commonest": 0.4,
    "bounded": "agreement",
    "samples": 200,
    "beside": [],
}
STEP_REPORT: dict[str, Any] = {
    "index": 0,
    "method": "quantize",
    "parameters": {"mode": "dynamic"},
    "seconds": 1.25,
    "before": MEASURES,
    "after": {**MEASURES, "size_bytes": 1200, "fidelity": FIDELITY},
    "layers": [
        {
            "node": "<script>alert(1)</script>",
            "operator": "Gemm",
            "change": "float32 → int8, per channel",
            "bytes_before": 4000,
            "bytes_after": 1000,
            "sqnr_db": 40.0,
        }
    ],
    "skipped": [{"node": "conv", "reason": "slower in int8"}],
}
MACHINE = {
    "system": "Linux",
    "processor": "x86",
    "cores": 2,
    "memory_bytes": 8 * 1024**3,
    "instruction_sets": ["avx2"],
    "device": "cpu",
}
EVALUATION: dict[str, Any] = {
    "metric": "top1",
    "split": "held_out",
    "generated": None,
    "dataset": None,
    "indices": [1, 2, 3],
    "threads": 2,
    "runtime": "onnxruntime 1.32.0, CPUExecutionProvider",
    "latency": {
        "original": {"median": 1.5, "p10": 1.4, "p90": 1.7, "runs": 50},
        "compressed": {"median": 0.5, "p10": 0.4, "p90": 0.6, "runs": 50},
        "speedup": 3.0,
        "speedup_low": 2.95,
        "speedup_high": 3.05,
        "certain": True,
        "left_out": 4,
        "one_thread": None,
    },
    "portability": None,
    "notes": ["dimension N was measured as 1"],
}
MANIFEST = {
    "model_sha256": "0" * 64,
    "dataset_sha256": None,
    "data": None,
    "evaluate_dataset_sha256": None,
    "steps": [{"method": "quantize", "mode": "static"}],
    "evaluate": {},
    "require": {},
    "deliver": ["onnx"],
    "seed": 0,
    "versions": {"onnxruntime": "1.32.0"},
    "machine": MACHINE,
    "artifacts": {"model.onnx": "1" * 64},
}
DYNAMIC = [{"method": "quantize", "mode": "dynamic"}]


@dataclass(frozen=True)
class Service:
    """A gateway, two tenants' clients, and the store behind it."""

    url: str
    http: httpx.Client
    other: httpx.Client
    store: Sessions

    @property
    def key(self) -> str:
        """The API key of the tenant acme."""
        return str(self.http.headers["Authorization"]).removeprefix("Bearer ")

    def model(self, content: bytes = b"a model" * 20, **changes: Any) -> str:
        """Upload a model and let it be found ready."""
        answer = self.http.post("/v1/models", content=content)
        assert answer.status_code == 201, answer.text
        with self.store.begin() as session:
            row = session.get_one(ModelRow, answer.json()["id"])
            row.status, row.description = "ready", {**MODEL, **changes}
            row.onnx_sha256 = row.graph_sha256 = row.sha256
        return row.id

    def rejected_model(self, why: str = "It has no nodes.") -> str:
        """Upload a model and let it be rejected."""
        model = self.model()
        with self.store.begin() as session:
            row = session.get_one(ModelRow, model)
            row.status, row.description, row.onnx_sha256 = "rejected", None, None
            row.problem = InvalidModel(why).details().model_dump(mode="json")
        return model

    def dataset(self, content: bytes = b"a dataset" * 20, **changes: Any) -> str:
        """Upload a dataset and let it be found ready."""
        answer = self.http.post("/v1/datasets", content=content)
        assert answer.status_code == 201, answer.text
        with self.store.begin() as session:
            row = session.get_one(DatasetRow, answer.json()["id"])
            row.status, row.description = "ready", {**DATASET, **changes}
        return row.id

    def job(self, model: str | None = None, **more: Any) -> dict[str, Any]:
        """Submit a job."""
        body = {"model": model or self.model(), "steps": DYNAMIC, **more}
        answer = self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def start(self, job_id: str) -> None:
        """Let a worker claim the job and say how far it is."""
        with self.store.begin() as session:
            row = session.get_one(JobRow, job_id)
            row.attempts += 1
            row.started_at = func.now()
            transitions.enter(session, row, "running", "starting")
            events.append(session, job_id, "progress", {"progress": 0.5, "stage": "quantize"})
            row.progress = 0.5

    def finish(self, job_id: str, *, failed: bool = False) -> str:
        """Let the job end with a step, an artifact and a report; return the artifact's id."""
        artifact = ids.new("art")
        with self.store.begin() as session:
            row = session.get_one(JobRow, job_id)
            model = session.get_one(ModelRow, row.model_id)
            sha256, size = model.sha256, model.size_bytes
            blob_rows.touch(session, sha256, size)
            session.add(
                StepRow(
                    job_id=job_id,
                    index=0,
                    tenant=row.tenant,
                    graph_sha256=sha256,
                    size_bytes=size,
                    finished={},
                    report=STEP_REPORT,
                )
            )
            method, seconds = STEP_REPORT["method"], STEP_REPORT["seconds"]
            counters.add(session, counters.STEPS, {method: 1})
            counters.add(session, counters.STEP_SECONDS, {method: seconds})
            session.add(
                ArtifactRow(
                    id=artifact,
                    tenant=row.tenant,
                    job_id=job_id,
                    format="onnx",
                    filename="model.onnx",
                    sha256=sha256,
                    size_bytes=size,
                )
            )
            row.baseline, row.compressed = MEASURES, STEP_REPORT["after"]
            row.evaluation, row.manifest = EVALUATION, MANIFEST
            row.verdict = "3 times faster"
            problem = QualityBelowRequirement("It lost 2 points.") if failed else None
            transitions.finish(session, row, "failed" if failed else "succeeded", problem)
        return artifact

    def worker(self, target: str, labels: Sequence[str] = ()) -> None:
        """Let a worker announce that it delivers ``target``, and what else it has."""
        device = {"name": "cpu", "kind": "cpu", "instruction_sets": ["avx2"], "threads": 2}
        runtime = {"target": target, "runtime": "it", "version": "1", "accelerates": ["int8"]}
        offers = {"machine": MACHINE, "versions": {}, "targets": [{**runtime, "devices": [device]}]}
        with self.store.begin() as session:
            session.add(
                WorkerRow(
                    id=ids.new("wrk"),
                    hostname="host",
                    pid=1,
                    queue="jobs",
                    device="cpu",
                    labels=[*labels],
                    capabilities=offers,
                )
            )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pointers(answer: httpx.Response) -> list[str]:
    """The places that a problem names."""
    return [error["pointer"] for error in answer.json().get("errors", [])]
