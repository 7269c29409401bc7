"""Determines the inputs of an upload from its file and from the hints of the user."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.models import InputHint, TensorSpec
from app.domain.problems import InvalidModel
from workers.compression.graph.sums import size_of

Shape = list[int | str]


@dataclass(frozen=True)
class FileInput:
    """The information that a file has on one input."""

    name: str
    dtype: str | None = None
    """The dtype; None where the file does not state it."""
    shape: Shape | None = None
    """The shape; None where the file does not state it. A dynamic dimension is a name."""
    usual: Shape | None = None
    """The default shape, where the user states none and need not."""
    example: Shape | None = None
    """An example of a shape, for the message that asks the user for it."""


def settle(file_inputs: Sequence[FileInput], hints: Sequence[InputHint] | None) -> list[TensorSpec]:
    """Return the inputs, each with type and shape.

    Args:
        file_inputs: the inputs as the file states them, in order.
        hints: the hints of the user, matched by name, or by position where the names are new.

    Raises:
        InvalidModel: a type or shape is stated by neither, or file and hints contradict each
            other.
    """
    chosen = _matched(file_inputs, hints or [])
    specs = [_merged(file_input, chosen.get(index)) for index, file_input in enumerate(file_inputs)]
    missing = [
        file_input.name for file_input, spec in zip(file_inputs, specs, strict=True) if spec is None
    ]
    if missing:
        raise InvalidModel(
            f"The file does not tell the shape of {_listed(missing)}. Upload it again with"
            f" {_parameter(file_inputs)}, with your own sizes; a dynamic dimension is a name.",
            inputs=_template(file_inputs),
        )
    return [spec for spec in specs if spec is not None]


def _matched(inputs: Sequence[FileInput], hints: Sequence[InputHint]) -> dict[int, InputHint]:
    """Return the hints by the position of their input."""
    names = [item.name for item in inputs]
    hint_names = [hint.name for hint in hints]
    if len(set(hint_names) - {None}) < len([name for name in hint_names if name is not None]):
        raise InvalidModel("'inputs' names an input twice: name each once.")
    if all(name in names for name in hint_names):
        return {names.index(str(hint.name)): hint for hint in hints}
    if len(hints) == len(inputs):
        return dict(enumerate(hints))
    raise InvalidModel(
        f"'inputs' names {len(hints)} inputs, and the model has {len(inputs)}: {_listed(names)}"
        f". Send {_parameter(inputs)}, with your own sizes."
    )


def _merged(stated: FileInput, hint: InputHint | None) -> TensorSpec | None:
    """Return one input from file and hint, or None where its shape is unknown."""
    if hint is None:
        shape = stated.shape or stated.usual
        if shape is None:
            return None
        return TensorSpec(name=stated.name, dtype=stated.dtype or "float32", shape=shape)
    if stated.dtype is not None and hint.dtype not in {None, stated.dtype}:
        raise InvalidModel(
            f"'inputs' says that '{stated.name}' has the type {hint.dtype}; the model takes"
            f" {stated.dtype}. Leave out 'dtype'."
        )
    if stated.shape is not None and not _fits(stated.shape, hint.shape):
        raise InvalidModel(
            f"'inputs' says that '{stated.name}' has the shape {json.dumps(hint.shape)}; the model"
            f" takes {json.dumps(stated.shape)}. A dimension that is a number there cannot be"
            " changed."
        )
    dtype = stated.dtype or hint.dtype or "float32"
    return TensorSpec(name=hint.name or stated.name, dtype=dtype, shape=hint.shape)


def _fits(stated: Shape, hinted: Shape) -> bool:
    return len(stated) == len(hinted) and all(
        isinstance(size, str) or size == hinted_size
        for size, hinted_size in zip(stated, hinted, strict=True)
    )


def parameter(inputs: Sequence[TensorSpec], sizes: dict[str, int]) -> str:
    """Return the query parameter that states inputs with fixed sizes, for a message."""
    stated = [
        FileInput(
            spec.name,
            spec.dtype,
            [size_of(size, sizes) for size in spec.shape],
        )
        for spec in inputs
    ]
    return _parameter(stated)


def _parameter(file_inputs: Sequence[FileInput]) -> str:
    return f"?inputs={json.dumps(_template(file_inputs))}"


def _template(file_inputs: Sequence[FileInput]) -> list[dict[str, object]]:
    return [
        {
            "name": file_input.name,
            "dtype": file_input.dtype or "float32",
            "shape": file_input.shape
            or file_input.usual
            or file_input.example
            or ["batch", 3, 224, 224],
        }
        for file_input in file_inputs
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name[:80]}'" for name in names[:20])
