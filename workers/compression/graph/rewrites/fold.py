"""Fold constants: compute the nodes that depend on constants only."""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import runtime
from workers.compression.graph.chance import RANDOM
from workers.compression.graph.inference import infer
from workers.compression.graph.rewrites.joined import groups_of, read_inside_only, read_outside

_TINY = 4 << 10
_SMALL = dict.fromkeys(
    ("Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"), _TINY
) | {"Transpose": 0}
"""Bytes up to which a result may be larger than the constants that it replaces: sizes and shapes
that are cast or picked, not weights that are stored in a narrow type, or that others read too. What
has axes to turn is a weight."""

_SMALL_ELSE = 1 << 20
"""The same for other operators."""

_GROWTH = 64 << 20
"""Bytes that all results together may add."""

_LARGE = 256 << 20
"""Bytes that inputs and outputs of one folded node may take."""

_MANY, _MUCH = 4_000, 64 << 20
"""Nodes, and bytes of their inputs and outputs, that are run together: onnxruntime's time to load
grows with the square of the constants."""

_CONSTANTS = 4
"""The IR version from which on initializers need not be inputs."""

_KEPT = RANDOM | {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Constant", "Dropout", "If",
    "Loop", "Scan",
}  # fmt: skip

_Array = NDArray[Any]


def fold_constants(model: ir.Model, *, growing: bool = False) -> int:
    """Replace nodes whose inputs are all constant by their results, in subgraphs too.

    1. onnxruntime computes the values: it runs many nodes at a time.
    2. A Shape or Size of a value whose dimensions are all known is a constant, and so are known
       dimensions that are picked out of a Shape.
    3. A result's size must be known before it is computed. Past 1 MiB it must not outgrow the
       constants that it replaces, and all together must not add more than 64 MiB: folding needs
       little memory and hardly makes the file grow. A float16 weight stays as it is stored, and
       so does a weight that is turned for some who read it, not for all. With ``growing`` results
       may be of any size: weights that are stored in few bits become floats.
    4. Nodes that cut weights and join them in another order are folded together where their
       results are no larger than the weights, as torch exports recurrent layers.
    5. Random operators, quantization and nodes with subgraphs stay.
    6. A node that makes a graph output, strings or sequences stays.
    """
    infer(model)
    folder = _Folder(model, growing=growing)
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if isinstance(node.graph, ir.Graph):
            folder.look_at(node)
    folder.run_batch()
    folder.fold_joined()
    return folder.folded


def foldable(model: ir.Model) -> bool:
    """Return whether a graph may have nodes to lift or fold, judging by the stated shapes."""
    return any(map(_may_fold, ir.traversal.RecursiveGraphIterator(model.graph)))


def _may_fold(node: ir.Node) -> bool:
    if node.op_type in _OF_SHAPE:
        dims = node.inputs[0].shape if node.inputs[0] is not None else None
        return dims is None or dims.is_static()
    return node.op_type == "Constant" or _is_constant_throughout(node)


def _is_constant_throughout(node: ir.Node) -> bool:
    inputs = [value.const_value for value in node.inputs if value is not None]
    return bool(inputs) and None not in inputs and node.op_type not in _KEPT


