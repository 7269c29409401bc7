"""How models of Keras 3 and of tf.keras are exported in the user's own Python."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from planish._packages import package
from planish.errors import ExportFailed

_EXPORTER = {"torch": "onnxscript"}
"""What Keras exports with, besides onnx, by its backend; ``tf2onnx`` with all others."""
_PACKAGES = frozenset({"keras", "tf_keras", "tensorflow"})
_RUNS_CODE = frozenset({"Lambda", "TFOpLambda", "TorchModuleWrapper", "TFSMLayer"})


def is_legacy(model: Any) -> bool:
    """Return whether a model is of tf.keras, or of Keras before 3."""
    return not any(kind.__module__.startswith("keras.src.models") for kind in type(model).__mro__)


def is_stock(model: Any) -> bool:
    """Return whether a model's layers and functions are all of Keras."""
    layers = all(map(_is_stock_layer, (model, *_layers(model))))
    return layers and not _names_others(model.get_config())


def require_exporter(model: Any) -> None:
    """Refuse a model that cannot be exported here, before Keras stumbles over it.

    Raises:
        MissingPackage: what Keras exports with is not installed.
        ExportFailed: the model is of tf.keras, which writes no ONNX.
    """
    if is_legacy(model):
        raise ExportFailed(
            "The model has code of your own, and tf.keras writes no ONNX: call"
            " model.export('saved'), and then planish.from_tensorflow('saved')."
        )
    backend = import_module("keras").backend.backend()
    package("onnx", _EXPORTER.get(backend, "tf2onnx"), found_only=True)


def export(model: Any, path: Path) -> None:
    """Export a model of Keras 3; without a signature Keras refuses what was loaded, not called."""
    keras = import_module("keras")
    signature = None
    if getattr(model, "inputs", None):
        inputs = getattr(model, "input", model.inputs[0])  # a Sequential has one, and no 'input'
        signature = [keras.tree.map_structure(_spec, inputs)]
    model.export(path, format="onnx", verbose=False, input_signature=signature)


def _spec(tensor: Any) -> Any:
    """Return the shape, type and name of a Keras input."""
    keras = import_module("keras")
    return keras.InputSpec(shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _layers(model: Any) -> Iterator[Any]:
    """Yield a model's layers, and those inside of them."""
    inside: Sequence[Any] = getattr(model, "layers", ())
    for layer in inside:
        yield layer
        yield from _layers(layer)
        if (wrapped := getattr(layer, "layer", None)) is not None:
            yield wrapped


def _is_stock_layer(layer: Any) -> bool:
    """Return whether a layer is of Keras, and so are its functions, such as its activation."""
    functions = (value for value in vars(layer).values() if isinstance(value, FunctionType))
    stock = type(layer).__name__ not in _RUNS_CODE and _is_of_keras(type(layer).__module__)
    return stock and all(_is_of_keras(function.__module__) for function in functions)


def _names_others(config: Any) -> bool:
    """Return whether a configuration names an initializer, or the like, that is not of Keras."""
    if isinstance(config, list | tuple):
        return any(map(_names_others, config))
    if not isinstance(config, dict):
        return False
    module = config.get("module") if "class_name" in config else None
    others = module is not None and not _is_of_keras(str(module))
    return others or any(map(_names_others, config.values()))


def _is_of_keras(module: str) -> bool:
    return module.partition(".")[0] in _PACKAGES
