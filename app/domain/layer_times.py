"""The times of single layers: a job hands them on to later jobs on machines of the same kind."""

import hashlib
from collections.abc import Hashable
from typing import Annotated

from pydantic import Field

MOST = 5_000
"""How many times a job is given, and hands on, at most."""

MOST_MILLISECONDS = 1e9
"""A longer time is not handed on."""

Form = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Milliseconds = Annotated[float, Field(gt=0, le=MOST_MILLISECONDS, allow_inf_nan=False)]

MillisecondsByForm = Annotated[dict[Form, Milliseconds], Field(max_length=MOST)]
"""The milliseconds of one run of a layer by itself, by the name of its form; see ``form_of``."""


def form_of(what: Hashable) -> str:
    """Return the name of a form: a digest of all that the layer's time depends on.

    Args:
        what: operator, attributes and shapes; its ``repr`` counts.
    """
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]
