"""What the inputs of an upload are: what its file tells, and what the user says of the rest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.models import InputHint, TensorSpec
from app.domain.problems import InvalidModel

Shape = list[int | str]


@dataclass(frozen=True)
class FileInput:
    """What a file tells of one input."""

    name: str
    dtype: str | None = None
    """None where the file does not tell it."""
    shape: Shape | None = None
    """None where the file does not tell it; a dynamic dimension is a name."""
    usual: Shape | None = None
    """What it is where the user says nothing, and need not be."""
    example: Shape | None = None
    """A shape that such an input could have, for the message that asks for it."""


def settle(told: Sequence[FileInput], hints: Sequence[InputHint] | None) -> list[TensorSpec]:
    """Return the inputs, each with its type and shape.

    Args:
        told: by the file, in order.
        hints: by the user; by name, or by position where the names are new.

    Raises:
        InvalidModel: something is not told by either, or they contradict each other.
    """
    chosen = _matched(told, hints or [])
    specs = [_merged(each, chosen.get(index)) for index, each in enumerate(told)]
    missing = [each.name for each, spec in zip(told, specs, strict=True) if spec is None]
    if missing:
        raise InvalidModel(
            f"The file does not tell the shape of {_listed(missing)}. Upload it again with"
            f" {_parameter(told)}, with your own sizes; a dynamic dimension is a name.",
            inputs=_template(told),
        )
    return [spec for spec in specs if spec is not None]


def _matched(told: Sequence[FileInput], hints: Sequence[InputHint]) -> dict[int, InputHint]:
    """Return the hints by the position of their input."""
    names = [each.name for each in told]
    given = [hint.name for hint in hints]
    if len(set(given) - {None}) < len([name for name in given if name is not None]):
        raise InvalidModel("'inputs' names an input twice: name each once.")
    if all(name in names for name in given):
        return {names.index(str(hint.name)): hint for hint in hints}
    if len(hints) == len(told):
        return dict(enumerate(hints))
    raise InvalidModel(
        f"'inputs' speaks of {len(hints)} inputs, and the model has {len(told)}: {_listed(names)}."
        f" Send {_parameter(told)}, with your own sizes."
    )


def _merged(told: FileInput, hint: InputHint | None) -> TensorSpec | None:
    """Return what is known of one input, or None where its shape is not."""
    if hint is None:
        shape = told.shape or told.usual
        if shape is None:
            return None
        return TensorSpec(name=told.name, dtype=told.dtype or "float32", shape=shape)
    if told.dtype is not None and hint.dtype not in {None, told.dtype}:
        raise InvalidModel(
            f"'inputs' says that '{told.name}' has the type {hint.dtype}; the model takes"
            f" {told.dtype}. Leave out 'dtype'."
        )
    if told.shape is not None and not _fits(told.shape, hint.shape):
        raise InvalidModel(
            f"'inputs' says that '{told.name}' has the shape {json.dumps(hint.shape)}; the model"
            f" takes {json.dumps(told.shape)}. A dimension that is a number there cannot be"
            " changed."
        )
    dtype = told.dtype or hint.dtype or "float32"
    return TensorSpec(name=hint.name or told.name, dtype=dtype, shape=hint.shape)


def _fits(told: Shape, hinted: Shape) -> bool:
    return len(told) == len(hinted) and all(
        isinstance(ours, str) or ours == theirs for ours, theirs in zip(told, hinted, strict=True)
    )


def parameter(inputs: Sequence[TensorSpec], sizes: dict[str, int]) -> str:
    """Return the parameter that states inputs with fixed sizes, for a message."""
    stated = [
        FileInput(
            each.name,
            each.dtype,
            [sizes[size] if isinstance(size, str) else size for size in each.shape],
        )
        for each in inputs
    ]
    return _parameter(stated)


def _parameter(told: Sequence[FileInput]) -> str:
    return f"?inputs={json.dumps(_template(told))}"


def _template(told: Sequence[FileInput]) -> list[dict[str, object]]:
    return [
        {
            "name": each.name,
            "dtype": each.dtype or "float32",
            "shape": each.shape or each.usual or each.example or ["batch", 3, 224, 224],
        }
        for each in told
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name[:80]}'" for name in names[:20])
