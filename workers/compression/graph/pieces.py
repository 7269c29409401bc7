"""Runs graphs of any size in time that grows with their size.

onnxruntime's time to load a graph grows with the square of its constants: 13 seconds for 80,000 of
them, some minutes for 300,000. A long graph is cut into pieces of consecutive nodes, each loaded
by itself; the values of a piece are handed to the next ones.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.graph import external, runtime
from workers.compression.graph.runtime import Arrays
from workers.compression.graph.subgraphs import subgraphs_of

LENGTH = 10_000
"""Nodes of a piece."""

Run = Callable[[Mapping[str, NDArray[Any]], float | None], Arrays]
"""From an array for each input, and the seconds after which to stop, to all outputs by name.

Raises TimeoutError where it was stopped, InvalidModel where a piece cannot be loaded, and
onnxruntime's own errors.
"""


def open_graph(path: Path, nodes: int, *, optimize: bool = False, length: int = LENGTH) -> Run:
    """Open a graph on the CPU; a long graph is opened in pieces.

    Args:
        path: a self-contained graph.
        nodes: the number of nodes of the main graph.
        optimize: let onnxruntime optimize the graph; otherwise it is run exactly as written.
        length: the number of nodes of a piece.

    Raises:
        InvalidModel: onnxruntime cannot load it; a piece is loaded when it is first run.
    """
    if nodes > length:
        proto = onnx.load_model(path, load_external_data=False)
        if not any(external.is_external(tensor) for tensor in external.tensors(proto)):
            return _Pieces(proto, path, length, optimize=optimize).run
    return partial(runtime.run, _session(path, optimize=optimize))


def _session(path: Path, *, optimize: bool) -> ort.InferenceSession:
    try:
        return runtime.open_session(path, optimize=optimize)
    except Exception as error:  # onnxruntime has one class for each status code
        if faults.is_limit(error):
            raise
        words = faults.runtime_words(error)
        raise InvalidModel(f"onnxruntime cannot load the model: {words}") from error


@dataclass
class _Piece:
    """Consecutive nodes, with the values that they read from outside and those that they make."""

    proto: onnx.GraphProto
    reads: list[str]
    makes: list[str]
    session: ort.InferenceSession | None = field(default=None)


class _Pieces:
    """A graph in pieces, each loaded when it is first run: only then its input types are known.

    Args:
        proto: the graph, with all its weights.
        path: the file of the graph; opened as a whole where sequences go from piece to piece.
        length: the number of nodes of a piece.
        optimize: let onnxruntime optimize the pieces.
    """

    def __init__(self, proto: onnx.ModelProto, path: Path, length: int, *, optimize: bool) -> None:
        self._path, self._optimize = path, optimize
        self._header = onnx.ModelProto(ir_version=proto.ir_version)
        self._header.opset_import.extend(proto.opset_import)
        self._header.functions.extend(proto.functions)
        self._inputs = {value.name: value for value in proto.graph.input}
        self._outputs = [value.name for value in proto.graph.output]
        self._pieces = _cut(proto.graph, length)
        self._whole: ort.InferenceSession | None = None

    def run(self, feeds: Mapping[str, NDArray[Any]], seconds: float | None = None) -> Arrays:
        """Return all outputs by name."""
        end = None if seconds is None else time.monotonic() + seconds
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        last = {name: index for index, reader in enumerate(self._pieces) for name in reader.reads}
        for index, piece in enumerate(self._pieces):
            if self._whole is not None or not all(values[n].is_tensor() for n in piece.reads):
                self._whole = self._whole or _session(self._path, optimize=self._optimize)
                return runtime.run(self._whole, feeds, seconds)
            piece_inputs = {name: values[name] for name in piece.reads}
            if piece.session is None:
                piece.session = self._open(piece, piece_inputs)
            remaining = None if end is None else max(0.0, end - time.monotonic())
            made = runtime.run_values(piece.session, piece.makes, piece_inputs, remaining)
            values.update(zip(piece.makes, made, strict=True))
            for name in piece.reads:
                if last[name] == index and name not in self._outputs:
                    del values[name]
        return {name: values[name].numpy() for name in self._outputs}

    def _open(
        self, piece: _Piece, piece_inputs: Mapping[str, ort.OrtValue]
    ) -> ort.InferenceSession:
        model = onnx.ModelProto()
        model.CopyFrom(self._header)
        model.graph.CopyFrom(piece.proto)
        for name, value in piece_inputs.items():
            declared = self._inputs.get(name)
            if declared is not None:
                model.graph.input.append(declared)
                continue
            kind = model.graph.input.add(name=name).type.tensor_type
            kind.elem_type = value.element_type()
            kind.shape.dim.extend([onnx.TensorShapeProto.Dimension()] * len(value.shape()))
        piece.proto.Clear()  # the session holds it from here on
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "piece.onnx"
            path.write_bytes(model.SerializeToString())
            return _session(path, optimize=self._optimize)


def _cut(graph: onnx.GraphProto, length: int) -> list[_Piece]:
    """Cut a graph whose nodes are in order; a weight that several pieces read is in all of them."""
    nodes = list(graph.node)
    parts = [nodes[start : start + length] for start in range(0, len(nodes), length)]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name: value for value in graph.output}
    made = [{name for node in part for name in node.output if name} for part in parts]
    read = [
        {name for node in part for name in _names(node)} - made[i] for i, part in enumerate(parts)
    ]
    needed = set(outputs)
    pieces = list[_Piece]()
    for part, makes, reads in reversed(list(zip(parts, made, read, strict=True))):
        needed_outputs = [name for node in part for name in node.output if name in needed]
        proto = onnx.GraphProto(name="piece")
        proto.node.extend(part)
        proto.initializer.extend(weights[name] for name in sorted(reads) if name in weights)
        for name in needed_outputs:
            declared = outputs.get(name)
            proto.output.append(declared or onnx.ValueInfoProto(name=name))
        pieces.append(_Piece(proto, sorted(reads - set(weights)), needed_outputs))
        needed |= reads
        needed -= makes
    return pieces[::-1]


def _names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of outer values that a node and the graphs inside of it read."""
    yield from (name for name in node.input if name)
    for graph in subgraphs_of(node):
        yield from _outer(graph)


def _outer(graph: onnx.GraphProto) -> Iterable[str]:
    """Return the outer values that a subgraph reads."""
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    defined |= {name for node in graph.node for name in node.output}
    read: Sequence[str] = [name for node in graph.node for name in _names(node)]
    return {*read, *(value.name for value in graph.output)} - defined
