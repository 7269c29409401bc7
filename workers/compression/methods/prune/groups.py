"""Finds the channels of a graph that can be removed, and the channels that are coupled to them.

The graph's nodes are followed in order. For every operator, a rule says how its dimensions are
coupled. DepGraph (Fang et al., CVPR 2023) and Structurally Prune Anything (Wang et al., 2024)
couple whole dimensions; here single indices are coupled, so that concatenations, splits and heads
need no special case. Inputs and outputs of the graph keep their shapes.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.steps import Skipped
from workers.compression.graph.kept import Kept
from workers.compression.graph.operators import RECURRENT, channel_axis, is_layer, operand
from workers.compression.methods.prune import extents
from workers.compression.methods.prune.extents import SHAPED, Extent
from workers.compression.methods.prune.rules import RULES
from workers.compression.methods.prune.trace import Trace, UnknownShape
from workers.compression.methods.prune.units import FIXED, Ids

_STANDARD = {"", "ai.onnx", "com.microsoft"}
"""The domains of the operators that have rules."""

Removed = NDArray[np.bool_]
"""For each unit, whether it is removed."""

INSIDE = "it lies inside a branch or loop of the graph"

_COUPLED = "all its channels are coupled, so that none can be removed alone"

_STATES = "the states of a recurrent layer keep their width"


@dataclass(frozen=True)
class Place:
    """A dimension of an initializer."""

    value: str
    axis: int


@dataclass(frozen=True, eq=False)
class Group:
    """Units that appear in the same dimensions: the channels of a layer and its coupled layers."""

    units: Ids
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Sum:
    """A node, the slot of an operand, and the axis of the operand over which the node sums."""

    node: str
    slot: int
    axis: int


@dataclass(frozen=True)
class Analysis:
    """The removable units of a graph. Values and nodes are given by name, so it fits any copy."""

    units: int
    shapes: Mapping[str, tuple[int, ...]]
    rows: dict[str, tuple[Ids | None, ...]]
    """For each dimension of a value, by name: the units of each index, ``[size, depth]``, -1 for
    none; None if the dimension never shrinks."""
    groups: list[Group]
    sums: list[Sum]
    extents: dict[str, list[int | None]] = field(default_factory=dict)
    """The elements of each computed shape, by name: literals, and None for computed sizes."""
    skipped: list[Skipped] = field(default_factory=list)

    def without(self, groups: Collection[Group]) -> "Analysis":
        """Return the analysis without some groups, which are then never pruned."""
        return replace(self, groups=[group for group in self.groups if group not in groups])

    def none_removed(self) -> Removed:
        """Return the mask that removes no unit; its last element stands for 'no unit'."""
        return np.zeros(self.units + 1, np.bool_)

    def kept(self, value: str, axis: int, removed: Removed) -> NDArray[np.bool_] | None:
        """Return which indices of a dimension are kept; None if the dimension never shrinks."""
        dimensions = self.rows.get(value)
        if dimensions is None or axis >= len(dimensions) or (units := dimensions[axis]) is None:
            return None
        return np.asarray(~removed[units].any(axis=1))

    def size(self, value: str, axis: int, removed: Removed) -> int:
        """Return how many indices of a dimension are kept."""
        kept = self.kept(value, axis, removed)
        return self.shapes[value][axis] if kept is None else int(np.count_nonzero(kept))


def kept_indices(model: ir.Model, analysis: Analysis, removed: Removed) -> Kept:
    """Return which indices of a graph's constants are left when units are removed."""
    cut: Kept = {}
    for name in map(str, model.graph.initializers):
        for axis in range(len(analysis.rows.get(name, ()))):
            kept = analysis.kept(name, axis, removed)
            if kept is not None and not kept.all():
                cut.setdefault(name, {})[axis] = np.flatnonzero(kept).tolist()
    return cut


def analyse(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], ignored: Callable[[str], bool]
) -> Analysis:
    """Find the units of a graph that can be removed.

    Args:
        model: a graph in normal form whose nodes have names; not changed.
        shapes: the shapes of its values, for one choice of its dynamic dimensions.
        ignored: whether the node with a given name must not be pruned.
    """
    trace = Trace(shapes)
    known_extents = _follow(model, trace, ignored)
    for value in model.graph.outputs:
        _fix_all(trace, value, "it is an output of the graph")
    return _conclude(model, trace, known_extents)


