"""Says in plain words which layer Keras could not open, and why; its own words go to the log."""

import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

from app.domain.problems import InvalidModel
from workers.compression import faults

_HOLDERS = ("ex_saveable", "instance", "layer_data", "layer", "config")
"""Local variables of Keras's functions that hold the layer at work, the surest first."""
_OF_FILE = "load_weights_from_hdf5_group"
_LOADING = frozenset({_OF_FILE, "_raise_loading_failure"})
"""Keras's functions that put weights into layers."""
_WHOLE = "Save the whole model where it is, with model.save('model.keras'), and upload that."
_AGAIN = (
    "Open the file with the Keras that wrote it, and save it again with model.save('model.keras');"
    " or export it there, with planish.from_keras(model) of the Python client."
)


def problem(error: Exception, version: str) -> InvalidModel:
    """Log an error of Keras, and return the problem for the user."""
    faults.log(error)
    functions = {frame.f_code.co_name for frame in _frames(error)}
    layer = _layer(error)
    if functions & _LOADING:
        of_layer = f"of the layer {layer} " if layer else ""
        takes = "it takes" if layer else "the layers take"
        return InvalidModel(
            f"The weights {of_layer}in the file are others in number or shape than {takes}: they"
            f" are of another model than the layers. {_WHOLE}"
        )
    if layer is None:
        return InvalidModel(
            f"Keras {version} cannot build the model that the file describes. {_AGAIN}"
        )
    why = (
        "it knows not all of its arguments, or not their values"
        if "__init__" in functions
        else "what the layer reads is missing, or has another shape or type than it takes"
    )
    return InvalidModel(
        f"Keras {version} cannot build the layer {layer} as the file describes it: {why}. {_AGAIN}"
    )


def _layer(error: Exception) -> str | None:
    """Return the innermost layer that was at work, by its name and class; None if unknown."""
    for frame in reversed(list(_frames(error))):
        if frame.f_code.co_name == _OF_FILE:
            return None  # its variables are of layers before the one at work
        for name in _HOLDERS:
            if label := _label(frame.f_locals.get(name)):
                return label
    return None


def _label(holder: Any) -> str | None:
    """Return the name and the class of a layer, or of what a file describes one by."""
    import keras

    if isinstance(holder, keras.layers.Layer):
        return f"'{holder.name:.80}' ({type(holder).__name__})"
    if not isinstance(holder, dict) or not isinstance(holder.get("config"), dict):
        return None
    name, kind = holder["config"].get("name"), holder.get("class_name")
    return f"'{name!s:.80}' ({kind!s:.80})" if name and kind else None


def _frames(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of an error, then those of its causes, each from the outermost."""
    for cause in faults.causes(error):
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            yield frame
