"""What is exported in the user's own Python arrives as a graph with dynamic axes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import planish
from tests.planish.answers import MODEL
from tests.planish.scripted import Script, answer, scripted

os.environ["KERAS_BACKEND"] = "torch"

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks' own deprecations


@contextmanager
def service() -> Iterator[tuple[Script, planish.Client]]:
    """A service that accepts one model."""
    ready = {**MODEL, "status": "ready"}
    with scripted([answer(201, ready)]) as server, planish.Client(server.url) as client:
        yield server, client


def sent(server: Script) -> bytes:
    """Return the file that was uploaded."""
    (request,) = server.requests
    kind = request.headers.get("Content-Type", request.headers.get("content-type", ""))
    if not kind.startswith("multipart/"):
        return request.body
    parsed = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + kind.encode() + b"\r\n\r\n" + request.body
    )
    (part,) = parsed.iter_parts()
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(5, 4), nn.Linear(3, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        mixed: Tensor = self.left(a) + self.right(b)
        return mixed


def test_a_torch_module_is_exported_with_a_batch_of_any_size() -> None:
    module = Mix().train()
    with service() as (server, client):
        model = planish.from_torch(
            module, (torch.zeros(1, 5), torch.zeros(1, 3)), client=client, name="mix"
        )
    assert model.id == MODEL["id"]
    assert "name=mix" in server.requests[0].path
    assert module.training
    session = ort.InferenceSession(sent(server))
    draw = np.random.default_rng(0)
    feeds = {n: draw.standard_normal((7, s)).astype(np.float32) for n, s in (("a", 5), ("b", 3))}
    (ours,) = session.run(None, feeds)
    theirs = module(*map(torch.from_numpy, feeds.values())).detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_module_may_take_any_number_of_tensors() -> None:
    class Sum(nn.Module):
        def forward(self, first: Tensor, *others: Tensor) -> Tensor:
            return first + others[0] * others[1]

    with service() as (server, client):
        planish.from_torch(Sum(), (torch.ones(1, 4),) * 3, client=client)
    inputs = ort.InferenceSession(sent(server)).get_inputs()
    shapes = {each.name: each.shape for each in inputs}
    assert shapes == {name: ["batch", 4] for name in ("first", "input_1", "input_2")}


def test_axes_are_called_as_is_asked() -> None:
    class Products(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            products: Tensor = a @ b.transpose(1, 2)
            return products

    axes = {"a": {0: "batch", 1: "rows"}, "b": {0: "batch", 1: "columns"}}
    examples = torch.zeros(1, 5, 8), torch.zeros(1, 7, 8)
    with service() as (server, client):
        planish.from_torch(Products(), examples, dynamic=axes, client=client)
    session = ort.InferenceSession(sent(server))
    shapes = [each.shape for each in (*session.get_inputs(), *session.get_outputs())]
    names = [["batch", "rows", 8], ["batch", "columns", 8], ["batch", "rows", "columns"]]
    assert shapes == names


def test_an_axis_that_torch_fixes_is_an_error() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(2, -1)[:, :3] if x.shape[0] == 2 else x

    with service() as (server, client), pytest.raises(planish.ExportFailed):
        planish.from_torch(Fixed(), torch.zeros(2, 8), client=client)
    assert not server.requests


def test_a_pipeline_of_scikit_learn_is_exported_with_its_probabilities() -> None:
    draw = np.random.default_rng(0)
    samples = draw.standard_normal((60, 4)).astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(samples, samples[:, 0] > 0)
    with service() as (server, client):
        planish.from_sklearn(pipeline, samples, client=client)
    session = ort.InferenceSession(sent(server))
    _, ours = session.run(None, {session.get_inputs()[0].name: samples})
    np.testing.assert_allclose(ours, pipeline.predict_proba(samples), atol=1e-5)


def test_an_estimator_that_was_fitted_on_float64_is_exported() -> None:
    """As numpy's arrays are, where ONNX has trees of single precision alone."""
    samples = np.random.default_rng(0).standard_normal((60, 4))
    forest = RandomForestRegressor(5, random_state=0).fit(samples, samples[:, 0])
    with service() as (server, client):
        planish.from_sklearn(forest, samples, client=client)
    session = ort.InferenceSession(sent(server))
    [rows] = session.get_inputs()
    assert rows.shape == ["batch", 4]
    [ours] = session.run(None, {rows.name: samples.astype(np.float32)})
    np.testing.assert_allclose(ours[:, 0], forest.predict(samples), atol=1e-5)


def test_a_keras_model_of_stock_layers_is_sent_as_it_is() -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    with service() as (server, client):
        planish.from_keras(model, client=client)
    assert sent(server)[:2] == b"PK"
    assert "filename=model.keras" in server.requests[0].path


