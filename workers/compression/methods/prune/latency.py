"""Time as the thing to save: layers are timed at the widths they may get, then the whole graph.

Fewer multiply-accumulates are not less time: time is a staircase in width. So each layer is run by
itself, as a graph of one node, at every pair of widths that the allocation asks for, once; and what
the allocation promises is checked, and corrected, on the whole graph.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from app.domain.steps import Prune
from workers.compression.graph.operators import is_layer
from workers.compression.measure.latency import of_one, of_two
from workers.compression.methods.prune.allocate import allocate
from workers.compression.methods.prune.costs import shape_left
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.ground import Ground
from workers.compression.methods.prune.groups import Analysis, Removed
from workers.compression.methods.prune.importance import Scores
from workers.compression.samples.context import Context

_ROUNDS = 5
"""Times that the whole graph is measured and the allocation corrected."""

_CLOSE, _TOO_MUCH = 0.01, 0.05
"""Shares of the time by which the asked ratio may be missed, or passed."""

_CORRECTION = 0.8
"""Of what was missed is wished for in addition."""

Shape = tuple[int, ...]


def allocate_time(
    model: ir.Model,
    analysis: Analysis,
    scores: Scores,
    ground: Ground,
    parameters: Prune,
    context: Context,
) -> tuple[Removed, float]:
    """Choose units so that the graph takes less time, with the least loss.

    Widths that save no time are given back; what the layers' times promise is measured on the
    whole graph, whose other operators take time too, and the wish is corrected by what is missed.

    Args:
        model: the graph; not changed.
        analysis: what hangs together.
        scores: what each unit's absence costs.
        ground: one sample and its shapes.
        parameters: the ratio and the scope.
        context: threads, and where to tell what was saved.

    Returns:
        The removed units, and the share of the whole graph's time that was saved.
    """
    clock = _Clock(model, analysis, ground.sample, context.threads)
    nodes = [node for node in model.graph if is_layer(node)]

    def cost(removed: Removed) -> float:
        return sum(clock.time(node, removed) for node in nodes)

    ratio = wish = parameters.ratio
    tried: list[tuple[float, Removed]] = []
    for _ in range(_ROUNDS):
        removed = allocate(analysis, scores, cost, wish, parameters.scope)
        if any(np.array_equal(removed, before) for _, before in tried):
            break
        smaller = cut(model.clone(), analysis, removed)
        before, after = of_two(model, smaller, ground.one, context.threads)
        saved = 1 - after / before
        context.tell("latency_saved", saved, None)
        tried.append((saved, removed))
        if -_CLOSE <= saved - ratio <= _TOO_MUCH:
            break
        wish = min(0.98, max(0.02, wish + _CORRECTION * (ratio - saved)))
    enough = [each for each in tried if each[0] >= ratio - _CLOSE]
    pick = min if enough else max
    saved, removed = pick(enough or tried, key=lambda each: each[0])
    return removed, saved


class _Clock:
    """Times layers by themselves; each at each width once."""

    def __init__(
        self, model: ir.Model, analysis: Analysis, shapes: Mapping[str, Shape], threads: int
    ) -> None:
        self.model, self.analysis, self.shapes, self.threads = model, analysis, shapes, threads
        self._seen: dict[tuple[str, str, tuple[Shape | None, ...]], float] = {}
        self._random = np.random.default_rng(0)

    def time(self, node: ir.Node, removed: Removed) -> float:
        """Return the milliseconds that a node takes once units are removed."""
        shapes = tuple(
            shape_left(value, self.analysis, self.shapes, removed) for value in node.inputs
        )
        data, weight = shapes[0], shapes[1]
        groups = node.attributes.get_int("group", 1)
        if groups > 1:
            if node.op_type != "Conv" or data is None or weight is None:
                return 0.0
            groups = data[1] // weight[1]
        attributes = sorted((a.name, str(a.value)) for a in node.attributes.values())
        key = (node.op_type, f"{attributes}{groups}", shapes)
        if key not in self._seen:
            self._seen[key] = self._measure(node, shapes, groups)
        return self._seen[key]

    def _measure(self, node: ir.Node, shapes: tuple[Shape | None, ...], groups: int) -> float:
        if any(shape is None or 0 in shape for shape in shapes if shape is not None):
            return 0.0
        model, feeds = self._alone(node, shapes, groups)
        try:
            return of_one(model, feeds, self.threads)
        except Exception:  # noqa: BLE001 (a layer that does not run alone is not timed)
            return 0.0

    def _alone(
        self, node: ir.Node, shapes: tuple[Shape | None, ...], groups: int
    ) -> tuple[ir.Model, dict[str, np.ndarray]]:
        """Return a graph of one node with random weights, and what it reads."""
        values: list[ir.Value | None] = []
        feeds, inputs, constants = {}, [], []
        for index, (value, shape) in enumerate(zip(node.inputs, shapes, strict=True)):
            if value is None or shape is None:
                values.append(None)
                continue
            array = self._random.standard_normal(shape, np.float32)
            name, kind = f"input_{index}", ir.TensorType(ir.DataType.FLOAT)
            own = ir.Value(name=name, shape=ir.Shape(shape), type=kind)
            if value.is_initializer():
                own.const_value = ir.Tensor(array, name=name)
                constants.append(own)
            else:
                feeds[name] = array
                inputs.append(own)
            values.append(own)
        alone = ir.Node("", node.op_type, values, list(node.attributes.values()), num_outputs=1)
        if "group" in alone.attributes:
            alone.attributes["group"] = ir.AttrInt64("group", groups)
        alone.outputs[0].name, alone.outputs[0].type = "output", ir.TensorType(ir.DataType.FLOAT)
        imports = dict(self.model.graph.opset_imports)
        graph = ir.Graph(
            inputs, alone.outputs, nodes=[alone], initializers=constants, opset_imports=imports,
            name="layer",
        )  # fmt: skip
        return ir.Model(graph, ir_version=self.model.ir_version), feeds
