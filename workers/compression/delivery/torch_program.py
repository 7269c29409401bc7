"""PyTorch's exported program: a ``.pt2`` that keeps the dynamic dimensions that torch can keep."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from app.domain.problems import DeliveryFailed
from workers.compression.delivery.exported import program
from workers.compression.delivery.form import Form, Made, Source
from workers.compression.delivery.grids import Grids
from workers.compression.graph.load import load
from workers.compression.graph.shapes import inputs_of
from workers.compression.samples.context import Feeds
from workers.compression.targets.runner import Runner


def make(source: Source, directory: Path) -> Made:
    """Export the graph; where it rounds, with torch's own operators of quantization.

    Raises:
        DeliveryFailed: torch cannot export it.
    """
    file = directory / "model.pt2"
    exported = _dynamic(source) or program(source.graph, source.feeds, Grids())
    torch.export.save(exported, file)
    return Made(file, partial(_open, file, source), reason=_fixed(exported, source))


def _dynamic(source: Source) -> torch.export.ExportedProgram | None:
    """Return a program that keeps dynamic dimensions, if there is one for the samples' shapes.

    The example of an export has two of what is dynamic, and torch may fix that it has two.
    """
    try:
        exported = program(source.graph, source.feeds, Grids(), dynamic=True)
    except DeliveryFailed:
        return None
    shapes = zip(_shapes(exported), source.feeds.values(), strict=True)
    fits = all(
        made == size or not isinstance(made, int)
        for shape, array in shapes
        for made, size in zip(shape, array.shape, strict=True)
    )
    return exported if fits else None


def _shapes(exported: torch.export.ExportedProgram) -> list[torch.Size]:
    """Return the shape of each input of a program; what is dynamic is a symbol."""
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    return [values[str(name)].shape for name in exported.graph_signature.user_inputs]


def _fixed(exported: torch.export.ExportedProgram, source: Source) -> str | None:
    """Return which dynamic dimensions of the graph are fixed in the program; None for none."""
    inputs = inputs_of(load(source.graph))
    fixed = [
        f"'{value.name}' axis {axis} ({size})"
        for value, shape in zip(inputs, _shapes(exported), strict=True)
        for axis, (size, made) in enumerate(zip(value.shape or (), shape, strict=True))
        if not isinstance(size, int) and isinstance(made, int)
    ]
    return f"torch fixed dimensions that were dynamic: {', '.join(fixed[:8])}." if fixed else None


def _open(file: Path, source: Source) -> Runner:
    torch.set_num_threads(source.threads)
    module = torch.export.load(file).module()

    def run(feeds: Feeds) -> list[NDArray[Any]]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(feeds[name]) for name in source.feeds))
        return [output.numpy() for output in outputs]

    return Runner(f"torch {torch.__version__}", source.names, run)


PT2 = Form("torch", "torch", make)