def _follow(
    model: ir.Model, trace: Trace, ignored: Callable[[str], bool]
) -> dict[ir.Value, Extent]:
    known_extents: dict[ir.Value, Extent] = {}
    for node in model.graph:
        extent = extents.follow(node, known_extents, _rank(trace, operand(node, 0)))
        if extent is not None:
            known_extents[node.outputs[0]] = extent
            continue
        _fix_computed_sizes(node, known_extents, trace)
        _follow_node(node, known_extents, trace)
        if ignored(str(node.name)):
            for value in node.inputs:
                if value is not None and value.is_initializer():
                    _fix_all(trace, value, "named in 'ignore'")
    return known_extents


def _follow_node(node: ir.Node, known_extents: Mapping[ir.Value, Extent], trace: Trace) -> None:
    """Apply an operator's rule; without a rule, all dimensions of the node's inputs are fixed."""
    rule = RULES.get(node.op_type) if node.domain in _STANDARD and not _has_graphs(node) else None
    reason = f"it passes through {node.op_type} ('{node.name}')"
    if rule is not None:
        try:
            trace.labels.update(zip(node.outputs, rule(node, trace), strict=True))
            if node.op_type in SHAPED:
                _meet_shape(node, known_extents, trace)
        except UnknownShape as unknown:
            reason = str(unknown)
        except Exception:  # noqa: BLE001 (a rule that fails is as good as none)
            reason = f"the rule of {node.op_type} does not fit '{node.name}'"
        else:
            return
    for value in all_inputs(node):
        _fix_all(trace, value, reason)


def _rank(trace: Trace, value: ir.Value | None) -> int | None:
    try:
        return None if value is None else len(trace.shape(value))
    except UnknownShape:
        return None if value is None or value.shape is None else len(value.shape)


def _fix_all(trace: Trace, value: ir.Value, reason: str) -> None:
    try:
        trace.fix(value, reason)
    except UnknownShape:
        trace.labels.pop(value, None)


def _has_graphs(node: ir.Node) -> bool:
    return any(
        attribute.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}
        for attribute in node.attributes.values()
    )


def all_inputs(node: ir.Node) -> list[ir.Value]:
    """Return a node's inputs, and the outer values that its subgraphs read."""
    values = [value for value in node.inputs if value is not None]
    if _has_graphs(node):
        inner = ir.traversal.RecursiveGraphIterator([node])  # type: ignore[arg-type]
        values += [v for inner_node in inner for v in inner_node.inputs if v is not None]
    return values


def _fix_computed_sizes(
    node: ir.Node, known_extents: Mapping[ir.Value, Extent], trace: Trace
) -> None:
    """Fix the dimensions whose sizes enter the arithmetic of a node."""
    for slot, value in enumerate(node.inputs):
        adapts = SHAPED.get(node.op_type) == slot
        for element in () if value is None or adapts else known_extents.get(value, ()):
            if isinstance(element, tuple):
                trace.fix(element[0], f"'{node.name}' computes with its size", [element[1]])


def _meet_shape(node: ir.Node, known_extents: Mapping[ir.Value, Extent], trace: Trace) -> None:
    """Couple the dimensions whose sizes a shape is built of with those of the output."""
    shape_input = operand(node, SHAPED[node.op_type])
    if shape_input is None:
        return
    output, shape = node.outputs[0], extents.extent_of(shape_input, known_extents)
    reason = f"the shape of '{node.name}' is computed"
    if shape is None or len(shape) != len(trace.shape(output)):
        trace.fix(output, reason)
        return
    for axis, element in enumerate(shape):
        if element is None:
            trace.fix(output, reason, [axis])
        elif isinstance(element, tuple):
            source, place = element
            if trace.shape(source)[place] == trace.shape(output)[axis]:
                trace.units.unify(trace.of(source)[place], trace.of(output)[axis], reason)
            else:
                trace.fix(source, reason, [place])
                trace.fix(output, reason, [axis])


