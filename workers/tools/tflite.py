"""Reads a ``.tflite`` into objects, and writes it again."""

from typing import Any

_IDENTIFIER = b"TFL3"


def schema() -> Any:
    """Return the module of the file's objects, which tflite-micro has."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated

    return schema_py_generated


def unpacked(model: bytes) -> Any:
    """Return a model as objects."""
    return schema().ModelT.InitFromPackedBuf(model, 0)


def packed(model: Any, size: int) -> bytes:
    """Return a model's file, which has about ``size`` bytes."""
    from flatbuffers import Builder

    builder = Builder(size)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def code_of(kind: Any) -> int:
    """Return the number of an operator; older files have it in a field of one byte."""
    return int(max(kind.builtinCode, kind.deprecatedBuiltinCode))
