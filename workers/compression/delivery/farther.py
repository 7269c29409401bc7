"""Says which files give other numbers than the ONNX graph that they were made of."""

from app.domain.percentages import percent_kept
from app.domain.reports import Fidelity
from workers.compression.measure.fidelity import Nearness

_FARTHER = 0.01
"""By how much less of the original's variance a file keeps than the ONNX graph, to be named."""

_HALF = 0.5


def farther(graph: Fidelity | None, file: Fidelity | None) -> str | None:
    """Return by how much a file is farther from the original than the ONNX graph; None if it isn't.

    Args:
        graph: the graph's fidelity to the original.
        file: that of a file that was made of it, on its own runtime.
    """
    if graph is None or file is None:
        return None
    by_answers = file.bounded == "agreement"
    ruined = file.ruined and not graph.ruined
    if not ruined and (by_answers or graph.kept - file.kept <= _FARTHER):
        return None  # one answer of a few samples is many percent
    kept, wanted = (percent_kept(each.kept) for each in (file, graph))
    what = "answers" if by_answers else "variance"
    return (
        f"is farther from the original than the ONNX graph: it keeps {kept} of the original's"
        f" {what}, the ONNX graph {wanted}"
    )


def other_numbers(outputs: Nearness) -> str | None:
    """Return in which output a file does not do what the ONNX graph does; None if it does in all.

    Answers are counted in one output, and tell nothing of the others.

    Args:
        outputs: how near the file's are to the graph's.
    """
    shares = {name: output.value for name, output in outputs.outputs.items()}
    kept = {name: share for name, share in shares.items() if share is not None and share < _HALF}
    if not kept:
        return None
    name = min(kept, key=lambda name: kept[name])
    return (
        f"gives other numbers than the ONNX graph: in output '{name}' it keeps"
        f" {percent_kept(kept[name])} of the graph's variance"
    )