class _Folder:
    """Collects constant nodes, runs them together and replaces them by their results."""

    def __init__(self, model: ir.Model, *, growing: bool) -> None:
        self.folded = 0
        self._growing = growing
        self._model = model
        self._growth = 0
        self._batch: dict[ir.Node, None] = {}
        self._made: set[ir.Value] = set()
        """The outputs of the nodes of the batch."""
        self._bytes = 0

    def look_at(self, node: ir.Node) -> None:
        """Fold a node, or add it to the batch, if its inputs are constant by then."""
        if node.domain != "" or any(value.is_graph_output() for value in node.outputs):
            return
        if self._growth > _GROWTH and not self._growing:
            return
        sizes = _picked_sizes(node)
        if sizes is None and node.op_type in _OF_SHAPE:
            sizes = _of_shape(node)
        if sizes is not None:
            self._replace(node, [sizes])
        elif self._is_constant(node):
            self._add_to_batch(node)

    def run_batch(self) -> None:
        """Run the collected nodes together; if that fails, one by one."""
        batch, self._batch = list(self._batch), {}
        self._made, self._bytes = set(), 0
        if self._fold(batch) or len(batch) == 1:
            return
        for node in batch:
            if self._is_constant(node):
                self._fold([node])

    def fold_joined(self) -> None:
        """Fold the nodes whose results grow one by one, but not together."""
        left = list[ir.Node]()
        for node in ir.traversal.RecursiveGraphIterator(self._model.graph):
            if node.domain == "" and self._is_constant(node) and all(map(_is_known, node.outputs)):
                left.append(node)
                self._made.update(node.outputs)
        read = {value for node in left for value in node.inputs if value is not None}
        weights = {value for value in read - self._made if self._size(value) > _TINY}
        for group in groups_of(left, weights):
            values = {value for node in group for value in (*node.inputs, *node.outputs) if value}
            replaced, results = read_inside_only(group), read_outside(group)
            grows = self._together(results) > self._together(replaced)
            if not grows and self._together(values) <= _LARGE:
                self._fold(group)

    def _together(self, values: Iterable[ir.Value]) -> int:
        return sum(map(self._size, values))

    def _is_constant(self, node: ir.Node) -> bool:
        values = [value for value in node.inputs if value is not None]
        return (
            node.op_type not in _KEPT
            and bool(values)
            and all(value.const_value is not None or value in self._made for value in values)
        )

    def _add_to_batch(self, node: ir.Node) -> None:
        values = dict.fromkeys(value for value in node.inputs if value is not None)
        sizes = {value: self._size(value) for value in values}
        input_bytes = sum(sizes.values())
        replaced = sum(size for value, size in sizes.items() if _all_equal(value.consumers()))
        results = [_bytes(value) for value in node.outputs]
        output_bytes = sum(size for size in results if size is not None)
        small = _SMALL.get(node.op_type, _SMALL_ELSE)
        grows = output_bytes > max(small, replaced) or output_bytes + input_bytes > _LARGE
        if None in results or (grows and not self._growing):
            return
        if self._bytes + output_bytes + input_bytes > _MUCH or len(self._batch) >= _MANY:
            self.run_batch()
            if not self._is_constant(node):
                return
        self._batch[node] = None
        self._made.update(node.outputs)
        self._bytes += output_bytes + input_bytes
        self._growth += max(0, output_bytes - replaced)

    def _size(self, value: ir.Value) -> int:
        return value.const_value.nbytes if value.const_value is not None else _bytes(value) or 0

    def _fold(self, batch: list[ir.Node]) -> bool:
        """Replace nodes by their results; return False if onnxruntime cannot run them."""
        if not batch:
            return True
        results = read_outside(batch)
        arrays = _run(batch, results, self._model)
        if arrays is None:
            return False
        for value, array in zip(results, arrays, strict=True):
            _put(value, array)
        for node in reversed(batch):
            assert isinstance(node.graph, ir.Graph)
            node.graph.remove(node, safe=True)
        self.folded += len(batch)
        return True

    def _replace(self, node: ir.Node, arrays: list[_Array]) -> None:
        for value, array in zip(node.outputs, arrays, strict=True):
            _put(value, array)
        assert isinstance(node.graph, ir.Graph)
        node.graph.remove(node, safe=True)
        self.folded += 1


def _all_equal(nodes: Sequence[ir.Node]) -> bool:
    """Return whether all nodes compute the same from the same inputs."""
    first = (nodes[0].op_identifier(), nodes[0].inputs, nodes[0].attributes)
    return all((n.op_identifier(), n.inputs, n.attributes) == first for n in nodes[1:])


