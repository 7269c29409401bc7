"""The shapes that a graph states of its outputs, put right by those that it had when it ran.

Exporters state sizes of the example for dimensions that they lost track of, or names of their own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from workers.compression.graph.writer import write

Run = tuple[Mapping[str, int], Mapping[str, tuple[int, ...]]]
"""The sizes of the dynamic dimensions of the inputs, and the shapes of the outputs."""


def name_outputs(path: Path, runs: Sequence[Run], symbols: Sequence[str]) -> None:
    """Let each dimension of an output be the number, or have the name, that fits all runs.

    Args:
        path: the graph; rewritten. What it states of values inside is left out.
        runs: of the graph, at several sizes.
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
            seen = [shape[axis] for shape in shapes]
            same = [name for name in symbols if [sizes[name] for sizes, _ in runs] == seen]
            if same and len(set(seen)) > 1:
                dimension.dim_param = same[0]
            elif len(set(seen)) > 1 and dimension.dim_value:
                dimension.dim_param = f"{value.name}_{axis}"
    write(proto, path, {})
