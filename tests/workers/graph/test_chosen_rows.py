"""Integers of made samples are drawn over the whole table that they choose from."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.workers.field.draw import FLOAT, INT64, Drawing, end, normal
from workers.compression.graph.chosen_rows import integer_ends
from workers.compression.graph.load import load
from workers.compression.graph.trials import find_trials
from workers.compression.measure import synthetic

WORDS = 20_000


def reader(path: Path, *, chosen_by: str) -> Path:
    """Write a graph that reads words, their kinds, a mask, a picture, and each text's length."""
    draw = Drawing(1)
    ids = "words"
    if chosen_by == "a part of the input":
        ids = draw("Slice", ids, draw.whole(0), draw.whole(6), draw.whole(1))
    table = draw.weight(WORDS, 4)
    if chosen_by == "the input, in half precision":
        table = draw("Cast", draw.keep(normal(2, WORDS, 4).astype(np.float16)), to=FLOAT)
    hidden = draw(
        "Add", draw("Gather", table, draw("Cast", ids, to=INT64)),
        draw("Gather", draw.weight(2, 4), "kinds"),
    )  # fmt: skip
    seen = draw("Mul", hidden, draw("Unsqueeze", draw("Cast", "mask", to=FLOAT), draw.whole(2)))
    of_text = draw("Cast", "lengths", to=FLOAT)
    read = draw("Add", draw("ReduceMean", seen, axes=[1, 2], keepdims=0), of_text)
    shown = draw("ReduceMean", draw("Cast", "picture", to=FLOAT), axes=[1, 2, 3], keepdims=0)
    draw("Add", read, shown, gives=["y"])
    inputs = [end(name, INT64, "batch", 6) for name in ("words", "kinds", "mask")]
    inputs.append(end("lengths", INT64, "batch"))
    inputs.append(end("picture", TensorProto.UINT8, "batch", 3, 4, 4))
    path.write_bytes(draw.model(inputs, [end("y", FLOAT, "batch")]))
    return path


@pytest.mark.parametrize(
    "chosen_by", ["the input", "a part of the input", "the input, in half precision"]
)
def test_ids_reach_all_rows_and_masks_are_zeros_and_ones(chosen_by: str, tmp_path: Path) -> None:
    graph = reader(tmp_path / "graph.onnx", chosen_by=chosen_by)
    model = load(graph)
    assert integer_ends(model) == {"words": WORDS, "kinds": 2, "mask": 2}
    for trial in find_trials(model, graph):
        assert trial.feeds["words"].max() > WORDS // 4
    arrays = synthetic.draw(graph, seed=0, count=64).arrays
    assert len(arrays["words"]) == 64
    assert arrays["words"].min() < WORDS // 20
    assert arrays["words"].max() > WORDS - WORDS // 20
    assert set(np.unique(arrays["kinds"])) == set(np.unique(arrays["mask"])) == {0, 1}
    assert arrays["lengths"].max() > 1
    assert arrays["picture"].max() > 200
