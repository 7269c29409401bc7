"""Loads and saves graphs.

A graph on disk is self-contained: one ``.onnx`` file, or, past protobuf's limit of 2 GiB,
``<name>.onnx`` with its weights in ``<name>.onnx.data`` beside it. The same graph gives the same
bytes.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from app.domain.problems import InvalidModel
from workers.compression.graph import external
from workers.compression.graph.narrow import narrowed, widen
from workers.compression.graph.packing import unpack
from workers.compression.graph.subgraphs import subgraphs_of
from workers.compression.graph.writer import LARGE, Content, size, write

INLINE_LIMIT = (1 << 31) - (64 << 20)
"""Bytes of weights that one file holds; the rest of 2 GiB is left to the graph itself."""

_KEEP_INLINE = 1024
"""Bytes below which a tensor stays in the file even when the weights are external."""

_NOTES = ("planish.", "pkg.")
"""What keys of metadata begin with that this engine keeps in memory, or an exporter notes."""


def load(path: Path) -> ir.Model:
    """Read a graph that was checked at intake, or written by ``save`` or ``store``.

    Weights that are stored in half precision behind a Cast become float32; packed weights are
    unpacked.

    Raises:
        InvalidModel: its external data is not a plain file beside it, or the graph cannot be
            represented.
    """
    proto = onnx.load_model(path, load_external_data=False)
    for tensor in external.tensors(proto):
        if external.is_external(tensor):
            external.locate(tensor, path.parent)
    try:
        model = ir.serde.deserialize_model(proto)
    except ir.serde.SerdeError as error:
        raise InvalidModel(f"The graph cannot be read: {str(error)[:300]}") from None
    passes.TopologicalSortPass()(model)
    ir.external_data.set_base_dir(model.graph, path.parent)
    widen(model)
    unpack(model)
    return model


def store(model: ir.Model, path: Path) -> None:
    """Write a graph for users: as ``save``, with weights in the type of the upload."""
    save(narrowed(model), path)


def save(model: ir.Model, path: Path) -> None:
    """Write a graph, sorted topologically, without documentation and exporters' notes.

    The metadata of the model stay, which runtimes read: names of classes, strides, vocabularies.
    External tensors that lie in another file are copied. The nodes of ``model`` are
    sorted in place.

    Args:
        model: the graph.
        path: the file to write, ending in ``.onnx``; overwritten.
    """
    passes.TopologicalSortPass()(model)
    if weight_bytes(model) <= INLINE_LIMIT:
        proto, contents = _serialized(model)
        _write(proto, path, contents)
        return
    data = path.with_name(path.name + ".data")
    stripped = passes.ClearMetadataAndDocStringPass()(model.clone()).model
    kept = users_metadata(model.metadata_props)
    stripped.metadata_props.clear()
    stripped.metadata_props.update(kept)
    ir.save(stripped, path, external_data=data.name, size_threshold_bytes=_KEEP_INLINE)


def make_self_contained(proto: onnx.ModelProto, source: Path, path: Path) -> None:
    """Write an upload's model so that it depends on no file but its own.

    Args:
        proto: the checked model; its external tensors are changed in place.
        source: the directory of the external data.
        path: the file to write, ending in ``.onnx``.

    Raises:
        InvalidModel: external data that may not be read, or too large outside of initializers.
    """
    regions = [
        (tensor, external.locate(tensor, source))
        for tensor in external.tensors(proto)
        if external.is_external(tensor)
    ]
    total = sum(region.length for _, region in regions)
    files = {region.path: region.path.stat().st_size for _, region in regions}
    if total > 2 * sum(files.values()) + (1 << 20):
        raise InvalidModel("The model's tensors name the same external bytes over and over.")
    if total + size(proto) <= INLINE_LIMIT:
        contents = _brought_in(proto, regions)
    else:
        contents = {}
        _move_out(proto, regions, path)
    _write(proto, path, contents)


def files_of(path: Path) -> list[Path]:
    """Return the files that a graph on disk consists of."""
    data = path.with_name(path.name + ".data")
    return [path, data] if data.exists() else [path]


def users_metadata(entries: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of a model without the notes of exporters, and of this engine."""
    return {key: text for key, text in entries.items() if not key.startswith(_NOTES)}


