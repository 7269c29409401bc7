"""Walks an ONNX file's protobuf encoding before anything parses it.

A parser allocates while it reads and recurses as deep as the message nests, so the bounds must be
checked on the wire: this walk keeps its own stack, skips the contents of tensors and allocates
nothing. The schema is read from the ``onnx`` package's descriptors.
"""

import mmap
from functools import cache
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

from app.domain.problems import InvalidModel
from workers.compression.intake.limits import ModelLimits

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10

_Schema = dict[int, str]
"""Field number → name of the message that it holds, or ``_TEXT``."""

_TEXT = "text"


def check_wire(data: bytes | mmap.mmap, limits: ModelLimits) -> None:
    """Refuse a file that is not a well-formed ONNX model within ``limits``.

    Args:
        data: the whole file.
        limits: the number of fields, and the nesting of messages and graphs.

    Raises:
        InvalidModel: the encoding is broken, truncated, too deep or has too many fields.
    """
    schemas = _schemas()
    root = onnx.ModelProto.DESCRIPTOR.full_name
    graph = onnx.GraphProto.DESCRIPTOR.full_name
    stack = [(len(data), schemas[root], 0)]
    position = fields = 0
    while stack:
        end, schema, graphs = stack[-1]
        if position >= end:
            stack.pop()
            continue
        fields += 1
        if fields > limits.fields:
            raise InvalidModel(f"The model has more than {limits.fields} protobuf fields.")
        key, position = _varint(data, position, end)
        number, kind = key >> 3, key & 7
        if kind != _BYTES:
            position = _skip(data, position, end, kind)
            continue
        length, position = _varint(data, position, end)
        if length > end - position:
            raise _broken("a field is longer than what holds it, as in a file that was cut short")
        child = schema.get(number)
        if child is None or child == _TEXT:
            if child == _TEXT:
                _check_text(data[position : position + length])
            position += length
            continue
        graphs += child == graph
        if graphs > limits.subgraphs + 1 or len(stack) > limits.messages:
            raise InvalidModel(
                f"The model's subgraphs (If, Loop, Scan) nest deeper than {limits.subgraphs}"
                " levels."
            )
        stack.append((position + length, schemas[child], graphs))
    if not fields:
        raise _broken("it is empty")


@cache
def _schemas() -> dict[str, _Schema]:
    """Return, for every message reachable from a model, its fields that are messages or text."""
    schemas: dict[str, _Schema] = {}
    pending: list[Any] = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        message = pending.pop()
        if message.full_name in schemas:
            continue
        children = [field for field in message.fields if field.message_type]
        texts = {f.number: _TEXT for f in message.fields if f.type == FieldDescriptor.TYPE_STRING}
        schemas[message.full_name] = texts | {c.number: c.message_type.full_name for c in children}
        pending += [child.message_type for child in children]
    return schemas


def _check_text(text: bytes) -> None:
    """Refuse a name that is not UTF-8; protobuf's older syntax, which ONNX uses, accepts it."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise _broken("a name in it is not UTF-8 text") from None


def _varint(data: bytes | mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MAX_VARINT):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position
    raise _broken("a number in it does not end")


def _skip(data: bytes | mmap.mmap, position: int, end: int, kind: int) -> int:
    """Return where the scalar field of wire type ``kind`` ends."""
    if kind == _VARINT:
        return _varint(data, position, end)[1]
    width = {_FIXED64: 8, _FIXED32: 4}.get(kind)
    if width is None or position + width > end:
        raise _broken("a field has an unknown encoding")
    return position + width


def _broken(why: str) -> InvalidModel:
    return InvalidModel(
        f"The file is not a readable ONNX model: {why}. Export it again and check it with"
        " onnx.checker.check_model before uploading."
    )
