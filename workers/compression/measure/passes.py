"""Passes of samples through graphs, whose outputs are judged and compared with the original's."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime as ort
from numpy.typing import NDArray

from app.domain.reports import Fidelity, Quality
from workers.compression.measure import quality
from workers.compression.measure.drop_interval import Counts
from workers.compression.measure.fidelity import Closeness, Profile
from workers.compression.measure.metrics.graph import GraphMetric, GraphScore
from workers.compression.samples.context import Samples
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs

Judge = quality.Yardstick | GraphMetric


class Judged(NamedTuple):
    """What the samples tell of a graph."""

    quality: Quality | None
    fidelity: Fidelity | None
    """None for the original."""
    counts: Counts | None
    """Of each sample, of a metric that counts."""


def target_of(samples: Samples, row: int) -> NDArray[Any] | None:
    """Return the target of a row of the dataset; None where it has none."""
    return None if samples.targets is None else samples.targets[row]


def compare(
    paths: Sequence[Path],
    samples: Samples,
    threads: int,
    judge: Judge | None,
    output: str,
    advance: Callable[[float], None],
) -> list[Judged]:
    """Run all samples through the original and through each graph, and compare the outputs.

    Args:
        paths: the graphs, the original first.
        samples: the samples to run.
        threads: number of threads to compute with.
        judge: the metric to compute; None computes none.
        output: the name of the output that agreement is computed on.
        advance: called with the fraction done.

    Returns:
        What they tell of each graph.
    """
    original = target.open_session(paths[0], threads)
    score = judge.score() if judge else None
    profile = Profile()
    for row, outputs in rows(original, samples):
        profile.add(outputs[output])
        if score:
            score.add(outputs, target_of(samples, row), outputs)
    values = [_judged(score, None)]
    for index, path in enumerate(paths[1:], start=1):
        score = judge.score() if judge else None
        closeness = Closeness(output, profile)
        session = target.open_session(path, threads)
        pairs = zip(rows(original, samples), rows(session, samples), strict=True)
        for done, ((row, expected), (_, outputs_of_graph)) in enumerate(pairs):
            closeness.add(expected, outputs_of_graph)
            if score:
                score.add(outputs_of_graph, target_of(samples, row), expected)
            advance((index - 1 + done / len(samples)) / len(paths[1:]))
        values.append(_judged(score, closeness.value))
    return values


def _judged(score: quality.Score | GraphScore | None, fidelity: Fidelity | None) -> Judged:
    if score is None:
        return Judged(None, fidelity, None)
    counts = score.counts if isinstance(score, quality.Score) else None
    return Judged(score.quality, fidelity, counts)


def rows(session: ort.InferenceSession, samples: Samples) -> Iterator[tuple[int, Outputs]]:
    """Yield each sample's row in the dataset and its outputs."""
    indices = iter(samples.indices)
    for outputs in target.predict(session, samples):
        yield from ((next(indices), sample_outputs) for sample_outputs in outputs)
