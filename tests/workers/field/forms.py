"""Graphs of forms that other exporters write, and graphs whose samples are whole inputs."""

import numpy as np

from tests.workers.field.draw import FLOAT, INT64, Drawing, end, normal
from tests.workers.field.graphs import Field

ROWS = 60


def message_passing() -> Field:
    """A graph network: any number of nodes and of edges, and a sample is one whole graph."""
    draw, random = Drawing(1), np.random.default_rng(2)
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(8, 24)))
    sources, targets = (
        draw("Squeeze", draw("Gather", "edges", draw.whole(row), axis=0), draw.whole(0))
        for row in (0, 1)
    )
    sent = draw("MatMul", draw("Gather", hidden, sources, axis=0), draw.weight(24, 24))
    places = draw("Unsqueeze", targets, draw.whole(1))
    gathered = draw("ScatterND", hidden, places, draw("Relu", sent), reduction="add")
    draw("MatMul", gathered, draw.weight(24, 3), gives=["y"])
    model = draw.model(
        [end("x", FLOAT, "n", 8), end("edges", INT64, 2, "e")], [end("y", FLOAT, "n", 3)]
    )
    return Field(model, {"x": normal(3, ROWS, 6, 8), "edges": random.integers(0, 6, (ROWS, 2, 9))})


def one_score(*, probability: bool) -> Field:
    """A score for yes, as a probability or a logit, and the answers as integers."""
    draw, x = Drawing(4), normal(5, ROWS, 16)
    direction = normal(6, 16, 1)
    hidden = draw("MatMul", "x", draw.keep(np.hstack([direction, -direction])))
    sides = draw.keep(np.array([[1], [-1]], np.float32))
    if probability:
        draw("Sigmoid", draw("MatMul", draw("Relu", hidden), sides), gives=["y"])
    else:
        draw("MatMul", draw("Relu", hidden), sides, gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 1)])
    return Field(model, {"x": x, "targets": (x @ direction > 0)[:, 0].astype(np.int64)})
