"""Corrects the stated shapes of a graph's outputs by the shapes observed in runs.

Exporters may state the sizes of the example for dynamic dimensions, or invent names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from workers.compression.graph.sums import size_of
from workers.compression.graph.writer import write

Run = tuple[Mapping[str, int], Mapping[str, tuple[int, ...]]]
"""The sizes of the dynamic dimensions of the inputs, and the shapes of the outputs."""


def name_outputs(path: Path, runs: Sequence[Run], symbols: Sequence[str]) -> None:
    """Give each dimension of an output the number or the name that fits all runs.

    Args:
        path: the graph; rewritten without the stated shapes of intermediate values.
        runs: runs of the graph at several sizes.
        symbols: the names of the inputs' dynamic dimensions.
    """
    proto = onnx.load_model(path, load_external_data=False)
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        shapes = [outputs[value.name] for _, outputs in runs]
        stated = value.type.tensor_type.shape.dim
        if any(len(shape) != len(stated) for shape in shapes):
            continue
        for axis, dimension in enumerate(stated):
            observed = [shape[axis] for shape in shapes]
            matching = [
                name for name in symbols if [size_of(name, sizes) for sizes, _ in runs] == observed
            ]
            if matching and len(set(observed)) > 1:
                dimension.dim_param = matching[0]
            elif len(set(observed)) > 1 and dimension.dim_value:
                dimension.dim_param = f"{value.name}_{axis}"
    write(proto, path, {})
