"""A graph as boxes in ranks, from its inputs down, for a template that draws them as SVG.

Layers by longest paths and their order by barycentres: Sugiyama, Tagawa, Toda (1981), "Methods for
Visual Understanding of Hierarchical System Structures", without the dummy nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from app.domain.models import Node

_WIDTH, _HEIGHT = 168, 30
_ACROSS, _DOWN = 188, 58
_MARGIN = 16
_SWEEPS = 4

Place = tuple[float, float]
"""The upper left corner of a box."""


@dataclass(frozen=True)
class Box:
    """A node of the drawing; ``x`` and ``y`` are its upper left corner."""

    x: float
    y: float
    name: str
    operator: str


@dataclass(frozen=True)
class Drawing:
    """Boxes and the curves between them, in pixels."""

    boxes: list[Box]
    curves: list[str]
    """Paths of SVG."""
    width: int
    height: int
    box_width: int = _WIDTH
    box_height: int = _HEIGHT


def drawn(nodes: Sequence[Node]) -> Drawing:
    """Lay a graph out.

    Args:
        nodes: in an order in which each stands behind those that it reads from.
    """
    ranks = _ranks(nodes)
    rows = _ordered(nodes, ranks)
    widest = max(map(len, rows), default=1)
    places: dict[int, Place] = {}
    for rank, row in enumerate(rows):
        start = _MARGIN + (widest - len(row)) * _ACROSS / 2
        for place, node in enumerate(row):
            places[node] = (start + place * _ACROSS, _MARGIN + rank * _DOWN)
    edges = [(places[source], places[i]) for i, node in enumerate(nodes) for source in node.reads]
    boxes_end = _MARGIN + widest * _ACROSS
    return Drawing(
        boxes=[
            Box(*places[index], name=node.name, operator=node.operator)
            for index, node in enumerate(nodes)
        ],
        curves=[_curve(*edge) for edge in edges],
        width=ceil(_MARGIN + max([boxes_end, *(_furthest(*edge) for edge in edges)])),
        height=2 * _MARGIN + len(rows) * _DOWN,
    )


def _ranks(nodes: Sequence[Node]) -> list[int]:
    """Return how far down each node stands: below all that it reads from."""
    ranks: list[int] = []
    for node in nodes:
        above = [ranks[source] for source in node.reads if source < len(ranks)]
        ranks.append(1 + max(above, default=-1))
    return ranks


def _ordered(nodes: Sequence[Node], ranks: Sequence[int]) -> list[list[int]]:
    """Return the nodes of each rank from left to right, each near what it is joined to."""
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        rows[ranks[index]].append(index)
        for source in node.reads:
            readers[source].append(index)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        place = {node: place / len(row) for row in rows for place, node in enumerate(row)}
        for row in rows if downwards else reversed(rows):
            joined = {node: nodes[node].reads if downwards else readers[node] for node in row}
            middle = {
                node: sum(place[other] for other in others) / len(others) if others else place[node]
                for node, others in joined.items()
            }
            row.sort(key=middle.__getitem__)
            place |= {node: index / len(row) for index, node in enumerate(row)}
    return rows


def _curve(source: Place, target: Place) -> str:
    """Return the path of an edge; one that passes other ranks swings around their boxes."""
    x0, y0 = source[0] + _WIDTH / 2, source[1] + _HEIGHT
    x1, y1 = target[0] + _WIDTH / 2, target[1]
    middle, swing = (y0 + y1) / 2, _swing(source, target)
    return f"M{x0:g} {y0:g}C{x0 + swing:g} {middle:g} {x1 + swing:g} {middle:g} {x1:g} {y1:g}"


def _swing(source: Place, target: Place) -> int:
    """Return how far the middle of an edge is pulled to the right."""
    return _WIDTH if target[1] - source[1] > _DOWN else 0


def _furthest(source: Place, target: Place) -> float:
    """Return what an edge does not pass to the right: a curve goes three quarters of its pull."""
    return max(source[0], target[0]) + _WIDTH / 2 + 0.75 * _swing(source, target)