def _picked_sizes(node: ir.Node) -> _Array | None:
    """Return the dimensions that a Gather picks from a Shape, if they are known."""
    shape = node.inputs[0].producer() if node.op_type == "Gather" and node.inputs[0] else None
    value = shape.inputs[0] if shape is not None and shape.op_type == "Shape" else None
    index = node.inputs[1] if value is not None else None
    picked = ir.convenience.get_const_tensor(index) if index is not None else None
    if shape is None or value is None or value.shape is None or picked is None or shape.attributes:
        return None
    places = picked.numpy()
    if places.size == 0 or np.abs(places + 0.5).max() > len(value.shape):
        return None
    sizes = [value.shape[place] for place in places.reshape(-1).tolist()]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return np.asarray(sizes, np.int64).reshape(places.shape)


def _is_known(output: ir.Value) -> bool:
    """Return whether a node's output may be replaced by a constant of a known size."""
    return _bytes(output) is not None and not output.is_graph_output()


def _bytes(value: ir.Value) -> int | None:
    """Return the bytes of a value's elements, None unless all its dimensions are known."""
    if value.dtype in {None, ir.DataType.STRING} or value.shape is None:
        return None
    if not value.shape.is_static():
        return None
    return int(prod(value.shape.numpy()) * value.dtype.itemsize) if value.dtype else None


def _run(nodes: list[ir.Node], results: list[ir.Value], model: ir.Model) -> list[_Array] | None:
    """Run nodes in a graph of their own and return some of their outputs; None if it fails."""
    copies: dict[ir.Value, ir.Value] = {}
    constants = list[ir.Value]()
    singles = list[ir.Node]()
    for node in nodes:
        for value in node.inputs:
            if value is not None and value not in copies:
                assert value.const_value is not None
                copies[value] = _constant(f"c{len(copies)}", value.const_value)
                constants.append(copies[value])
        single = ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else copies[value] for value in node.inputs],
            list(node.attributes.values()),
            num_outputs=len(node.outputs),
        )
        for copied_output, output in zip(single.outputs, node.outputs, strict=True):
            copied_output.name, copied_output.type = f"v{len(copies)}", output.type
            copies[output] = copied_output
        singles.append(single)
    graph = ir.Graph(
        [],
        [copies[value] for value in results],
        nodes=singles,
        initializers=constants,
        opset_imports=dict(model.graph.opset_imports),
        name="fold",
    )
    alone = ir.Model(graph, ir_version=max(model.ir_version, _CONSTANTS))
    try:
        outputs = runtime.run(runtime.session_of(alone), {})
    except Exception:  # noqa: BLE001 (what cannot be run here is left to the run itself)
        return None
    return [outputs[str(copies[value].name)] for value in results]


def _shape(node: ir.Node, dims: tuple[int, ...]) -> _Array:
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(dims))
    return np.asarray(dims[start:end], dtype=np.int64)


def _size(_node: ir.Node, dims: tuple[int, ...]) -> _Array:
    return np.asarray(prod(dims), dtype=np.int64)


_OF_SHAPE: dict[str, Callable[[ir.Node, tuple[int, ...]], _Array]] = {
    "Shape": _shape,
    "Size": _size,
}


def _of_shape(node: ir.Node) -> _Array | None:
    """Return the Shape or Size of a value, if all its dimensions are known."""
    dims = node.inputs[0].shape if node.inputs[0] is not None else None
    if dims is None or not dims.is_static():
        return None
    return _OF_SHAPE[node.op_type](node, dims.numpy())


def _put(value: ir.Value, array: _Array) -> None:
    """Replace a value by an initializer with the result, under its name."""
    node = value.producer()
    assert node is not None
    assert isinstance(node.graph, ir.Graph)
    constant = _constant(str(value.name), ir.tensor(array, name=value.name))
    value.replace_all_uses_with(constant)
    node.graph.register_initializer(constant)


def _constant(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=shape)