def weight_bytes(model: ir.Model) -> int:
    """Return the bytes of the main graph's initializers."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _write(proto: onnx.ModelProto, path: Path, contents: Mapping[int, Content]) -> None:
    """Write a model without documentation and notes, the same bytes for the same model."""
    _strip(proto)
    write(proto, path, contents)


def _serialized(model: ir.Model) -> tuple[onnx.ModelProto, dict[int, Content]]:
    """Return a model without its large weights, and these weights by their positions."""
    large = {
        value: tensor
        for value in model.graph.initializers.values()
        if (tensor := value.const_value) is not None and _is_apart(tensor)
    }
    for value in large:
        value.const_value = ir.Tensor(np.empty(0, np.float32))
    try:
        proto = ir.serde.serialize_model(model)
    finally:
        for value, tensor in large.items():
            value.const_value = tensor
    contents, named = {}, {str(value.name): tensor for value, tensor in large.items()}
    for index, entry in enumerate(proto.graph.initializer):
        if entry.name in named:
            tensor = named[entry.name]
            entry.CopyFrom(
                onnx.TensorProto(
                    name=entry.name, data_type=tensor.dtype.value, dims=tensor.shape.numpy()
                )
            )
            contents[index] = Content(tensor.nbytes, partial(_put, tensor))
    return proto, contents


def _is_apart(tensor: ir.TensorProtocol) -> bool:
    external = isinstance(tensor, ir.ExternalTensor)
    return tensor.dtype != ir.DataType.STRING and (external or tensor.nbytes > LARGE)


def _put(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    file.write(tensor.tobytes())


def _brought_in(
    proto: onnx.ModelProto, regions: list[tuple[onnx.TensorProto, external.Region]]
) -> dict[int, Content]:
    """Read external tensors into the model; return those of initializers by their positions."""
    places = {id(tensor): index for index, tensor in enumerate(proto.graph.initializer)}
    contents = {}
    for tensor, region in regions:
        if (index := places.get(id(tensor))) is None:
            _inline(tensor, external.read(region))
            continue
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        contents[index] = Content(region.length, partial(_copy, region))
    return contents


def _copy(region: external.Region, file: BinaryIO) -> None:
    file.writelines(external.chunks(region))


def _inline(tensor: onnx.TensorProto, data: bytes) -> None:
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    tensor.raw_data = data


def _point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Make an external tensor refer to its bytes in another file."""
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _move_out(
    proto: onnx.ModelProto, regions: list[tuple[onnx.TensorProto, external.Region]], path: Path
) -> None:
    """Copy large initializers into the data file, all other tensors into the graph."""
    data = path.with_name(path.name + ".data")
    large = {id(t) for t in proto.graph.initializer if external.is_external(t)}
    with data.open("wb") as file:
        for tensor, region in regions:
            if id(tensor) not in large or region.length < _KEEP_INLINE:
                _inline(tensor, external.read(region))
                continue
            offset = file.tell()
            for piece in external.chunks(region):
                file.write(piece)
            _point(tensor, data.name, offset, region.length)
    if proto.ByteSize() > INLINE_LIMIT:
        raise InvalidModel("The model keeps more than 2 GiB outside of its initializers.")


def _strip(proto: onnx.ModelProto) -> None:
    """Remove the notes of an exporter about its run: documentation, stack traces, paths."""
    proto.ClearField("doc_string")
    kept = [entry for entry in proto.metadata_props if not entry.key.startswith(_NOTES)]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    _strip_graph(proto.graph)
    for function in proto.functions:
        function.ClearField("doc_string")
        del function.metadata_props[:]
        _strip_nodes(function.node)


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    for entry in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        entry.ClearField("doc_string")
        del entry.metadata_props[:]
    _strip_nodes(graph.node)


def _strip_nodes(nodes: list[onnx.NodeProto]) -> None:
    for node in nodes:
        node.ClearField("doc_string")
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
        for graph in subgraphs_of(node):
            _strip_graph(graph)
