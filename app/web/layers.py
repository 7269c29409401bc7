"""What steps did to each layer: a row for it, and a bar in a picture that leads to the row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.domain.reports import LayerChange, StepReport
from app.web.figures import Number, isolated, scaled

_HEIGHT = 160
_COLUMN, _WIDEST_COLUMN, _LEAST_WIDTH = 8, 64, 640
"""The narrowest and the widest column of a picture, and the narrowest picture."""
_DRAWN = 2000
"""As many layers, the first of them, have bars."""


@dataclass(frozen=True)
class Layer:
    """A layer that steps changed, before the first and after the last of them."""

    number: int
    """Its place in the graph among the changed ones, from 1."""
    node: str
    operator: str
    changes: list[str]
    """What each step did, in words."""
    bytes_before: int
    bytes_after: int

    @property
    def before(self) -> Number:
        """Return the bytes before, for reading."""
        return scaled(self.bytes_before, "B")

    @property
    def after(self) -> Number:
        """Return the bytes after, for reading."""
        return scaled(self.bytes_after, "B")


@dataclass(frozen=True)
class Column:
    """Two bars of a layer: its bytes before and after."""

    layer: Layer
    x: float
    before: float
    """The height of the bar, in units of the picture."""
    after: float

    @property
    def label(self) -> str:
        """Return the layer's figures, in words."""
        layer = self.layer
        return f"{isolated(layer.node)}: {layer.before.text} before, {layer.after.text} after"


@dataclass(frozen=True)
class Picture:
    """Columns side by side, in the order of the graph."""

    columns: list[Column]
    width: int
    height: int
    column: float
    """The width of a column."""


def changed(reports: Iterable[StepReport]) -> list[Layer]:
    """Return the layers that steps changed, each once, in the order of the graph."""
    found: dict[str, list[LayerChange]] = {}
    follows: dict[str | None, str | None] = {None: None}
    for report in reports:
        before: str | None = None
        for layer in report.layers:
            found.setdefault(layer.node, []).append(layer)
            if layer.node not in follows:
                follows[layer.node], follows[before] = follows[before], layer.node
            before = layer.node
    rows: list[Layer] = []
    node = follows[None]
    while node is not None:
        rows.append(_row(len(rows) + 1, found[node]))
        node = follows[node]
    return rows


def _row(number: int, changes: Sequence[LayerChange]) -> Layer:
    first, last = changes[0], changes[-1]
    return Layer(
        number,
        last.node,
        last.operator,
        [change.change for change in changes],
        first.bytes_before,
        last.bytes_after,
    )


def picture(layers: Sequence[Layer]) -> Picture | None:
    """Draw the bytes of layers; None where there are none. The tallest bar is the most bytes."""
    drawn = layers[:_DRAWN]
    if not drawn:
        return None
    most = max(max(layer.bytes_before, layer.bytes_after) for layer in drawn) or 1
    width = max(_LEAST_WIDTH, _COLUMN * len(drawn))
    column = min(width / len(drawn), _WIDEST_COLUMN)

    def height(size: int) -> float:
        return round(max(size / most * _HEIGHT, 1.0), 1)

    columns = [
        Column(
            layer, round(place * column, 1), height(layer.bytes_before), height(layer.bytes_after)
        )
        for place, layer in enumerate(drawn)
    ]
    return Picture(columns, width, _HEIGHT, round(column, 2))
