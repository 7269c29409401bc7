"""PyTorch's exported program: a ``.pt2`` with the shapes of one run."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from workers.compression.delivery.exported import program
from workers.compression.delivery.form import Form, Made, Source
from workers.compression.delivery.grids import Grids
from workers.compression.samples.context import Feeds
from workers.compression.targets.runner import Runner


def make(source: Source, directory: Path) -> Made:
    """Export the graph; where it rounds, with torch's own operators of quantization.

    Raises:
        DeliveryFailed: torch cannot export it.
    """
    file = directory / "model.pt2"
    exported = program(source.graph, source.feeds, Grids())
    torch.export.save(exported, file)
    return Made(file, partial(_open, file, source))


def _open(file: Path, source: Source) -> Runner:
    torch.set_num_threads(source.threads)
    module = torch.export.load(file).module()

    def run(feeds: Feeds) -> list[NDArray[Any]]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(feeds[name]) for name in source.feeds))
        return [output.numpy() for output in outputs]

    return Runner(f"torch {torch.__version__}", source.names, run)


PT2 = Form("torch", "torch", make)
