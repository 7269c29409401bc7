"""Files of other frameworks through the real service: uploaded, converted, compressed."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from tests.e2e.service import Service
from tests.waiting import eventually

os.environ["KERAS_BACKEND"] = "torch"

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks' own deprecations


def keras_file(path: Path) -> bytes:
    import keras

    model = keras.Sequential(
        [
            keras.layers.Input((8,), name="x"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(3, name="y"),
        ]
    )
    model.save(path / "model.keras")
    return (path / "model.keras").read_bytes()


def script_file(_: Path) -> bytes:
    file = io.BytesIO()
    module = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def upload(service: Service, content: bytes, **params: str) -> dict[str, Any]:
    """Upload a file and return the model once it is inspected."""
    made = service.http.post("/v1/models", content=content, params=params)
    assert made.status_code == 201, made.text
    path = f"/v1/models/{made.json()['id']}"

    def settled() -> dict[str, Any] | None:
        found: dict[str, Any] = service.http.get(path).json()
        return None if found["status"] == "inspecting" else found

    return eventually(settled, 120, "the inspection")


@pytest.mark.parametrize("kind", ["keras", "torchscript"])
def test_a_file_of_another_framework_is_compressed(
    service: Service, tmp_path: Path, kind: str
) -> None:
    content = {"keras": keras_file, "torchscript": script_file}[kind](tmp_path)
    shape = '[{"name": "x", "shape": ["batch", 8]}]'
    model = upload(service, content, **({"inputs": shape} if kind == "torchscript" else {}))
    assert (model["status"], model["format"]) == ("ready", kind), model
    assert model["conversion"]["max_error"] < 1e-5
    assert model["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 8]}]
    assert model["size_bytes"] == len(content)

    link = f"/v1/models/{model['id']}/content"
    assert service.http.get(link).content == content
    graph = service.http.get(link, params={"form": "onnx"}).content
    answers = ort.InferenceSession(graph).run(None, {"x": np.zeros((5, 8), np.float32)})
    assert answers[0].shape == (5, 3)

    steps = [{"method": "quantize", "mode": "float16", "force": True}]
    body = {"model": model["id"], "steps": steps, "deliver": ["onnx", "source"]}
    made = service.http.post("/v1/jobs", json=body)
    assert made.status_code == 202, made.text
    job = service.finished(made.json()["id"])
    assert job["status"] == "succeeded", job
    assert job["baseline"]["size_bytes"] == len(graph)
    back = job["artifacts"][1]
    assert (back["format"], back["ran"]) == ("source", True), back["reason"]
    assert back["max_error"] < 1e-2, "halves are halves in the graph alone"
    with zipfile.ZipFile(io.BytesIO(service.http.get(back["href"]).content)) as archive:
        assert {"README.md", "weights.safetensors"} <= set(archive.namelist())


def test_what_a_file_does_not_tell_is_asked_for(service: Service, tmp_path: Path) -> None:
    model = upload(service, script_file(tmp_path))
    assert model["status"] == "rejected"
    assert "?inputs=" in model["problem"]["detail"]
    assert model["problem"]["inputs"][0]["shape"] == ["batch", 8]
