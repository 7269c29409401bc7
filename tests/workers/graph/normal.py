"""The normal form of small graphs, checked against the reference once more."""

from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir

from tests.workers.intake.models import write
from workers.compression.graph import equivalence
from workers.compression.graph.equivalence import Trial
from workers.compression.graph.load import load, save
from workers.compression.graph.rewrites import Undone, normalize
from workers.compression.graph.trials import find_trials


def trials_of(proto: onnx.ModelProto, directory: Path) -> tuple[ir.Model, list[Trial]]:
    path = write(proto, directory / "reference.onnx")
    reference = load(path)
    return reference, find_trials(reference, path)


def normal(proto: onnx.ModelProto, directory: Path) -> ir.Model:
    """Return the normal form after checking it against the reference once more."""
    _, trials = trials_of(proto, directory)
    assert trials
    graph, passes = normalize(directory / "reference.onnx", trials)
    assert not [each for each in passes if isinstance(each, Undone)]
    save(graph, directory / "normal.onnx")
    onnx.checker.check_model(str(directory / "normal.onnx"), full_check=True)
    assert equivalence.check(directory / "normal.onnx", trials) is None
    return graph


def operators(graph: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph)
