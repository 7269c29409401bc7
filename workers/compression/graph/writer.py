"""Writes an ONNX file tensor by tensor, so that no second copy of the weights is ever in memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import Message

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_BYTES = 2
"""The wire type of messages and bytes."""


@dataclass(frozen=True)
class Content:
    """The bytes of a tensor, which are fetched when they are written."""

    length: int
    put: Callable[[BinaryIO], object]


def write(proto: onnx.ModelProto, path: Path, contents: Mapping[int, Content]) -> None:
    """Write a model, the same bytes for the same model.

    Args:
        proto: the model; not changed.
        path: overwritten.
        contents: of the main graph's initializers at these places, which have no data in ``proto``.
    """
    graph = _without(proto.graph, _INITIALIZER)
    sizes = [
        _size(tensor, contents.get(index)) for index, tensor in enumerate(proto.graph.initializer)
    ]
    length = len(graph) + sum(len(_head(_INITIALIZER, size)) + size for size in sizes)
    with path.open("wb") as file:
        file.write(_without(proto, _GRAPH))
        file.write(_head(_GRAPH, length))
        file.write(graph)
        for index, (tensor, size) in enumerate(zip(proto.graph.initializer, sizes, strict=True)):
            file.write(_head(_INITIALIZER, size))
            file.write(tensor.SerializeToString(deterministic=True))
            if content := contents.get(index):
                file.write(_head(_RAW_DATA, content.length))
                content.put(file)


def _size(tensor: onnx.TensorProto, content: Content | None) -> int:
    size = int(tensor.ByteSize())
    if content is None:
        return size
    return size + len(_head(_RAW_DATA, content.length)) + content.length


def _without(message: Message, number: int) -> bytes:
    """Return the bytes of a message without one of its fields."""
    rest = type(message)()
    for field, value in message.ListFields():
        if field.number == number:
            continue
        if hasattr(value, "MergeFrom"):
            getattr(rest, field.name).MergeFrom(value)  # a message, or several values
        else:
            setattr(rest, field.name, value)
    return bytes(rest.SerializeToString(deterministic=True))


def _head(number: int, length: int) -> bytes:
    """Return what stands before the bytes of a field: its number, and how many they are."""
    return bytes((*_varint(number << 3 | _BYTES), *_varint(length)))


def _varint(value: int) -> Iterator[int]:
    while value >= 0x80:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
