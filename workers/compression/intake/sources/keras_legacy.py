"""Brings files of Keras 1 and 2 into the form of Keras 3: names, layouts of weights, activations.

The renamed arguments are those of Keras 2's ``legacy/interfaces.py``, the layouts those of its
``preprocess_weights_for_loading``. A Keras that ran on Theano turned kernels around as it
convolved; its files say so from Keras 2 on.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.domain.problems import InvalidModel
from workers.compression.intake.sources.keras_files import layers_of, weight_groups, weight_names
from workers.compression.intake.sources.keras_nested import (
    MODELS,
    by_layer,
    every_layer,
    layers_in,
    name_modules,
    renumber_nodes,
    stored,
)

_Arrays = list[NDArray[Any]]

_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "Deconvolution2D": "Conv2DTranspose",
}
_SAME = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}
"""Classes of Keras within TensorFlow that compute what one of Keras 3 does."""
_MERGES = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
}
_ARGUMENTS = {
    "nb_filter": "filters",
    "output_dim": "units",
    "filter_length": "kernel_size",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "stride": "strides",
    "atrous_rate": "dilation_rate",
    "pool_length": "pool_size",
    "dim_ordering": "data_format",
    "bias": "use_bias",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "p": "rate",
    "sigma": "stddev",
}
_TURNED = {"Conv1D": 1, "Conv2D": 1, "Conv3D": 1, "Conv2DTranspose": 1, "ConvLSTM2D": 2}
"""How many weights, the first ones, Theano turned around."""
_SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_ORDERS = {"tf": "channels_last", "th": "channels_first"}
_TRAINING = ("init", "_regularizer", "_constraint")
"""The ends of arguments that do nothing after training."""
_UNUSED = frozenset(
    {"consume_less", "input_dim", "input_dtype", "input_length", "weights", "output_shape"}
)


def version(file: Any) -> int:
    """Return which Keras wrote an HDF5 file: 1, 2 or 3; the first files of Keras 1 do not say."""
    text = _attribute(file, "keras_version")
    return int(text[0]) if text[:1] in {"2", "3"} else 1


def _attribute(file: Any, name: str) -> str:
    """Return a text that an HDF5 file or group states of itself; empty where it does not."""
    stored = file.attrs.get(name, b"")
    return stored.decode() if isinstance(stored, bytes) else str(stored)


def translate(config: Any, version: int) -> None:
    """Bring a model's configuration of Keras 1 or 2 into the form of Keras 3, in place.

    In both a Sequential may be a list, whose first layer says the shape of the input. Keras 1 has
    other names.
    """
    renumber_nodes(config)
    for layer in every_layer(config):
        name, arguments = str(layer["class_name"]), layer["config"]
        if name == "Sequential":
            layer["config"] = _sequential(layer)
            continue
        if not isinstance(arguments, dict):
            continue
        name_modules(arguments)
        layer["class_name"] = name = _SAME.get(name, name)
        if name == "ThresholdedReLU":
            threshold = arguments.get("theta", 1.0)
            layer["class_name"] = name = "ReLU"
            layer["config"] = arguments = {"name": arguments.get("name"), "threshold": threshold}
        if name != "InputLayer":
            arguments.pop("batch_input_shape", None)
        if version > 1:
            continue
        if name == "Merge" and arguments.get("layers"):
            raise InvalidModel(
                f"The layer '{arguments.get('name')!s:.80}' (Merge) of Keras 1 holds models of its"
                " own. Open the file with Keras 2, save it with model.save('model.h5'), and upload"
                " that."
            )
        if name == "Merge" and arguments.get("mode") in _MERGES:
            layer["class_name"] = _MERGES[arguments["mode"]]
            axis = (
                {"axis": arguments.get("concat_axis", -1)} if arguments["mode"] == "concat" else {}
            )
            layer["config"] = {"name": arguments.get("name"), **axis}
            continue
        layer["class_name"] = _CLASSES.get(name, name)
        if name != "Model":
            layer["config"] = dict(_arguments(name, arguments))


def convert_weights(file: Any, config: Any, version: int) -> bool:
    """Bring the weights of a file of Keras 1 or 2 into the layouts of Keras 3, in place.

    Args:
        file: HDF5, open for writing.
        config: the translated configuration.
        version: which Keras wrote the file.

    Returns:
        Whether a weight has changed.
    """
    groups = weight_groups(file)
    turned = "theano" in (_attribute(file, "backend"), _attribute(groups, "backend"))
    if version > 1 and not turned:
        return False
    changed = False
    for layer, group in stored(groups, config):
        names = weight_names(group)
        before = [group[name][()] for name in names]
        after = []
        for owner, arrays in by_layer(layer, names, before):
            arranged = _arranged(owner, arrays) if version == 1 else arrays
            after += _turned(owner, arranged) if turned else arranged
        if all(old is new for old, new in zip(before, after, strict=False)):
            continue
        changed = True
        for name in names:
            del group[name]
        for name, array in zip(names, after, strict=False):
            group[name] = array
        group.attrs["weight_names"] = [name.encode() for name in names[: len(after)]]
    return changed


def restore_activations(model: Any) -> bool:
    """Give a model of Keras 1 or 2 the hard sigmoid of its time; return whether it has one."""
    import keras

    found = False
    for layer in layers_of(model):
        for name in ("activation", "recurrent_activation"):
            if vars(layer).get(name) is keras.activations.hard_sigmoid:
                setattr(layer, name, _hard_sigmoid)
                found = True
    return found


def _hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Return ``0.2 x + 0.5`` within 0 and 1; in Keras 3 the slope is 1/6."""
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


