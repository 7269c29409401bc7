"""Quantization after training, as a user asks for it, beside onnxruntime's own tools.

Ours is ``{"method": "quantize"}`` (``auto``), the same with a bound, and ``static``. Every way gets
the same calibration samples; a result is judged on data that no step has seen, and timed by turns
with the original, with one thread and with two. ``--models`` chooses models, ``--ways`` ways.
A busy machine cannot tell speeds: the load is in the JSON.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _engine, _ocr, _packaged, _ptq_peers, _task
from benchmarks._engine import SEED
from benchmarks._report import Bar, conclude
from benchmarks._subject import Subject
from workers.compression.measure import clock, turns
from workers.compression.samples.context import Feeds
from workers.compression.samples.split import split
from workers.compression.targets import onnx as target

CALIBRATION = 128
"""Samples of the training part that peers calibrate on, as many as ours does by itself."""

NOT_SLOWER, POINT = 0.97, 1.0

OURS: Mapping[str, tuple[Mapping[str, Any], float | None]] = {
    "auto": ({"method": "quantize"}, None),
    "auto, at most a point": ({"method": "quantize"}, 0.01),
    "static": ({"method": "quantize", "mode": "static"}, None),
}
"""A step, and the loss that the job allows."""


def _network(name: str) -> Subject:
    return Subject(
        lambda: _task.trained(name), _task.dataset, lambda path: {"top1": _task.tested(path)}
    )


def _reader() -> Subject:
    return Subject(_ocr.model, _ocr.dataset, _ocr.Reading().measures)


def _retrieval() -> Subject:
    from benchmarks import _minilm  # its weights are a package that few have

    search = _minilm.Search(_minilm.model, _engine.THREADS)
    return Subject(_minilm.model, _minilm.dataset, search.measures)


SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "PP-OCRv6": _reader,
    "MiniLM": _retrieval,
    **{name: partial(_network, name) for name in _task.NETWORKS},
    **_packaged.SUBJECTS,
}
"""Trained models, each with what it takes to judge it."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    known = [*OURS, *_ptq_peers.PEERS]
    options.add_argument("--ways", nargs="+", choices=known, default=known)
    asked = options.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for name in asked.models:
        results[name], subject = {}, SUBJECTS[name]()
        for way in asked.ways:
            results[name][way] = _figures(subject, way)
            print(f"{name:14} {way:48} {results[name][way]}", flush=True)
    bars = [bar for name, ways in results.items() for bar in _bars(name, ways)]
    conclude("ptq", bars, seed=SEED, calibration=CALIBRATION, results=results)


def _figures(subject: Subject, way: str) -> dict[str, Any]:
    """Return what a way made of a model, or why it failed."""
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
        result, started = Path(scratch) / "model.onnx", time.monotonic()
        try:
            _maker(way)(subject, result)
        except Exception as error:  # noqa: BLE001 (peers fail in every way)
            return {"problem": f"{type(error).__name__}: {str(error)[:300]}"}
        seconds = time.monotonic() - started
        sizes = [path.stat().st_size for path in (subject.model(), result)]
        return {
            "lost": subject.lost(subject.judge(result)),
            "smaller": sizes[0] / sizes[1],
            "faster": {threads: _faster(subject, result, threads) for threads in (1, 2)},
            "seconds": seconds,
        }


def _maker(way: str) -> Callable[[Subject, Path], None]:
    """Return what quantizes a model into a file."""
    if way in _ptq_peers.PEERS:
        return lambda subject, result: _ptq_peers.PEERS[way](
            subject.model(), _calibration(subject), result
        )
    step, bound = OURS[way]
    return lambda subject, result: _compress(subject, step, bound, result)


def _compress(subject: Subject, step: Mapping[str, Any], bound: float | None, result: Path) -> None:
    """Run the engine.

    Raises:
        ValueError: the job gave no file.
    """
    ended = _engine.run(subject.model(), subject.dataset(), [step], result, bound=bound)
    if not result.exists():
        raise ValueError(ended.problem.detail if ended.problem else "there is no artifact")


def _calibration(subject: Subject) -> list[Feeds]:
    """Return what runs on the calibration samples read, of the part that the engine trains on."""
    with np.load(subject.dataset()) as stored:
        arrays = {key: stored[key] for key in stored.files}
    targets = arrays.pop("targets", None)
    count = len(next(iter(arrays.values())))
    train = np.asarray(split(count, targets, SEED).train)
    rows = np.random.default_rng(SEED).permutation(train)[:CALIBRATION]
    return _ptq_peers.feeds_of(arrays, rows)


def _faster(subject: Subject, result: Path, threads: int) -> tuple[float, float, float]:
    """Return by how much a file is faster than the original on one sample, with the interval."""
    (feeds, *_) = _calibration(subject)
    timers = [
        clock.timer(target.open_session(path, threads), feeds, threads)
        for path in (subject.model(), result)
    ]
    ratio = turns.by_turns(timers).ratio
    return ratio.value, ratio.low, ratio.high


def _bars(name: str, ways: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """Return what is asked of ours on a model, and of ours beside the best peer within a point."""
    bars = []
    for way in (way for way in OURS if way in ways and "problem" not in ways[way]):
        found = ways[way]
        slowest = min(value for value, _, _ in found["faster"].values())
        bars += [
            Bar(f"{name}, {way}: lost", "points", found["lost"], POINT + 1e-9, "under"),
            Bar(f"{name}, {way}: speed", "times", slowest, NOT_SLOWER, "at least"),
            Bar(f"{name}, {way}: size", "times smaller", found["smaller"], 1, "at least"),
        ]
        good = [
            each
            for peer, each in ways.items()
            if peer in _ptq_peers.PEERS and "problem" not in each and each["lost"] <= POINT
        ]
        best = max((each["faster"][1][0] for each in good), default=None)
        if best is not None:
            ours = found["faster"][1][0]
            bars.append(
                Bar(f"{name}, {way}: beside the fastest peer", "times", ours / best, 1, "at least")
            )
    return bars


if __name__ == "__main__":
    main()