def _conclude(model: ir.Model, trace: Trace, known_extents: Mapping[ir.Value, Extent]) -> Analysis:
    """Number the removable units, and group those that appear in the same dimensions."""
    resolved = {v: [trace.units.resolve(label) for label in ls] for v, ls in trace.labels.items()}
    virtual = [trace.units.resolve(label) for label in trace.splits]
    all_labels = [label for labels in resolved.values() for label in labels] + virtual
    layers = [layer for label in all_labels for layer in label]
    ids = np.unique(np.concatenate([*layers, np.array([-1])]))
    ids = ids[ids >= 0]
    rows = {
        str(value.name): tuple(_numbered(label, ids) for label in labels)
        for value, labels in resolved.items()
        if any(labels)
    }
    appearance = _appearance([_numbered(label, ids) for label in all_labels], len(ids))
    constants = [v for v in resolved if v.is_initializer()]
    return Analysis(
        units=len(ids),
        shapes=dict(trace.shapes) | {str(v.name): trace.shape(v) for v in constants},
        rows=rows,
        groups=_groups(rows, [str(v.name) for v in constants], appearance),
        sums=[Sum(str(s.node.name), s.slot, s.axis) for s in trace.sums],
        extents={
            str(value.name): [element if isinstance(element, int) else None for element in extent]
            for value, extent in known_extents.items()
        },
        skipped=list(_skipped(model, trace, rows)),
    )


def _numbered(label: tuple[Ids, ...], ids: Ids) -> Ids | None:
    if not label:
        return None
    stacked = np.stack(label, axis=1)
    return np.where(stacked < 0, -1, np.searchsorted(ids, stacked))


def _appearance(labels: list[Ids | None], count: int) -> NDArray[np.uint64]:
    """Return, for each unit, a hash of the dimensions that it appears in."""
    marks = np.zeros(count, np.uint64)
    keys = np.random.default_rng(0).integers(1, 1 << 63, len(labels), np.uint64)
    for label, key in zip(labels, keys, strict=True):
        if label is not None:
            units = np.unique(label)
            marks[units[units >= 0]] ^= key
    return marks


def _groups(
    rows: dict[str, tuple[Ids | None, ...]], constants: list[str], marks: NDArray[np.uint64]
) -> list[Group]:
    places: dict[int, list[Place]] = {}
    for value in constants:
        for axis, units in enumerate(rows.get(value, ())):
            if units is not None:
                for mark in np.unique(marks[np.unique(units[units >= 0])]).tolist():
                    places.setdefault(mark, []).append(Place(value, axis))
    first: dict[int, int] = {}
    for unit, mark in enumerate(marks.tolist()):
        first.setdefault(mark, unit)
    members = {mark: np.flatnonzero(marks == np.uint64(mark)) for mark in first}
    return [
        Group(members[mark], tuple(places[mark]))
        for mark in sorted(first, key=lambda mark: first[mark])
        if mark in places and len(members[mark]) > 1
    ]


def _skipped(
    model: ir.Model, trace: Trace, rows: dict[str, tuple[Ids | None, ...]]
) -> list[Skipped]:
    """Return the layers that have no removable output channel, each with the reason."""
    refusals = []
    for node in model.graph.all_nodes():
        if node.op_type in RECURRENT:
            refusals.append(Skipped(node=str(node.name), reason=_STATES))
        weight = operand(node, 1) if is_layer(node) else None
        if weight is None or not weight.is_initializer():
            continue
        if node.graph is not model.graph:
            refusals.append(Skipped(node=str(node.name), reason=INSIDE))
            continue
        axis = channel_axis(node) or 0
        units = rows.get(str(weight.name), (FIXED,) * 2)
        label = trace.labels[weight][axis] if weight in trace.labels else FIXED
        removable = units[axis] if units else None
        if removable is None or not len(removable):
            reasons = sorted(trace.units.reasons(label))
            refusals.append(
                Skipped(node=str(node.name), reason=reasons[0] if reasons else _COUPLED)
            )
    return refusals
