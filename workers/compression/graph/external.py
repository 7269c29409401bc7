"""Reads external data: weights that an ONNX file keeps in other files.

A path in a model is an attacker's path. Only a regular file with a single name, inside the model's
own directory, is ever opened, and only for as many bytes as the tensor needs.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath

import onnx
import onnx_ir as ir

from app.domain.problems import InvalidModel

_KEYS = {"location", "offset", "length", "checksum"}
_NUMBER = re.compile(r"[0-9]{1,18}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Region:
    """The place of one tensor's bytes in a file."""

    path: Path
    offset: int
    length: int


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor: of initializers, sparse tensors, attributes and functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
        yield from _attribute_tensors(function.attribute_proto)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: list[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: list[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = list(attribute.sparse_tensors)
        if attribute.HasField("sparse_tensor"):
            sparse.append(attribute.sparse_tensor)
        for sparse_tensor in sparse:
            yield sparse_tensor.values
            yield sparse_tensor.indices
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor refers to data outside of the file, in any way."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data) > 0


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Return how many bytes a tensor of this dtype and shape takes when it is stored raw."""
    return int(prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth + 7) // 8


def locate(tensor: onnx.TensorProto, directory: Path) -> Region:
    """Return where an external tensor's bytes are, after checking that they may be read.

    Raises:
        InvalidModel: the reference is malformed, points outside of ``directory``, or does not fit
            the file.
    """
    entries = _entries(tensor)
    name = f"Tensor '{tensor.name}'"
    path = _inside(entries["location"], directory, name)
    numbers = {key: entries.get(key, "0") for key in ("offset", "length")}
    for key, value in numbers.items():
        if not _NUMBER.fullmatch(value):
            raise InvalidModel(f"{name} has an invalid external {key}: {value[:40]!r}.")
    offset, length = int(numbers["offset"]), stored_bytes(tensor)
    if "length" in entries and int(numbers["length"]) != length:
        raise InvalidModel(
            f"{name} needs {length} bytes by its type and shape,"
            f" but its external length is {numbers['length']}."
        )
    if offset + length > path.stat().st_size:
        raise InvalidModel(f"{name} lies beyond the end of '{entries['location']}'.")
    return Region(path, offset, length)


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = f"Tensor '{tensor.name}'"
    if len(entries) != len(tensor.external_data) or not set(entries) <= _KEYS:
        raise InvalidModel(f"{name} has unknown or repeated external-data keys: {sorted(entries)}.")
    if tensor.data_location != onnx.TensorProto.EXTERNAL or tensor.HasField("raw_data"):
        raise InvalidModel(f"{name} has its data both inside and outside of the file.")
    if tensor.data_type == onnx.TensorProto.STRING:
        raise InvalidModel(f"{name} holds strings, which cannot be external data.")
    if not entries.get("location"):
        raise InvalidModel(f"{name} is external but does not say where its data is.")
    return entries


def _inside(location: str, directory: Path, name: str) -> Path:
    """Resolve ``location`` to a regular file below ``directory`` that has no other name."""
    parts = PurePosixPath(location).parts
    has_special = any(character in location for character in ("\\", "\0", ":", "*"))
    if has_special or location.startswith("/") or not parts or ".." in parts:
        raise InvalidModel(
            f"{name} names external data outside of the upload: {location[:80]!r}."
            " Keep it beside the .onnx file and upload both in one zip."
        )
    path = directory
    for part in parts:
        path = path / part
        try:
            status = os.lstat(path)
        except (OSError, ValueError):
            raise InvalidModel(
                f"{name} names external data that is not in the upload: {location[:80]!r}."
                " Upload the .onnx file and its data files together in one zip."
            ) from None
        if stat.S_ISLNK(status.st_mode):
            raise InvalidModel(f"{name} names external data behind a link: {location[:80]!r}.")
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise InvalidModel(f"{name} names external data that is no plain file: {location[:80]!r}.")
    return path


def read(region: Region) -> bytes:
    """Return the bytes of a region."""
    return b"".join(chunks(region))


def chunks(region: Region) -> Iterator[bytes]:
    """Yield the bytes of a region, a bounded piece at a time."""
    descriptor = os.open(region.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        file.seek(region.offset)
        remaining = region.length
        while remaining:
            piece = file.read(min(_CHUNK, remaining))
            if not piece:
                raise InvalidModel(f"'{region.path.name}' ends too early.")
            remaining -= len(piece)
            yield piece
