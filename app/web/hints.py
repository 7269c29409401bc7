"""What users say of a model besides its bytes: parameters of a query, or fields of a form."""

from typing import Annotated

from fastapi import Query
from pydantic import TypeAdapter, ValidationError

from app.domain.fault_words import in_words
from app.domain.models import INPUT_HINTS, ArchitectureName, ModelHints
from app.domain.problems import FieldError, Invalid

_NAME: TypeAdapter[str | None] = TypeAdapter(ArchitectureName | None)
_MOST_FAULTS = 20

Architecture = Annotated[
    ArchitectureName | None,
    Query(
        description="The network that a file of weights belongs to, such as"
        " `timm/mobilenetv3_small_100`.",
    ),
]
Inputs = Annotated[
    str | None,
    Query(
        max_length=20_000,
        description="What the file does not tell of its inputs, as JSON:"
        ' `[{"name": "image", "dtype": "float32", "shape": ["batch", 3, 224, 224]}]`.'
        " A dynamic dimension is a name.",
    ),
]

Cache = Annotated[
    bool,
    Query(
        description="Of a decoder in a Hugging Face directory: whether the keys and values of"
        " earlier tokens are inputs and outputs (`past_key_values.0.key`, `present.0.key`).",
    ),
]


def hints_of(architecture: str | None, inputs: str | None, *, cache: bool = False) -> ModelHints:
    """Return what is said of an upload.

    Raises:
        Invalid: ``architecture`` is no name of a network, or ``inputs`` is not a list as JSON.
    """
    try:
        _NAME.validate_python(architecture)
    except ValidationError as error:
        faults = _faults("architecture", error)
        raise Invalid(f"'architecture' {faults[0].detail}.", errors=faults) from None
    try:
        named = None if inputs is None else INPUT_HINTS.validate_json(inputs)
    except ValidationError as error:
        faults = _faults("inputs", error)
        raise Invalid(
            f"'{faults[0].pointer[2:]}' {faults[0].detail}. Send a list such as"
            ' [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 224, 224]}].',
            errors=faults,
        ) from None
    return ModelHints(architecture=architecture, inputs=named, cache=cache)


def _faults(name: str, error: ValidationError) -> list[FieldError]:
    return [
        FieldError(pointer="/".join(map(str, ("#", name, *fault["loc"]))), detail=in_words(fault))
        for fault in error.errors()[:_MOST_FAULTS]
    ]
