"""Writes objects as a flatbuffer of a schema, within this process.

The compiler of flatbuffers is a program, and the confinement starts none. The part of the schema
language that is read here: enums, unions, and tables of numbers, strings, vectors and tables. See
https://flatbuffers.dev/schema and https://flatbuffers.dev/internals.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from flatbuffers import number_types
from flatbuffers.builder import Builder

_COMMENT = re.compile(r"//[^\n]*")
_BLOCK = re.compile(r"\b(enum|union|table)\s+(\w+)\s*(?::\s*(\w+)\s*)?\{([^}]*)\}")
_FIELD = re.compile(r"(\w+)\s*:\s*(\[?)(\w+)")
_MEMBER = re.compile(r"(\w+)(?:\s*:\s*(\w+))?")
_ROOT = re.compile(r"\broot_type\s+(\w+)")
_IDENTIFIER = re.compile(r'\bfile_identifier\s+"(....)"')
_NUMBERS = {
    "bool": number_types.BoolFlags,
    "ubyte": number_types.Uint8Flags,
    "byte": number_types.Int8Flags,
    "ushort": number_types.Uint16Flags,
    "short": number_types.Int16Flags,
    "uint": number_types.Uint32Flags,
    "int": number_types.Int32Flags,
    "uint64": number_types.Uint64Flags,
    "int64": number_types.Int64Flags,
    "float": number_types.Float32Flags,
    "double": number_types.Float64Flags,
}


class _Field(NamedTuple):
    """A field of a table."""

    name: str
    type: str
    vector: bool
    slot: int
    """Of its value; the slot before a union's has the number of its member."""


class Schema:
    """A schema, by which objects are written.

    An object is written as the table that its field has; in a field of a union, as the member with
    the name of its class. Its attributes have the names of the table's fields. An attribute that is
    None, or missing, is left out.

    Raises:
        ValueError: the text has no root, or states a default, which is not read here.
    """

    def __init__(self, text: str) -> None:
        text = _COMMENT.sub("", text)
        root, identifier = _ROOT.search(text), _IDENTIFIER.search(text)
        if root is None:
            raise ValueError("the schema has no root_type")
        self._root = root[1]
        self._identifier = identifier[1].encode() if identifier else None
        self._numbers = dict(_NUMBERS)
        self._unions: dict[str, dict[str, tuple[int, str]]] = {}
        blocks = _BLOCK.findall(text)
        for kind, name, base, body in blocks:
            if kind == "enum":
                self._numbers[name] = _NUMBERS[base]
            elif kind == "union":
                members = enumerate(_MEMBER.findall(body), start=1)
                self._unions[name] = {
                    label: (number, table or label) for number, (label, table) in members
                }
        self._tables = {
            name: self._fields(body) for kind, name, _, body in blocks if kind == "table"
        }

    def write(self, value: object) -> bytes:
        """Return an object as a flatbuffer of the schema's root.

        Raises:
            KeyError: a union has no member of the name of an object's class.
        """
        builder = Builder(1024)
        builder.Finish(self._write_table(builder, self._root, value), self._identifier)
        return bytes(builder.Output())

    def _fields(self, body: str) -> list[_Field]:
        fields, slot = [], 0
        for line in filter(None, map(str.strip, body.split(";"))):
            if "=" in line:
                raise ValueError(f"the field '{line}' has a default")
            name, bracket, kind = _FIELD.findall(line)[0]
            slot += kind in self._unions
            fields.append(_Field(name, kind, bool(bracket), slot))
            slot += 1
        return fields

    def _write_table(self, builder: Builder, table: str, value: object) -> int:
        """Write a table after all that it refers to; return its offset."""
        fields = self._tables[table]
        written = [
            (field, data, self._write_child(builder, field, data))
            for field in fields
            if (data := getattr(value, field.name, None)) is not None
        ]
        builder.StartObject(fields[-1].slot + 1 if fields else 0)
        for field, data, offset in written:
            if offset is None:
                number = self._numbers[field.type]
                builder.PrependSlot(number, field.slot, _fitting(number, data), 0)
                continue
            builder.PrependUOffsetTRelativeSlot(field.slot, offset, 0)
            if field.type in self._unions:
                builder.PrependUint8Slot(field.slot - 1, self._member(field, data)[0], 0)
        return int(builder.EndObject())

    def _write_child(self, builder: Builder, field: _Field, data: Any) -> int | None:
        """Write what a table refers to; return its offset, or None if the table holds it itself."""
        if field.vector:
            return self._write_vector(builder, field.type, data)
        if field.type == "string":
            return int(builder.CreateString(data))
        if field.type in self._numbers:
            return None
        table = self._member(field, data)[1] if field.type in self._unions else field.type
        return self._write_table(builder, table, data)

    def _write_vector(self, builder: Builder, kind: str, items: Sequence[Any]) -> int:
        number = self._numbers.get(kind)
        if number is None:
            offsets = [self._write_table(builder, kind, item) for item in items]
            builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                builder.PrependUOffsetTRelative(offset)
        else:
            builder.StartVector(number.bytewidth, len(items), number.bytewidth)
            for item in reversed(items):
                builder.Prepend(number, _fitting(number, item))
        return int(builder.EndVector())

    def _member(self, field: _Field, data: object) -> tuple[int, str]:
        return self._unions[field.type][type(data).__name__]


def _fitting(number: Any, value: Any) -> Any:
    """Return a number as its type holds it: -1 is the largest of an unsigned type."""
    if number.py_type is not int:
        return number.py_type(value)
    unsigned = number.min_val == 0
    return int(value) % (number.max_val + 1) if unsigned else int(value)