def _sequential(model: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a Sequential, with its input as the first layer.

    Every Sequential in it has a name then.
    """
    config, name, layers = model["config"], model.get("name", "sequential"), layers_in(model)
    whole = {"name": name, **(config if isinstance(config, dict) else {"layers": config})}
    for index, layer in enumerate(layers):
        if layer.get("class_name") == "Sequential":
            layer.setdefault("name", f"{name}_{index}")
    entry = _entry(layers)
    if entry is None:
        return whole
    return {**whole, "layers": [{"class_name": "InputLayer", "config": entry}, *whole["layers"]]}


def _entry(layers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the arguments of the input whose shape the first layer says; None if it says none."""
    first = layers[0] if layers else {}
    if first.get("class_name") in MODELS:
        return _entry(layers_in(first))
    arguments = first.get("config")
    if not isinstance(arguments, dict) or first.get("class_name") == "InputLayer":
        return None
    shape = arguments.get("batch_input_shape")
    if shape is None:
        return None
    return {
        "batch_shape": shape,
        "dtype": arguments.get("input_dtype", arguments.get("dtype", "float32")),
        "name": f"{arguments.get('name')}_input",
    }


def _arguments(layer: str, config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a layer's arguments under the names of Keras 3."""
    for sizes in _SIZES:
        if all(name in config for name in sizes):
            yield "kernel_size", [config[name] for name in sizes]
    names, unused = dict(_ARGUMENTS), set(_UNUSED).union(*_SIZES)
    if layer == "Embedding":
        names, unused = {}, {"input_length", "input_dtype", "dropout", "weights"}
    elif layer == "UpSampling1D":
        names["length"] = "size"
    elif layer == "InputLayer":
        names["input_dtype"], unused = "dtype", set()
    for name, value in config.items():
        if name == "dim_ordering":
            if value in _ORDERS:
                yield "data_format", _ORDERS[value]
        elif name not in unused and not name.endswith(_TRAINING):
            yield names.get(name, name), value


def _arranged(layer: dict[str, Any], arrays: _Arrays) -> _Arrays:
    """Return a layer's weights in the layout of Keras 3."""
    name, config = layer["class_name"], layer["config"]
    inner = config.get("layer")
    if name == "TimeDistributed" and isinstance(inner, dict):
        return _arranged(inner, arrays)
    if name == "Bidirectional" and isinstance(inner, dict):
        half = len(arrays) // 2
        return _arranged(inner, arrays[:half]) + _arranged(inner, arrays[half:])
    if name == "LSTM" and len(arrays) == 12:  # input, cell, forget, output; now forget comes second
        return [_joined(arrays[first::3], (0, 2, 1, 3)) for first in range(3)]
    if name == "GRU" and len(arrays) == 9:
        return [_joined(arrays[first::3], (0, 1, 2)) for first in range(3)]
    if not arrays or "Conv" not in name:
        return arrays
    kernel, first = arrays[0], config.get("data_format") == "channels_first"
    if name == "Conv1D" and kernel.ndim == 4:
        if kernel.shape[1] != 1 or kernel.shape[3] != config.get("filters"):
            kernel = kernel.transpose(2, 3, 1, 0)
        kernel = kernel[:, 0]
    elif name == "Conv2DTranspose":
        kernel = kernel.transpose((2, 3, 0, 1) if first else (0, 1, 3, 2))
    elif first and name in {"Conv2D", "Conv3D"}:
        kernel = kernel.transpose(*range(2, kernel.ndim), 1, 0)
    return [kernel, *arrays[1:]]


def _turned(layer: dict[str, Any], arrays: _Arrays) -> _Arrays:
    """Return a layer's weights with kernels turned around, ``[*space, inputs, outputs]``."""
    inner = layer["config"].get("layer")
    if layer["class_name"] == "TimeDistributed" and isinstance(inner, dict):
        return _turned(inner, arrays)
    count = _TURNED.get(layer["class_name"], 0)
    around = [np.flip(array, tuple(range(array.ndim - 2))) for array in arrays[:count]]
    return [*around, *arrays[count:]]


def _joined(gates: _Arrays, order: tuple[int, ...]) -> NDArray[Any]:
    return np.concatenate([gates[index] for index in order], axis=-1)
