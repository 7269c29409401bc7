"""From a model in your own Python to a model of the service: exported here, then uploaded.

Nothing of yours is unpickled by the service: what is sent is an ONNX graph, or a Keras file of
stock layers. Frameworks are imported when they are needed.
"""

import inspect
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from planish import _export_calls, _export_keras
from planish._packages import package
from planish.client import Client
from planish.errors import ExportFailed, MissingPackage
from planish.types import Model

BATCH = "batch"
"""How the first dimension of each input is called; it is dynamic."""


def from_torch(
    module: Any,
    example: Any,
    *,
    dynamic: dict[str, dict[int, str]] | None = None,
    client: Client | None = None,
    name: str | None = None,
) -> Model:
    """Export a ``torch.nn.Module``, upload it, and return the model once it is inspected.

    Args:
        module: the network; its mode is put back afterwards.
        example: a tensor, or a tuple of them, that it takes; the first dimension is the batch.
        dynamic: for each input, by its name in ``forward``, the axes that may have any size, with
            a name for each. Default: the first axis of every input, ``batch``.
        client: whose service to use. Default: one of its own, configured by the environment.
        name: for people.

    Raises:
        MissingPackage: torch, or the onnxscript that its exporter needs, is not installed.
        ExportFailed: torch cannot export it, or fixes an axis that was to be dynamic.
        Rejected: the service cannot use it.
    """
    torch = package("torch", "onnx", "onnxscript")
    tensors = example if isinstance(example, tuple) else (example,)
    _export_calls.require_torch(torch, module, tensors)
    names, fixed = _names(module, len(tensors))
    examples = dict(zip(names, tensors, strict=True))
    axes = dynamic or {each: {0: BATCH} for each in names if examples[each].dim()}
    _export_calls.require_axes(axes, examples)
    tensors = tuple(_two(torch, tensor, axes.get(each, {})) for each, tensor in examples.items())
    shapes = tuple(axes.get(each, {}) for each in names)
    training = module.training

    def write(path: Path) -> None:
        made = torch.onnx.export(
            module.eval(),
            tensors,
            dynamo=True,
            dynamic_shapes=shapes if fixed == len(shapes) else (*shapes[:fixed], shapes[fixed:]),
            input_names=names,
            verbose=False,
        )
        made.save(path, external_data=False)
        _require_dynamic(path, axes)

    try:
        return _exported(write, client, name)
    finally:
        module.train(training)


def from_keras(model: Any, *, client: Client | None = None, name: str | None = None) -> Model:
    """Upload a Keras model, and return it once it is inspected.

    A model of stock layers is sent as it is and converted by the service; one with layers or
    functions of your own, or with a ``Lambda``, is exported here.

    Args:
        model: of Keras 3, or of tf.keras.
        client: whose service to use. Default: one of its own, configured by the environment.
        name: for people.

    Raises:
        MissingPackage: what Keras exports with is not installed.
        ExportFailed: it has no weights yet, or Keras cannot export it.
        Rejected: the service cannot use it.
    """
    _export_calls.require_keras(model)
    if _export_keras.is_stock(model):
        suffix = ".h5" if _export_keras.is_legacy(model) else ".keras"
        return _exported(model.save, client, name, suffix)
    _export_keras.require_exporter(model)

    def write(path: Path) -> None:
        _export_keras.export(model, path)
        _name_batch(path)

    return _exported(write, client, name)


def from_sklearn(
    pipeline: Any, example: Any, *, client: Client | None = None, name: str | None = None
) -> Model:
    """Export a fitted scikit-learn estimator or pipeline, upload it, and return the model.

    Args:
        pipeline: fitted; a classifier answers its labels and, as an array, their probabilities.
        example: some of the samples that it takes: an array or a DataFrame.
        client: whose service to use. Default: one of its own, configured by the environment.
        name: for people.

    Raises:
        MissingPackage: skl2onnx is not installed.
        ExportFailed: a part of the pipeline has no conversion.
        Rejected: the service cannot use it.
    """
    convert = package("skl2onnx", "sklearn").to_onnx
    _export_calls.require_sklearn(pipeline, example)
    classifier = import_module("sklearn.base").is_classifier(pipeline)
    options = {id(pipeline): {"zipmap": False}} if classifier else None

    def write(path: Path) -> None:
        rows = _rows(pipeline, example[:1])
        path.write_bytes(convert(pipeline, rows, options=options).SerializeToString())
        _name_batch(path)

    return _exported(write, client, name)


