"""What is written without the compiler of flatbuffers is what that compiler reads."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from workers.tools import environments
from workers.tools.flatbuffer import Schema

TEXT = """
// A drawing.
namespace test;
file_identifier "DRAW";
enum Colour : short {
  /// of blood
  red = 0,
  blue = 7, }
union Shape { Circle, Square: _Box, Diamond: _Box, }
table Circle { radius: float; }
table _Box { old: [ubyte] (deprecated, force_align: 16); side: uint; offset: uint64; }
table Item { shape: Shape; colour: Colour; label: string; }
table Drawing { name: string; items: [Item]; sizes: [uint]; weights: [float]; shift: int; }
root_type Drawing;
"""


@dataclass
class Circle:
    radius: float


@dataclass
class Square:
    side: int
    offset: int = 0


@dataclass
class Diamond(Square):
    pass


@dataclass
class Item:
    shape: object
    colour: int = 0
    label: str | None = None


@dataclass
class Drawing:
    name: str
    items: list[Item] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    shift: int = 0


DRAWING = Drawing(
    "häuser",
    [
        Item(Circle(0.5), 7, "one"),
        Item(Diamond(-1, 2**64 - 1)),
        Item(Square(3)),
        Item(None, label=""),
        Item(Circle(float("-inf"))),
    ],
    [1, 0, 4_000_000_000],
    [0.25, float("inf")],
    -3,
)
READ = {
    "name": "häuser",
    "items": [
        {"shape_type": "Circle", "shape": {"radius": 0.5}, "colour": "blue", "label": "one"},
        {"shape_type": "Diamond", "shape": {"side": 2**32 - 1, "offset": 2**64 - 1}},
        {"shape_type": "Square", "shape": {"side": 3}},
        {"label": ""},
        {"shape_type": "Circle", "shape": {"radius": float("-inf")}},
    ],
    "sizes": [1, 0, 4_000_000_000],
    "weights": [0.25, float("inf")],
    "shift": -3,
}


def test_the_compiler_reads_every_kind_of_value(tmp_path: Path) -> None:
    flatc = _compiler()
    (tmp_path / "drawing.fbs").write_text(TEXT)
    (tmp_path / "drawing.bin").write_bytes(Schema(TEXT).write(DRAWING))
    words = ["--json", "--strict-json", "drawing.fbs", "--", "drawing.bin"]
    subprocess.run([str(flatc), *words], cwd=tmp_path, check=True)
    text = (tmp_path / "drawing.json").read_text().replace("-inf", "-Infinity")
    assert json.loads(text.replace(" inf", " Infinity")) == READ


def test_a_union_has_its_member_before_it_and_a_deprecated_field_keeps_its_place() -> None:
    written = Schema(TEXT).write(Drawing("", [Item(Diamond(9))]))
    assert written[4:8] == b"DRAW"
    root = Table(written, encode.Get(number_types.UOffsetTFlags.packer_type, written, 0))
    items = root.Vector(root.Offset(6))
    item = Table(written, root.Indirect(items))
    assert item.Get(number_types.Uint8Flags, item.Pos + item.Offset(4)) == 3
    box = Table(written, item.Indirect(item.Pos + item.Offset(6)))
    assert box.Offset(4) == 0
    assert box.Get(number_types.Uint32Flags, box.Pos + box.Offset(6)) == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("table A { x: int; }", "no root_type"),
        ("table A { x: int = 3; } root_type A;", "has a default"),
    ],
)
def test_a_schema_that_says_more_is_not_misread(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Schema(text)


def test_an_object_of_no_member_is_an_error() -> None:
    with pytest.raises(KeyError, match="Drawing"):
        Schema(TEXT).write(Drawing("", [Item(DRAWING)]))


def _compiler() -> Path:
    base = environments.base(None)
    if "executorch" not in environments.installed(base):
        pytest.skip("run: planish tools install executorch")
    [found] = (base / "executorch").glob("lib/*/site-packages/executorch/data/bin/flatc")
    return found
