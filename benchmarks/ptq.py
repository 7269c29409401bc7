"""Quantization after training, as a user asks for it, beside what others' tools make of a model.

Ours is ``{"method": "quantize"}`` (``auto``), the same with a bound, and ``static``. Every way gets
the same calibration samples; a result is judged on data that no step has seen, and timed by turns
with the original, with one thread and with two. ``--models`` chooses models, ``--ways`` ways.
What ``results/ptq.json`` holds of the same versions is not measured again, unless ``--again`` says
so. A busy machine cannot tell speeds: the load is in the JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _detector, _engine, _ocr, _packaged, _ptq_bars, _ptq_page, _task, _unet
from benchmarks._engine import SEED
from benchmarks._ptq_peers import PEERS, SECONDS, Peer
from benchmarks._report import RESULTS, conclude, record
from benchmarks._subject import CALIBRATION, Subject
from workers.compression.measure import clock, turns
from workers.compression.measure.machine import versions
from workers.compression.targets import onnx as target

OURS: Mapping[str, tuple[Mapping[str, Any], float | None]] = {
    "auto": ({"method": "quantize"}, None),
    "auto, at most a point": ({"method": "quantize"}, 0.01),
    "static": ({"method": "quantize", "mode": "static"}, None),
}
"""A step, and the loss that the job allows."""

Row = dict[str, Any]
Results = dict[str, dict[str, Row]]
"""The figures of each way, by model."""


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
    **_packaged.SUBJECTS,
    "PP-OCRv6": _reader,
    "MiniLM": _retrieval,
    **{name: partial(_network, name) for name in _task.NETWORKS},
    "unet": partial(Subject, _unet.model, _unet.dataset, _unet.measures),
    "detector": partial(Subject, _detector.model, _detector.dataset, _detector.measures),
}
"""Trained models, each with what it takes to judge it."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    there = [way for way, peer in PEERS.items() if peer.is_there]
    options.add_argument("--ways", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *there])
    options.add_argument("--again", action="store_true")
    options.add_argument("--page", action="store_true")
    asked = options.parse_args()
    results = _earlier()
    for name, ways in [] if asked.page else _rounds(asked.models, asked.ways):
        known = {} if asked.again else results.get(name, {})
        missing = [way for way in ways if known.get(way, {}).get("versions") != versions()]
        subject = SUBJECTS[name]() if missing else None
        for way in missing:
            assert subject is not None
            row = _row(subject, way)
            print(f"{name:20} {way:46} {_told(row)}", flush=True)
            results = _earlier()
            results.setdefault(name, {})[way] = row
            record("ptq", _ptq_bars.of(results, OURS), SEED, results=results)
    _ptq_page.write(results, OURS)
    conclude("ptq", _ptq_bars.of(results, OURS), SEED, calibration=CALIBRATION, results=results)


def _earlier() -> Results:
    """Return what was measured; another process may have added to it."""
    path = RESULTS / "ptq.json"
    if not path.exists():
        return {}
    found: Results = json.loads(path.read_text())["samples"]["results"]
    return found


def _rounds(models: list[str], ways: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield models and ways: all models with ours and one set-up of each peer come first."""
    firsts = {peer.module: way for way, peer in reversed(list(PEERS.items()))}
    first = [*OURS, *firsts.values()]
    for wanted in (first, [way for way in PEERS if way not in first]):
        for name in models:
            yield name, [way for way in ways if way in wanted]


def _row(subject: Subject, way: str) -> Row:
    """Return what a way made of a model, or why it failed, and on what."""
    facts = {"at": f"{datetime.now(UTC):%d %B %Y %H:%M}", "versions": versions()}
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
        result = Path(scratch) / "model.onnx"
        subject.model(), subject.dataset()  # what is trained or drawn first takes no time of a way
        try:
            started = time.monotonic()
            _make(subject, way, result)
            seconds = time.monotonic() - started
            figures = _figures(subject, result) | {"seconds": round(seconds, 1)}
        except (Exception, SystemExit) as error:  # noqa: BLE001 (peers fail in every way)
            figures = {"problem": f"{type(error).__name__}: {str(error)[:300]}"}
    return figures | facts | {"load": round(os.getloadavg()[0], 1)}


def _told(row: Row) -> str:
    if "problem" in row:
        return str(row["problem"])
    faster = row["faster"].values()
    speeds = " ".join(f"{value:.2f} ({low:.2f}-{high:.2f})" for value, low, high in faster)
    lost, smaller = (f"{row[key]:.2f}" for key in ("lost", "smaller"))
    return f"lost {lost}, smaller {smaller}, faster {speeds}, {row['seconds']} s"


def _make(subject: Subject, way: str, result: Path) -> None:
    """Quantize a model into a file.

    Raises:
        ValueError: there is no file.
    """
    if way in PEERS:
        _by_peer(subject, PEERS[way], result)
        return
    step, bound = OURS[way]
    ended = _engine.run(
        subject.model(), subject.dataset(), [step], result, bound=bound, seconds=SECONDS
    )
    if not result.exists():
        raise ValueError(ended.problem.detail if ended.problem else "there is no artifact")


def _by_peer(subject: Subject, peer: Peer, result: Path) -> None:
    runs = result.with_name("runs.npz")
    feeds = subject.calibration
    arrays: dict[str, Any] = {name: np.stack([each[name] for each in feeds]) for name in feeds[0]}
    np.savez(runs, **arrays)
    peer.quantize(subject.model(), runs, result)


def _figures(subject: Subject, result: Path) -> Row:
    sizes = [path.stat().st_size for path in (subject.model(), result)]
    return {
        "lost": subject.lost(subject.judge(result)),
        "smaller": sizes[0] / sizes[1],
        "weights": subject.weights,
        "faster": {str(threads): _faster(subject, result, threads) for threads in (1, 2)},
    }


def _faster(subject: Subject, result: Path, threads: int) -> tuple[float, float, float]:
    """Return by how much a file is faster than the original on one sample, with the interval."""
    timers = [
        clock.timer(target.open_session(path, threads), subject.calibration[0], threads)
        for path in (subject.model(), result)
    ]
    ratio = turns.by_turns(timers).ratio
    return ratio.value, ratio.low, ratio.high


if __name__ == "__main__":
    main()
