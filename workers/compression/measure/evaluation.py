"""Measures graphs against the original, on samples that no step has used."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from app.domain.jobs import Evaluate
from app.domain.latencies import Latency, Spread
from app.domain.models import SampleSizes
from app.domain.reports import DropInterval, Evaluation, Measures
from workers.compression.events import Events
from workers.compression.graph.load import load
from workers.compression.graph.rewrites.inputs import defaults_taken, inputs_with_default
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure import latency, quality, size
from workers.compression.measure.drop_interval import drop_interval
from workers.compression.measure.evaluation_set import EvaluationSet
from workers.compression.measure.memory import Prober, store_feeds
from workers.compression.measure.metrics.graph import GraphMetric
from workers.compression.measure.notes import notes_on_figures
from workers.compression.measure.passes import Judge, Judged, compare, rows, target_of
from workers.compression.samples import axis
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets import onnx as target

MOST_SAMPLES = 10_000
_SECONDS = 600.0
"""The approximate time limit, in seconds, of all passes over the held-out samples together, where
the job leaves as much."""
_LEAST_SAMPLES = 32


@dataclass(frozen=True)
class Measured:
    """The figures of the original and of the graphs made from it."""

    baseline: Measures
    graphs: list[Measures]
    evaluation: Evaluation
    samples: Samples
    """The samples that the graphs were judged on."""


def evaluate(
    original: Path,
    graphs: Sequence[Path],
    evaluation_set: EvaluationSet,
    settings: Evaluate,
    events: Events,
    prober: Prober | None,
    tidied: Path | None = None,
    seconds: float = math.inf,
) -> Measured:
    """Measure the original and the graphs that were made from it.

    Args:
        original: the model as uploaded.
        graphs: the graphs of the steps, as they are downloaded; the last one is the result.
        evaluation_set: the samples to judge on.
        settings: the metric and the output that the user asked for.
        events: receives the progress, from 60 % on.
        prober: measures peak memory; None leaves it out.
        tidied: the original after its graph was tidied; None where that makes no difference.
        seconds: the limit of all passes over the samples together; a few are run in any case.

    Raises:
        DatasetMismatch: the targets fit neither metric nor output.
    """
    paths = [original, *graphs]
    events.progress(0.6, "measuring size and latency")
    model, feeds = load(original), evaluation_set.samples.first_run()
    dimensions, count = sizes_of(model, feeds), evaluation_set.samples.layout.size
    figures = [size.measure(path, dimensions, feeds, count) for path in paths]
    spreads, compared = latency.measure(
        paths, evaluation_set.samples, evaluation_set.threads, tidied
    )
    peaks = _peaks(paths, feeds, evaluation_set.threads, prober)
    judge = metric_for(model, evaluation_set, settings)
    judging = _seconds_of_metric(original, evaluation_set, judge) * len(paths)
    samples, notes = _affordable(evaluation_set, spreads, judging, min(seconds, _SECONDS))
    output = quality.judged_output(model, settings)
    advance = events.span(0.7, 0.98, "evaluating on held-out samples")
    values = compare(paths, samples, evaluation_set.threads, judge, output, advance)
    notes += notes_on_figures(
        judge,
        output,
        values[-1].fidelity,
        evaluation_set,
        has_memory=prober is not None,
        sizes=figures,
    )
    if with_default := inputs_with_default(model):
        notes += defaults_taken(with_default, load(paths[-1]))
    measures = [
        _measures(*figures_of_graph)
        for figures_of_graph in zip(figures, spreads, values, peaks, strict=True)
    ]
    sizes = axis.sizes_of_one(model, evaluation_set.samples.layout, dimensions)
    drop = _drop(judge, values[0], values[-1])
    evaluation = _evaluation(evaluation_set, samples, judge, compared, drop, sizes, notes)
    return Measured(measures[0], measures[1:], evaluation, samples)


def _evaluation(
    evaluation_set: EvaluationSet,
    samples: Samples,
    judge: Judge | None,
    compared: Latency,
    drop: DropInterval | None,
    sizes: SampleSizes,
    notes: list[str],
) -> Evaluation:
    """Return what the report says of how the graphs were measured."""
    return Evaluation(
        metric=judge.metric if judge else None,
        split=evaluation_set.split,
        generated=evaluation_set.generated,
        dataset=evaluation_set.dataset,
        indices=[] if evaluation_set.synthetic else [int(i) for i in samples.indices],
        threads=evaluation_set.threads,
        runtime=f"onnxruntime {target.VERSION}, {target.PROVIDER}",
        latency=compared,
        drop=drop,
        run=latency.timed_run(evaluation_set.samples),
        sample_sizes=sizes,
        notes=notes,
    )


def _drop(judge: Judge | None, before: Judged, after: Judged) -> DropInterval | None:
    """Return the interval of the metric's drop; None where the metric does not count."""
    if judge is None or before.counts is None or after.counts is None:
        return None
    return drop_interval(judge.kind, before.counts, after.counts)


