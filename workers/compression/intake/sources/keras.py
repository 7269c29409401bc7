"""Reads Keras 3 archives (``.keras``) and HDF5 files of Keras 1 to 3, without TensorFlow."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from app.domain.models import ModelHints, TensorSpec
from app.domain.problems import InvalidModel, Problem
from workers.compression import faults
from workers.compression.intake.archive import unpack
from workers.compression.intake.limits import MIB, ArchiveLimits
from workers.compression.intake.sources import (
    hdf5,
    keras_config,
    keras_failures,
    keras_files,
    keras_legacy,
    keras_modules,
    keras_nested,
    keras_recurrent,
)
from workers.compression.intake.sources.hints import FileInput, Shape, settle
from workers.compression.intake.sources.program import BATCH, Program

_MAX_CONFIG = 64 * MIB
_WEIGHTS = "model.weights.h5"
_AXES = {4: ("height", "width"), 5: ("depth", "height", "width")}
"""Names of dynamic dimensions by rank; other dimensions are named ``length``."""


def read_archive(upload: Path, hints: ModelHints) -> Program:
    """Open a ``.keras`` file.

    Raises:
        InvalidModel: the file is broken, or holds layers that are not Keras's own.
    """
    with tempfile.TemporaryDirectory(dir=upload.parent, prefix="keras-") as scratch:
        directory = Path(scratch)
        unpack(upload, directory, ArchiveLimits())
        config = _config((directory / "config.json").read_bytes()[: _MAX_CONFIG + 1])
        config["compile_config"] = None
        config = keras_config.checked(config, legacy=False)
        hdf5.check(directory / _WEIGHTS)

        def load(keras: Any) -> Any:
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            model.load_weights(directory / _WEIGHTS)
            return model

        model = _loaded(load)
    return _program(model, hints, partial(keras_files.save_archive, model))


def read_hdf5(upload: Path, hints: ModelHints) -> Program:
    """Open an ``.h5`` or ``.hdf5`` file of Keras 1, 2 or 3.

    Raises:
        InvalidModel: the file is broken, holds only weights, or layers that are not Keras's own.
    """
    hdf5.check(upload)
    with tempfile.TemporaryDirectory(dir=upload.parent, prefix="keras-") as scratch:
        copy = Path(shutil.copyfile(upload, Path(scratch) / "model.h5"))
        model, version, rearranged = _loaded(partial(_open_hdf5, copy))
    other_sigmoid = version < 3 and keras_legacy.restore_activations(model)
    save = (
        partial(keras_files.save_archive, model)
        if rearranged
        else partial(keras_files.save_hdf5, model, upload)
    )
    program = _program(model, hints, save)
    if other_sigmoid:  # Keras 3 would write, and build, layers with its own hard sigmoid
        return replace(program, save=None if rearranged else save, narrowed=None)
    return program


def _open_hdf5(path: Path, keras: Any) -> tuple[Any, int, bool]:
    """Bring a file into the form of Keras 3, in place, and open it.

    Returns:
        The model, the version of Keras that wrote it, and whether weights were rearranged.
    """
    import h5py

    with h5py.File(path, "r+") as file:
        stored = file.attrs.get("model_config")
        if stored is None:
            raise InvalidModel(_no_config(file))
        text = stored if isinstance(stored, str | bytes) else bytes(stored)
        config, version = _config(text), keras_legacy.version(file)
        if version < 3:
            keras_nested.name_sequentials(config, keras_files.weight_groups(file))
            keras_legacy.translate(config, version)
        keras_modules.complete(config, version)
        config = keras_config.checked(config, legacy=True)
        rearranged = version < 3 and keras_legacy.convert_weights(file, config, version)
        file.attrs["model_config"] = json.dumps(config)
    return keras.saving.load_model(path, compile=False, safe_mode=True), version, rearranged


def _no_config(file: Any) -> str:
    named = any(name in file.attrs for name in ("layer_names", "keras_version"))
    if not named and not file.visit(_is_of_weights):
        return (
            "The HDF5 file holds no Keras model. Save one with model.save('model.keras') and upload"
            " that."
        )
    return (
        "The file holds the weights of a Keras model without its layers (model.save_weights). Load"
        " them where the model is defined, save it whole with model.save('model.keras'), and upload"
        " that."
    )


def _is_of_weights(path: str) -> bool | None:
    """Return whether Keras has an object of this name where it stores weights, for a walk."""
    return path.rpartition("/")[2] in {"vars", "model_weights"} or None


def _config(text: str | bytes) -> Any:
    if len(text) > _MAX_CONFIG:
        raise InvalidModel(f"The model's configuration is larger than {_MAX_CONFIG} bytes.")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidModel("The model's configuration is not readable JSON.") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise InvalidModel("The model's configuration names no model.")
    return config


def _loaded(load: Callable[[Any], Any]) -> Any:
    """Open a checked model with Keras.

    Raises:
        InvalidModel: Keras cannot open it.
    """
    os.environ.update(KERAS_BACKEND="torch", KERAS_TORCH_DEVICE="cpu")
    import keras

    try:
        return load(keras)
    except Problem:
        raise
    except Exception as error:
        if faults.is_limit(error):
            raise
        raise keras_failures.problem(error, keras.__version__) from error


def _program(model: Any, hints: ModelHints, save: Callable[[Path], Path]) -> Program:
    import keras

    def narrowed(weights: Mapping[str, NDArray[Any]]) -> Program:
        smaller = keras_files.narrowed(model, weights)
        return _program(smaller, hints, partial(keras_files.save_archive, smaller))

    inputs = _built(model, hints)
    for layer in keras_files.layers_of(model):
        if type(layer).__name__ in keras_config.AUGMENTATIONS:
            layer.call = _same
    flat = keras.Model(model.inputs, model.outputs)
    keras_recurrent.fuse(flat)
    names = [tensor._keras_history.operation.name for tensor in model.outputs]  # noqa: SLF001
    return Program(
        module=_Network(flat),
        weights=keras_files.weights(model),
        save=save,
        narrowed=narrowed,
        inputs=inputs,
        outputs=names if len(set(names)) == len(names) else [],
        source="keras",
        version=keras.__version__,
    )


def _same(images: Any, **_training: bool) -> Any:
    return images


def _built(model: Any, hints: ModelHints) -> list[TensorSpec]:
    """Return a model's inputs; a shape that the model does not state is taken from the hints."""
    if not model.built or not getattr(model, "inputs", None):
        specs = settle([FileInput("input")], hints.inputs)
        shape = [None if isinstance(size, str) else size for size in specs[0].shape]
        model.build(shape)
        return specs
    several = len(model.inputs) > 1
    file_inputs = [
        FileInput(tensor.name, str(tensor.dtype), _shape(tensor, several=several))
        for tensor in model.inputs
    ]
    return settle(file_inputs, hints.inputs)


