"""Measures each artifact on its own runtime: its latency, and its outputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.jobs import Evaluate
from app.domain.latencies import same_speed, too_wide
from app.domain.reports import ArtifactFigures
from app.domain.targets import OutputFormat
from workers.compression import faults
from workers.compression.delivery.artifacts import Delivered
from workers.compression.delivery.farther import farther, other_numbers
from workers.compression.delivery.form import Made
from workers.compression.events import Events
from workers.compression.graph import runtime
from workers.compression.graph.load import load
from workers.compression.measure import clock, evaluation, passes, quality, turns
from workers.compression.measure.evaluation import Measured
from workers.compression.measure.evaluation_set import EvaluationSet
from workers.compression.measure.fidelity import Closeness, Nearness, Profile
from workers.compression.measure.passes import Judge
from workers.compression.measure.ratio import Ratio
from workers.compression.samples.context import Samples
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs, Runner, predict

MOST_SAMPLES = 1000
"""The most held-out samples that each artifact is judged on."""

_SERVING: tuple[OutputFormat, ...] = ("openvino", "pt2")
"""Formats that run where the ONNX file would, so that it matters which is faster."""

_SECONDS = 6.0
"""Seconds of timed runs, for all artifacts together."""

_NO_NUMBERS = (
    "The ONNX graph itself gives no numbers in some of its outputs for these samples: there the"
    " file could not be compared with it."
)
_NOT_FINITE = "Its outputs are not finite where those of the ONNX graph are, or have another shape."


@dataclass(frozen=True)
class ArtifactJudgements:
    """What was measured of the artifacts."""

    figures: dict[OutputFormat, ArtifactFigures]
    beside_onnx: list[str]
    """Which runtime is faster, in a sentence for each that is not onnxruntime; and which files are
    farther from the original than the ONNX graph."""


def judge(
    original: Path,
    graph: Path,
    delivered: Delivered,
    measured: Measured,
    evaluation_set: EvaluationSet,
    settings: Evaluate,
    events: Events,
) -> ArtifactJudgements:
    """Run every artifact on its own runtime, for its latency and the quality of its outputs.

    Args:
        original: the model as uploaded.
        graph: the ONNX graph that the artifacts were made of.
        delivered: the artifacts.
        measured: the figures of the original and of the graph.
        evaluation_set: the samples to judge on.
        settings: the metric and the output that the user asked for.
        events: receives the progress, from 98 % on.
    """
    figures: dict[OutputFormat, ArtifactFigures] = {}
    runners: dict[OutputFormat, Runner] = {}
    for name, made in delivered.made.items():
        if name == "onnx":
            onnx_figures = measured.graphs[-1]
            figures[name] = ArtifactFigures(
                runtime=f"onnxruntime {target.VERSION}",
                max_error=0.0,
                latency_ms=onnx_figures.latency_ms,
                quality=onnx_figures.quality,
                fidelity=onnx_figures.fidelity,
            )
        else:
            opened = _opened(made, evaluation_set)
            if isinstance(opened, Runner):
                runners[name] = opened
            else:
                figures[name] = ArtifactFigures(ran=False, reason=opened)
    if not runners:
        return ArtifactJudgements(figures, [])
    replays = {name: made.replay for name, made in delivered.made.items() if made.replay}
    local = {name: runner for name, runner in runners.items() if name not in replays}
    ratios = _beside_onnx(original, graph, local, evaluation_set)
    compared = [
        against_onnxruntime(local[name].runtime, ratio)
        for name, ratio in ratios.items()
        if name in _SERVING
    ]
    times = _on_one_scale(measured.graphs[-1].latency_ms, ratios)
    times |= {name: replay.latency_ms for name, replay in replays.items()}
    samples = measured.samples.draw(MOST_SAMPLES, 0)
    judging = _Judging(original, graph, evaluation_set, settings)
    for name, runner in runners.items():
        events.progress(0.98, f"evaluating {name} on held-out samples")
        samples_run = replays[name].samples if name in replays else samples
        judged, differs = judging.of(runner, samples_run, times[name])
        lost = farther(measured.graphs[-1].fidelity, judged.fidelity) or differs
        kept_back = judged.reason or delivered.made[name].reason or (lost and f"It {lost}.")
        figures[name] = judged.model_copy(update={"reason": kept_back})
        compared += [f"The file for {name} {lost}."] if lost else []
    return ArtifactJudgements(figures, compared)


def _opened(made: Made, evaluation_set: EvaluationSet) -> Runner | str:
    """Open an artifact on its runtime and run it once; return the reason if it cannot run here."""
    if made.open is None:
        return made.reason or "Its runtime is not here."
    try:
        runner = made.open()
        if made.replay is None:
            runner.run(evaluation_set.samples.first_run())
    except Exception as error:
        if faults.is_limit(error):
            raise
        return f"Its runtime does not run it: {faults.refusal(error)}."
    return runner


def _beside_onnx(
    original: Path,
    graph: Path,
    runners: dict[OutputFormat, Runner],
    evaluation_set: EvaluationSet,
) -> dict[OutputFormat, Ratio]:
    """Run artifacts by turns with the graph and the original in onnxruntime.

    Returns:
        Of each artifact, how many times longer the graph takes in onnxruntime.
    """
    if not runners:
        return {}
    threads, feeds = evaluation_set.threads, evaluation_set.samples.first_run()
    sessions = (target.open_session(path, threads) for path in (graph, original))
    timers = [clock.timer(session, feeds, threads) for session in sessions]
    timers += [turns.timed(partial(runner.run, feeds), threads) for runner in runners.values()]
    rounds = turns.by_turns(timers, _SECONDS)
    return {name: rounds.with_first(place).ratio for place, name in enumerate(runners, start=2)}


def _on_one_scale(
    latency_ms: float | None, ratios: dict[OutputFormat, Ratio]
) -> dict[OutputFormat, float | None]:
    """Return the latency of each artifact on the scale of the graph's.

    A machine may be busier in these rounds than when the graph was timed: the same graph in another
    file would seem to be many times slower.
    """
    return {
        name: None if latency_ms is None else round(latency_ms / ratio.value, 4)
        for name, ratio in ratios.items()
    }


def against_onnxruntime(name: str, ratio: Ratio) -> str:
    """Return which runtime runs the result faster, in a sentence.

    Args:
        name: the runtime's, with its version.
        ratio: of onnxruntime's time to its.
    """
    if ratio.low <= 1 <= ratio.high:
        if ratio.certain and same_speed(ratio.value):
            return f"{name} runs the result as fast as onnxruntime does."
        return f"Whether {name} or onnxruntime is faster, these runs do not tell."
    word, ends = "faster", (ratio.low, ratio.value, ratio.high)
    if ratio.value < 1:
        word, ends = "slower", (1 / ratio.high, 1 / ratio.value, 1 / ratio.low)
    if too_wide(ratio.low, ratio.high):
        return (
            f"{name} runs the result {word} than onnxruntime does; how much {word}, the machine was"
            " too busy to tell."
        )
    low, value, high = ends
    said = f"{value:.2f} times {word} ({low:.2f} to {high:.2f})"
    return f"{name} runs the result {said} than onnxruntime does."


class _Judging:
    """Compares outputs of artifacts with those of the original and of the graph."""

    def __init__(
        self, original: Path, graph: Path, evaluation_set: EvaluationSet, settings: Evaluate
    ) -> None:
        model = load(original)
        self._judge: Judge | None = evaluation.metric_for(model, evaluation_set, settings)
        self._output = quality.judged_output(model, settings)
        self._original = target.open_session(original, evaluation_set.threads)
        self._graph = runtime.open_session(graph, threads=evaluation_set.threads)

    def of(
        self, runner: Runner, samples: Samples, latency_ms: float | None
    ) -> tuple[ArtifactFigures, str | None]:
        """Return the figures of an artifact, and in which output it has other numbers, if any."""
        profile = self._profile(samples)
        closeness, beside = Closeness(self._output, profile), Nearness()
        answered = self._output if profile.answers_tell else None
        score = self._judge.score() if self._judge else None
        largest_error, numbers = 0.0, True
        triples = zip(
            passes.rows(self._original, samples),
            passes.rows(self._graph, samples),
            _outputs_of(runner, samples),
            strict=True,
        )
        for (row, expected), (_, graph_outputs), outputs in triples:
            closeness.add(expected, outputs)
            beside.add({k: v for k, v in graph_outputs.items() if k != answered}, outputs)
            largest_error = max(largest_error, max_error(graph_outputs, outputs))
            numbers = numbers and not any(map(_has_nan, graph_outputs.values()))
            if score:
                score.add(outputs, passes.target_of(samples, row), expected)
        compared = np.isfinite(largest_error)
        figures = ArtifactFigures(
            runtime=runner.runtime,
            max_error=largest_error if compared else None,
            reason=(None if numbers else _NO_NUMBERS) if compared else _NOT_FINITE,
            latency_ms=latency_ms,
            quality=score.quality if score else None,
            fidelity=closeness.value,
        )
        return figures, other_numbers(beside) if numbers else None

    def _profile(self, samples: Samples) -> Profile:
        profile = Profile()
        for _, outputs in passes.rows(self._original, samples):
            profile.add(outputs[self._output])
        return profile


def _has_nan(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == "f" and bool(np.isnan(array).any())


def max_error(expected: Outputs, actual: Outputs) -> float:
    """Return the largest absolute difference of one sample's outputs.

    It is infinite where shapes differ, or where one output is finite and the other is not. Where
    what is expected is no number, anything may be given.
    """
    return max((_difference(expected[name], actual[name]) for name in expected), default=0.0)


def _difference(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    if not isinstance(expected, np.ndarray) or expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(expected, actual) else np.inf
    if expected.shape != actual.shape:
        return np.inf
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    equal = (left == right) | np.isnan(left)
    with np.errstate(invalid="ignore"):
        differences = np.where(equal, 0.0, np.abs(left - right))
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0.0))


def _outputs_of(runner: Runner, samples: Samples) -> Iterator[Outputs]:
    for outputs in predict(runner, samples):
        yield from outputs