def test_a_keras_model_with_code_of_its_own_is_exported_here() -> None:
    import keras

    class Doubled(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return self.layer(x) * 2

        def build(self, shape: Any) -> None:
            self.layer = keras.layers.Dense(2)
            self.layer.build(shape)

    double = keras.layers.Lambda(lambda x: 2 * x)
    loaded = keras.Sequential([keras.layers.Input((4,)), double])  # built, and never called
    own = Doubled()
    own(np.zeros((1, 4), np.float32))

    class Halves(keras.initializers.Initializer):  # type: ignore[misc]
        def __call__(self, shape: Any, dtype: Any = None) -> Any:
            return keras.ops.full(shape, 0.5, dtype)

    parts = ({"activation": lambda x: 2 * x}, {"kernel_initializer": Halves()})
    dense = [keras.layers.Dense(2, **part) for part in parts]
    others = [keras.Sequential([keras.layers.Input((4,)), layer]) for layer in dense]
    for model in (loaded, own, *others):
        with service() as (server, client):
            planish.from_keras(model, client=client)
        graph = onnx.load_from_string(sent(server)).graph
        assert graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("package", ["tf2onnx", "tensorflow"])
def test_a_missing_package_is_named_with_its_command(tmp_path: Path, package: str) -> None:
    file = tmp_path / "model.tflite"
    with pytest.raises(planish.ExportFailed, match=r"There is no .*model\.tflite"):
        planish.from_tensorflow(file)
    with pytest.raises(planish.ExportFailed, match=r"no saved_model\.pb in"):
        planish.from_tensorflow(tmp_path)
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(planish.ExportFailed, match="of another kind is uploaded as it is"):
        planish.from_tensorflow(file)
    file.write_bytes(b"\x1c\0\0\0TFL3")
    with pytest.raises(planish.MissingPackage, match=f"pip install .*{package}"):
        planish.from_tensorflow(file)


def test_what_keras_exports_with_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keras

    double = keras.layers.Lambda(lambda x: 2 * x)
    model = keras.Sequential([keras.layers.Input((4,)), double])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(planish.MissingPackage, match="pip install onnxscript"):
        planish.from_keras(model)


LAYER, ROW = nn.Linear(4, 2), torch.zeros(1, 4)
WORDED: Any = {"input": {"0": "batch"}}
FITTED = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])


def script() -> Any:
    trace: Any = torch.jit.trace
    return trace(LAYER, ROW)


def unbuilt() -> Any:
    import keras

    return keras.Sequential([keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: planish.from_torch("net.pt", ROW), "a str, .* uploaded as it is"),
        (lambda: planish.from_torch(nn.Linear, ROW), "an instance of it, such as Linear"),
        (lambda: planish.from_torch(LAYER, None), "None where a tensor belongs"),
        (lambda: planish.from_torch(LAYER, [ROW]), "a list where a tensor belongs"),
        (lambda: planish.from_torch(LAYER, ROW.numpy()), "an? ndarray where a tensor belongs"),
        (lambda: planish.from_torch(LAYER, ROW, dynamic={"x": {0: "n"}}), "is for 'input'"),
        (lambda: planish.from_torch(LAYER, ROW, dynamic={"input": {7: "n"}}), "has 2 axes"),
        (lambda: planish.from_torch(LAYER, ROW, dynamic=WORDED), "axis '0' of"),
        (lambda: planish.from_torch(LAYER, (ROW, ROW)), "takes input, and the example has 2"),
        (lambda: planish.from_torch(script(), ROW), "TorchScript.*torch.jit.save"),
        (lambda: planish.from_keras(unbuilt()), "The Sequential has no weights yet"),
        (lambda: planish.from_keras(LAYER), "a Linear, and no Keras model"),
        (lambda: planish.from_sklearn(LAYER, np.eye(4)), "a Linear, and no estimator"),
        (lambda: planish.from_sklearn(LogisticRegression(), np.eye(4)), "call its fit"),
        (lambda: planish.from_sklearn(FITTED, None), "with a row for each"),
        (lambda: planish.from_sklearn(FITTED, np.eye(3)), "need 4 columns"),
    ],
)
def test_a_wrong_call_is_told_in_plain_words(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(planish.ExportFailed, match=says):
        call()


def test_nothing_heavy_is_imported_with_the_client() -> None:

    heavy = ["torch", "keras", "onnx", "sklearn", "numpy", "tensorflow"]
    code = f"import sys, json, planish; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: Any = json.loads(done.stdout)
    assert loaded == []