def from_tensorflow(
    path: str | Path, *, client: Client | None = None, name: str | None = None
) -> Model:
    """Convert a SavedModel's directory or a ``.tflite`` file, upload it, and return the model.

    Args:
        path: the directory, or the file.
        client: whose service to use. Default: one of its own, configured by the environment.
        name: for people.

    Raises:
        MissingPackage: TensorFlow or tf2onnx is not installed.
        ExportFailed: tf2onnx cannot convert it.
        Rejected: the service cannot use it.
    """
    _export_calls.require_tensorflow(Path(path))
    package("tf2onnx", "tensorflow", found_only=True)
    kind = "--saved-model" if Path(path).is_dir() else "--tflite"

    def write(target: Path) -> None:
        argv = [sys.executable, "-m", "tf2onnx.convert", kind, str(path), "--output", str(target)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ExportFailed(f"tf2onnx cannot convert {path}: {done.stderr.strip()[-500:]}")
        _name_batch(target)

    return _exported(write, client, name)


def _exported(
    write: Callable[[Path], Any], client: Client | None, name: str | None, suffix: str = ".onnx"
) -> Model:
    """Have a file written, and upload it."""
    with tempfile.TemporaryDirectory(prefix="planish-") as directory:
        file = Path(directory) / f"model{suffix}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporters' own deprecations
                write(file)
        except (ExportFailed, MissingPackage):
            raise
        except Exception as error:
            raise ExportFailed(f"The model cannot be exported: {_line(error)}") from error
        if client is not None:
            return client.models.upload(file, name=name)
        with Client() as own:
            return own.models.upload(file, name=name)


def _names(module: Any, count: int) -> tuple[list[str], int]:
    """Return names for the tensors that a module takes, and how many come before ``*tensors``."""
    parameters = inspect.signature(module.forward).parameters.values()
    named = [each.name for each in parameters if each.kind < each.VAR_POSITIONAL]
    if count <= len(named):
        return named[:count], count
    if not any(each.kind is each.VAR_POSITIONAL for each in parameters):
        takes = ", ".join(named) or "nothing"
        raise ExportFailed(f"The module's forward takes {takes}, and the example has {count}.")
    return [*named, *(f"input_{number}" for number in range(len(named), count))], len(named)


def _rows(pipeline: Any, example: Any) -> Any:
    """Return samples as skl2onnx reads them: a matrix, with floats of 32 bits as its trees have.

    The columns of a DataFrame are inputs of their own where a ColumnTransformer tells them apart.
    """
    if hasattr(example, "columns"):
        apart = import_module("sklearn.compose").ColumnTransformer
        if any(isinstance(part, apart) for part in (pipeline, *pipeline.get_params().values())):
            return example.astype(dict.fromkeys(example.select_dtypes("float64"), "float32"))
        example = example.to_numpy()
    return example.astype("float32") if example.dtype == "float64" else example


def _two(torch: Any, tensor: Any, axes: dict[int, str]) -> Any:
    """Return an example with two of what may have any size: the exporter takes one for fixed."""
    for axis in axes:
        if tensor.shape[axis] == 1:
            tensor = torch.cat([tensor, tensor], axis)
    return tensor


def _require_dynamic(path: Path, axes: dict[str, dict[int, str]]) -> None:
    onnx = import_module("onnx")
    graph = onnx.load(path, load_external_data=False).graph
    for value in graph.input:
        for axis in axes.get(value.name, {}):
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise ExportFailed(
                    f"torch fixed axis {axis} of '{value.name}', which was to have any size. Leave"
                    " it out of 'dynamic', or rewrite what in the module depends on it."
                )


def _name_batch(path: Path) -> None:
    """Call open first axes ``batch``: tf2onnx calls each by a number, skl2onnx by no name."""
    onnx = import_module("onnx")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim[:1]:
            if not dimension.dim_value and not dimension.dim_param.removeprefix("unk__").isalpha():
                dimension.dim_param = BATCH
    onnx.save(model, path)


def _line(error: BaseException) -> str:
    """Return the first line of what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
