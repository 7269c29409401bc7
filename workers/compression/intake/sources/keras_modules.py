"""Says where Keras finds what an HDF5 file names without a module.

Keras 3 writes operations on tensors (a sum, a slice, the mask of an embedding) into such a file,
and does not find them again: it looks for layers alone. Without a module it also takes one axis for
several, and the 'dot' of an attention for a function.
"""

import importlib
from typing import Any

from workers.compression.intake.sources.keras_config import OPERATIONS
from workers.compression.intake.sources.keras_nested import every_layer

_TAKEN_AMISS = frozenset({"Attention", "AdditiveAttention"})
"""Layers with an argument that Keras takes for the name of a function of its own."""


def complete(config: Any, version: int) -> None:
    """Name the modules of layers that Keras opens amiss without, and of operations, in place.

    Args:
        config: a model as its file describes it.
        version: which Keras wrote the file.
    """
    for layer in every_layer(config):
        arguments = layer["config"]
        if "module" in layer or not isinstance(arguments, dict):
            continue
        name, axes = str(layer["class_name"]), arguments.get("axis")
        several = name == "LayerNormalization" and isinstance(axes, list) and len(axes) > 1
        if several or name in _TAKEN_AMISS:
            layer["module"] = "keras.layers"
        elif version > 2 and "trainable" not in arguments and (module := _module(name)):
            layer["module"] = module


def _module(name: str) -> str | None:
    """Return the module of an operation; None where there is none of that name."""
    import keras

    for module, names in OPERATIONS.items():
        found = getattr(importlib.import_module(module), name, None)
        is_operation = isinstance(found, type) and issubclass(found, keras.Operation)
        if is_operation and (names is None or name in names):
            return module
    return None
