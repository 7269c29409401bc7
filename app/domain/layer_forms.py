"""What a quantized layer may become, and which formats hold it so."""

from collections.abc import Iterable
from typing import Literal, get_args

from app.domain.targets import EXPORTED, OUTPUT_FORMATS, OutputFormat

LayerForm = Literal["static", "dynamic", "blocks", "stored"]
"""What a layer with weights may become. Products unpack ``blocks`` of weights as they multiply; a
layer whose weights are only ``stored`` in few bits has floats once the file is open."""

LAYER_FORMS: tuple[LayerForm, ...] = get_args(LayerForm)

IN_WORDS: dict[LayerForm, str] = {
    "static": "integers with ranges from data",
    "dynamic": "integers with ranges from each run",
    "blocks": "products with weights in blocks of four bits",
    "stored": "floats with weights in few bits",
}

_HELD: dict[OutputFormat, frozenset[LayerForm]] = {
    **dict.fromkeys(OUTPUT_FORMATS, frozenset(LAYER_FORMS)),
    **dict.fromkeys(EXPORTED, frozenset({"static"})),
    "source": frozenset({"static", "stored"}),
}
"""The forms that each format holds. ``source`` has rounded weights in float for both."""


def not_holding(form: LayerForm, formats: Iterable[OutputFormat]) -> list[OutputFormat]:
    """Return those of some formats that do not hold a form."""
    return [name for name in formats if form not in _HELD[name]]


def held_by_all(formats: Iterable[OutputFormat]) -> frozenset[LayerForm]:
    """Return the forms that a result may have so that each of some formats holds it."""
    return frozenset(LAYER_FORMS).intersection(*(_HELD[name] for name in formats))


def held_by_any(formats: Iterable[OutputFormat]) -> frozenset[LayerForm]:
    """Return the forms that at least one of some formats holds."""
    return frozenset().union(*(_HELD[name] for name in formats))
