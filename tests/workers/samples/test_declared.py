"""What a graph says of its inputs is read from its first layers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from tests.workers.field.draw import FLOAT, INT64, Drawing, end, normal
from workers.compression.graph.load import load
from workers.compression.samples import declared
from workers.compression.samples.declared import Flags, Floats, Ids


def opened(raw: bytes, directory: Path) -> ir.Model:
    path = directory / "graph.onnx"
    path.write_bytes(raw)
    return load(path)


def test_ids_choose_usual_rows_of_their_tables(tmp_path: Path) -> None:
    """Ids stay within the smallest table, and leave out rows that no training has reached."""
    draw = Drawing(1)
    table = normal(3, 50, 8)
    table[0], table[7] = 0.0, 40.0
    words = draw("Gather", draw.keep(table), draw("Cast", "ids", to=INT64))
    kinds = draw("Gather", draw.weight(2, 8), "kinds")
    hidden = draw("Add", words, kinds)
    masked = draw("Mul", hidden, draw("Unsqueeze", draw("Cast", "mask", to=FLOAT), draw.whole(2)))
    draw("ReduceMean", masked, axes=[1], keepdims=0, gives=["y"])
    inputs = [
        end("ids", TensorProto.INT32, "batch", 6),
        end("kinds", INT64, "batch", 6),
        end("mask", INT64, "batch", 6),
    ]
    model = opened(draw.model(inputs, [end("y", FLOAT, "batch", 8)]), tmp_path)
    found = declared.declared(model)
    ids, kinds_found = found["ids"], found["kinds"]
    assert isinstance(ids, Ids)
    assert set(range(50)) - set(ids.rows.tolist()) >= {0, 7}
    assert len(ids.rows) > 40
    assert isinstance(kinds_found, Ids)
    assert set(kinds_found.rows.tolist()) <= {0, 1}
    assert isinstance(found["mask"], Flags)
    drawn: dict[str, Any] = {
        "ids": np.zeros((9, 6), np.int32), "kinds": np.zeros((9, 6), np.int64),
        "mask": np.zeros((9, 6), np.int64),
    }  # fmt: skip
    arrays = declared.arrays(found, drawn, seed=0)
    assert np.isin(arrays["ids"], ids.rows).all()
    assert len(np.unique(arrays["ids"])) > 20
    assert (arrays["mask"] == 1).all()
    assert {name: array.dtype for name, array in arrays.items()} == {
        name: array.dtype for name, array in drawn.items()
    }


def _scaled(draw: Drawing, kind: str) -> tuple[str, int]:
    """Return a picture as the network's layers read it, and the type that it comes in."""
    mean, deviation = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1), np.float32(2.0)
    if kind == "standardised":
        return draw("Div", draw("Sub", "x", draw.keep(mean)), draw.keep(deviation)), FLOAT
    if kind == "fraction":
        return draw("Mul", "x", draw.keep(np.float32(1 / 255))), FLOAT
    if kind == "bytes":
        return draw("Cast", "x", to=FLOAT), TensorProto.UINT8
    if kind == "normalised":
        vectors = np.array([[1] * 3, [0] * 3, [5, 6, 7], [4] * 3], np.float32)
        return draw("BatchNormalization", "x", *map(draw.keep, vectors)), FLOAT
    return "x", FLOAT


@pytest.mark.parametrize(
    ("kind", "mean", "deviation", "bounds"),
    [
        ("standardised", [1, 2, 3], 2.0, (-np.inf, np.inf)),
        ("fraction", 127.5, 63.75, (0.0, 255.0)),
        ("bytes", 127.5, 64.0, (0.0, 255.0)),
        ("normalised", [5, 6, 7], 2.0, (-np.inf, np.inf)),
        ("plain", 0.0, 1.0, (-np.inf, np.inf)),
    ],
)
def test_numbers_lie_where_the_first_layers_expect_them(
    tmp_path: Path, kind: str, mean: Any, deviation: float, bounds: tuple[float, float]
) -> None:
    draw = Drawing(2)
    value, dtype = _scaled(draw, kind)
    draw("Conv", value, draw.weight(4, 3, 3, 3), gives=["y"])
    raw = draw.model([end("x", dtype, "batch", 3, 16, 16)], [end("y", FLOAT, "batch", 4, 14, 14)])
    known = declared.declared(opened(raw, tmp_path))["x"]
    assert isinstance(known, Floats)
    assert known.known == (kind != "plain")
    assert np.allclose(known.mean.reshape(-1), mean, rtol=1e-3)
    assert np.allclose(known.deviation, deviation, rtol=1e-3)
    assert (known.low, known.high) == pytest.approx(bounds, rel=1e-4)
    like = np.zeros((64, 3, 16, 16), np.uint8 if kind == "bytes" else np.float32)
    made = declared.arrays({"x": known}, {"x": like}, seed=3)["x"]
    assert made.dtype == like.dtype
    assert bounds[0] <= made.min()
    assert made.max() <= bounds[1] * 1.0001
    apart = np.abs(made.mean((0, 2, 3)) - np.broadcast_to(mean, 3))
    assert (apart < 0.5 * deviation).all()
    assert 0.5 * deviation < made.std() < 2.5 * deviation


def test_pictures_are_smooth_and_differ() -> None:
    noise = declared.noise((32, 1, 32, 32), np.random.default_rng(0))
    rough = np.square(np.diff(noise, axis=3)).mean() / noise.var()
    assert rough < 1.0, "white noise has 2"
    assert noise.std((1, 2, 3)).std() > 0.1
