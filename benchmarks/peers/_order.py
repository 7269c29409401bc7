"""What a peer is told on its command line. Only what every environment has is imported."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray

_OPSET = 17


@dataclass(frozen=True)
class Order:
    """A graph to quantize, what to calibrate it on, and where the result goes."""

    model: Path
    feeds: list[dict[str, NDArray[Any]]]
    """What each run of one sample reads, by input."""
    result: Path
    settings: dict[str, Any]


class Reader:
    """Hands on what runs read, one after the other, as the tools of most peers ask for it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.rewind()

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return what the next run reads; None after the last one."""
        return next(self._left, None)

    def get_first(self) -> dict[str, NDArray[Any]]:
        """Return what the first run reads."""
        return self._order.feeds[0]

    def rewind(self) -> None:
        """Begin again."""
        self._left = iter(self._order.feeds)


def read() -> Order:
    """Return the order: model, runs ``[runs, …]`` by input, result, settings as JSON."""
    model, runs, result, settings = sys.argv[1:]
    with np.load(runs) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(next(iter(arrays.values())))
    feeds = [
        {name: np.asarray(array[run]) for name, array in arrays.items()} for run in range(count)
    ]
    lifted = _lifted(Path(model), Path(result).with_name("lifted.onnx"))
    return Order(lifted, feeds, Path(result), json.loads(settings))


def _lifted(model: Path, place: Path) -> Path:
    """Return a graph of opset 17 or later: most peers quantize older ones badly, or not at all.

    What onnx cannot convert stays as it is.
    """
    graph = onnx.load(model)
    if max(each.version for each in graph.opset_import if each.domain in ("", "ai.onnx")) >= _OPSET:
        return model
    try:
        converted = onnx.version_converter.convert_version(graph, _OPSET)
    except (RuntimeError, ValueError):
        return model
    onnx.save(converted, place)
    return place