def require_metric(original: Path, evaluation_set: EvaluationSet, settings: Evaluate) -> None:
    """Try the metric's graph on two samples, before time is spent on steps.

    Raises:
        MetricFailed: the metric's graph does not run on the model's outputs, or gives no number.
    """
    _seconds_of_metric(
        original, evaluation_set, metric_for(load(original), evaluation_set, settings)
    )


def _seconds_of_metric(original: Path, evaluation_set: EvaluationSet, judge: Judge | None) -> float:
    """Return the seconds that a metric's graph takes per sample; 0 for other metrics."""
    if not isinstance(judge, GraphMetric):
        return 0.0
    score, session = judge.score(), target.open_session(original, evaluation_set.threads)
    for row, outputs in rows(
        session, evaluation_set.samples.take(evaluation_set.samples.indices[:2])
    ):
        score.add(outputs, target_of(evaluation_set.samples, row), outputs)
    return score.seconds / score.samples


def metric_for(model: ir.Model, evaluation_set: EvaluationSet, settings: Evaluate) -> Judge | None:
    """Return the metric for the model on an evaluation set; None where no metric applies."""
    return quality.judge(
        model,
        evaluation_set.samples.targets,
        settings,
        evaluation_set.metric,
        evaluation_set.threads,
    )


def _measures(
    figure: size.Size,
    spread: Spread,
    value: Judged,
    peak: int | None,
) -> Measures:
    return Measures(
        size_bytes=figure.size_bytes,
        parameters=figure.parameters,
        nonzero_parameters=figure.nonzero_parameters,
        macs=figure.macs,
        latency_ms=spread.median,
        quality=value.quality,
        fidelity=value.fidelity,
        peak_memory_bytes=peak,
    )


def _peaks(
    paths: Sequence[Path], feeds: Feeds, threads: int, prober: Prober | None
) -> list[int | None]:
    """Return the peak memory of each graph, in the order of ``paths``."""
    if prober is None:
        return [None for _ in paths]
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "feeds.npz"
        store_feeds(stored, feeds)
        return [prober(path, stored, threads) for path in paths]


def _affordable(
    evaluation_set: EvaluationSet, spreads: Sequence[Spread], judging: float, limit: float
) -> tuple[Samples, list[str]]:
    """Return as many samples, evenly spread, as can be run in ``limit`` seconds; and a note."""
    seconds = judging + (spreads[0].median + sum(spread.median for spread in spreads)) / 1000
    fits = int(np.clip(limit / max(seconds, 1e-9), _LEAST_SAMPLES, MOST_SAMPLES))
    all_samples = evaluation_set.samples
    if len(all_samples) <= fits:
        return all_samples, []
    chosen = np.linspace(0, len(all_samples) - 1, fits).astype(int)
    rows = [all_samples.indices[i] for i in chosen]
    note = f"{fits} of {len(all_samples)} held-out samples were used, to bound the time."
    return all_samples.take(rows), [note]