def _shape(tensor: Any, *, several: bool) -> Shape:
    """Return an input's shape with names for the dimensions that are dynamic."""
    names = [BATCH, *_AXES.get(len(tensor.shape), ())]
    names += ["length", *(f"length_{n}" for n in range(2, len(tensor.shape)))][
        : 1 + len(tensor.shape)
    ]
    return [
        size if size is not None else (f"{tensor.name}_{names[n]}" if several and n else names[n])
        for n, size in enumerate(tensor.shape)
    ]


class _Network(nn.Module):
    """A Keras model that is called with tensors by position, as at inference."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._layers = keras_files.layers_of(model)

    def forward(self, *tensors: Tensor) -> Any:
        with _unregularized(self._layers):
            return self.model(list(tensors) if len(tensors) > 1 else tensors[0], training=False)


@contextmanager
def _unregularized(layers: list[Any]) -> Iterator[None]:
    """Take penalties on outputs away for a call: they divide by the batch, and so would fix it."""
    given = [(layer, getattr(layer, "activity_regularizer", None)) for layer in layers]
    penalties = [(layer, penalty) for layer, penalty in given if penalty is not None]
    try:
        for layer, _ in penalties:
            layer.activity_regularizer = None
        yield
    finally:
        for layer, penalty in penalties:
            layer.activity_regularizer = penalty
