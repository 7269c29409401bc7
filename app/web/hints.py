"""What users say of a model besides its bytes: parameters of a query, or fields of a form."""

import re
from typing import Annotated

from fastapi import Query
from pydantic import ValidationError

from app.domain.models import ARCHITECTURE, INPUT_HINTS, ModelHints
from app.domain.problems import FieldError, Invalid

Architecture = Annotated[
    str | None,
    Query(
        pattern=ARCHITECTURE,
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
    if architecture is not None and not re.match(ARCHITECTURE, architecture):
        detail = "must be a name such as timm/mobilenetv3_small_100"
        faults = [FieldError(pointer="#/architecture", detail=detail)]
        raise Invalid(f"'architecture' {detail}.", errors=faults)
    if inputs is None:
        return ModelHints(architecture=architecture, cache=cache)
    try:
        named = INPUT_HINTS.validate_json(inputs)
    except ValidationError as error:
        faults = [
            FieldError(
                pointer="#/inputs" + "".join(f"/{part}" for part in fault["loc"]),
                detail=fault["msg"],
            )
            for fault in error.errors(include_url=False, include_context=False)[:20]
        ]
        raise Invalid(
            f"'inputs' cannot be read: {faults[0].detail}. Send a list such as"
            ' [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 224, 224]}].',
            errors=faults,
        ) from None
    return ModelHints(architecture=architecture, inputs=named, cache=cache)
