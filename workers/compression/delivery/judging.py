"""What artifacts do, each on its own runtime: how fast they are, and how near."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.jobs import Evaluate
from app.domain.reports import ArtifactFigures
from app.domain.targets import OutputFormat
from workers.compression import faults
from workers.compression.delivery.artifacts import Delivered
from workers.compression.delivery.form import Made
from workers.compression.events import Events
from workers.compression.graph import runtime
from workers.compression.graph.load import load
from workers.compression.measure import clock, evaluation, latency, quality
from workers.compression.measure.evaluation import Ground, Judge, Measured
from workers.compression.measure.fidelity import Closeness, Profile
from workers.compression.samples.context import Samples
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs, Runner, predict

MOST_SAMPLES = 1000
"""Held-out samples that each artifact is judged on, at most."""

_SECONDS = 6.0
"""Of timed runs, all artifacts together."""

_SAID = 400
_NOT_FINITE = "Its outputs are not finite where those of the ONNX graph are, or have another shape."


def judge(
    original: Path,
    graph: Path,
    delivered: Delivered,
    measured: Measured,
    ground: Ground,
    wish: Evaluate,
    events: Events,
) -> dict[OutputFormat, ArtifactFigures]:
    """Run every artifact on its runtime: its speed by turns with the original, and its answers.

    Args:
        original: the model as uploaded.
        graph: the ONNX graph that the artifacts were made of.
        delivered: the artifacts.
        measured: what is known of both graphs.
        ground: the samples to judge on.
        wish: the metric and the output that the user asked for.
        events: told of progress from 98 % on.
    """
    figures: dict[OutputFormat, ArtifactFigures] = {}
    runners: dict[OutputFormat, Runner] = {}
    for name, made in delivered.made.items():
        if name == "onnx":
            known = measured.graphs[-1]
            figures[name] = ArtifactFigures(
                runtime=f"onnxruntime {target.VERSION}",
                max_error=0.0,
                latency_ms=known.latency_ms,
                quality=known.quality,
                fidelity=known.fidelity,
            )
        else:
            opened = _opened(made, ground)
            if isinstance(opened, Runner):
                runners[name] = opened
            else:
                figures[name] = ArtifactFigures(ran=False, reason=opened)
    if not runners:
        return figures
    replays = {name: made.replay for name, made in delivered.made.items() if made.replay}
    here = {name: runner for name, runner in runners.items() if name not in replays}
    times = _times(original, here, ground)
    times |= {name: replay.latency_ms for name, replay in replays.items()}
    samples = measured.samples.draw(MOST_SAMPLES, 0)
    judging = _Judging(original, graph, ground, wish)
    for name, runner in runners.items():
        events.progress(0.98, f"evaluating {name} on held-out samples")
        seen = replays[name].samples if name in replays else samples
        figures[name] = judging.of(runner, seen, times[name])
    return figures


def _opened(made: Made, ground: Ground) -> Runner | str:
    """Open an artifact on its runtime and try it on a run; return why it cannot run here, if so."""
    if made.open is None:
        return made.reason or "Its runtime is not here."
    try:
        runner = made.open()
        if made.replay is None:
            runner.run(ground.samples.first_run())
    except Exception as error:
        if faults.is_limit(error):
            raise
        faults.log(error)
        return f"Its runtime does not run it: {' '.join(str(error).split())[:_SAID]}"
    return runner


def _times(
    original: Path, runners: dict[OutputFormat, Runner], ground: Ground
) -> dict[OutputFormat, float]:
    """Return the median milliseconds of one sample, of each, by turns with the original."""
    if not runners:
        return {}
    session = target.open_session(original, ground.threads)
    feeds = ground.samples.first_run()
    timers = [clock.timer(session, feeds, ground.threads)]
    timers += [
        clock.timed(partial(runner.run, feeds), ground.threads) for runner in runners.values()
    ]
    turns = latency.by_turns(timers, _SECONDS)
    count = ground.samples.layout.size
    return {name: turns.spread(index, count).median for index, name in enumerate(runners, start=1)}


class _Judging:
    """Compares answers of artifacts with those of the original and of the graph."""

    def __init__(self, original: Path, graph: Path, ground: Ground, wish: Evaluate) -> None:
        model = load(original)
        self._judge: Judge | None = evaluation.judge_of(model, ground, wish)
        self._output = quality.judged_output(model, wish)
        self._original = target.open_session(original, ground.threads)
        self._graph = runtime.open_session(graph, threads=ground.threads)

    def of(self, runner: Runner, samples: Samples, latency_ms: float) -> ArtifactFigures:
        """Return what an artifact does."""
        closeness = Closeness(self._output, self._profile(samples))
        score = self._judge.score() if self._judge else None
        worst = 0.0
        three = zip(
            evaluation.rows(self._original, samples),
            evaluation.rows(self._graph, samples),
            _answers(runner, samples),
            strict=True,
        )
        for (row, expected), (_, written), given in three:
            closeness.add(expected, given)
            worst = max(worst, max_error(written, given))
            if score:
                score.add(given, evaluation.target_of(samples, row), expected)
        return ArtifactFigures(
            runtime=runner.runtime,
            max_error=worst if np.isfinite(worst) else None,
            reason=None if np.isfinite(worst) else _NOT_FINITE,
            latency_ms=latency_ms,
            quality=score.quality if score else None,
            fidelity=closeness.value,
        )

    def _profile(self, samples: Samples) -> Profile:
        profile = Profile()
        for _, outputs in evaluation.rows(self._original, samples):
            profile.add(outputs[self._output])
        return profile


def max_error(wanted: Outputs, given: Outputs) -> float:
    """Return the largest absolute difference of one sample's outputs.

    It is infinite where one has another shape, or is not finite where the other is.
    """
    return max((_difference(wanted[name], given[name]) for name in wanted), default=0.0)


def _difference(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    if not isinstance(wanted, np.ndarray) or wanted.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(wanted, given) else np.inf
    if wanted.shape != given.shape:
        return np.inf
    left, right = wanted.astype(np.float64), given.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(left - right))
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


def _answers(runner: Runner, samples: Samples) -> Iterator[Outputs]:
    for outputs in predict(runner, samples):
        yield from outputs
