"""Writes an ONNX file tensor by tensor, without a second copy of the weights in memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import Message

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_BYTES = 2
"""The wire type of messages and bytes."""

LARGE = 1 << 16
"""The size in bytes from which a tensor is written without a copy."""


@dataclass(frozen=True)
class Content:
    """The bytes of a tensor, fetched when they are written."""

    length: int
    put: Callable[[BinaryIO], object]


def write(proto: onnx.ModelProto, path: Path, contents: Mapping[int, Content]) -> None:
    """Write a model, the same bytes for the same model.

    Args:
        proto: the model; not changed.
        path: overwritten.
        contents: bytes of the main graph's initializers that have no data in ``proto``, by
            position.
    """
    graph = _without(proto.graph, _INITIALIZER)
    weights = _weights(proto, contents)
    with path.open("wb") as file:
        file.write(_without(proto, _GRAPH))
        file.write(_head(_GRAPH, len(graph) + sum(map(_whole, weights))))
        file.write(graph)
        for weight in weights:
            file.write(_head(_INITIALIZER, weight.length))
            weight.put(file)


def size(proto: onnx.ModelProto) -> int:
    """Return the number of bytes that ``write`` writes; ``ByteSize`` would build them to count."""
    graph = len(_without(proto.graph, _INITIALIZER)) + sum(map(_whole, _weights(proto, {})))
    return len(_without(proto, _GRAPH)) + len(_head(_GRAPH, graph)) + graph


def _whole(weight: Content) -> int:
    return len(_head(_INITIALIZER, weight.length)) + weight.length


def _weights(proto: onnx.ModelProto, contents: Mapping[int, Content]) -> list[Content]:
    """Return the bytes of the initializers."""
    weights = []
    for index, tensor in enumerate(proto.graph.initializer):
        content = contents.get(index)
        if content is None and len(tensor.raw_data) > LARGE:
            content = Content(len(tensor.raw_data), partial(_put_raw, tensor))
        weights.append(_plain(tensor) if content is None else _with_content(tensor, content))
    return weights


def _plain(tensor: onnx.TensorProto) -> Content:
    return Content(int(tensor.ByteSize()), partial(_put_tensor, tensor))


def _with_content(tensor: onnx.TensorProto, content: Content) -> Content:
    """Return the bytes of a tensor, with its content after all other fields."""
    head = _without(tensor, _RAW_DATA) + _head(_RAW_DATA, content.length)
    return Content(len(head) + content.length, partial(_put_behind, head, content))


def _put_raw(tensor: onnx.TensorProto, file: BinaryIO) -> None:
    file.write(tensor.raw_data)


def _put_tensor(tensor: onnx.TensorProto, file: BinaryIO) -> None:
    file.write(tensor.SerializeToString(deterministic=True))


def _put_behind(head: bytes, content: Content, file: BinaryIO) -> None:
    file.write(head)
    content.put(file)


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
    """Return the header of a field: its number and the length of its bytes."""
    return bytes((*_varint(number << 3 | _BYTES), *_varint(length)))


def _varint(value: int) -> Iterator[int]:
    while value >= 0x80:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
