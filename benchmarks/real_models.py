"""How far each method takes two real models, without their source, at one point of loss.

A way of compressing is swept from mild to strong by bisection, one job a strength, and the
strongest that loses no more than a point is what counts. Finished jobs are kept in the cache;
``--fresh`` runs them again. Names of ways, or of models, on the command line choose among them.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _engine, _minilm, _ocr
from benchmarks._cache import CACHE
from benchmarks._engine import SEED, THREADS
from benchmarks._report import Bar, conclude
from benchmarks._subject import Subject

LOSS = 1.0
"""Points of what counts that may be lost."""
RECOVER = {"minutes": 3}

Figures = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """A step, and a parameter of it from mild to strong; without one it is tried once."""

    step: Mapping[str, Any]
    by: str | None = None
    values: tuple[Any, ...] = (None,)
    only: tuple[str, ...] = ()
    """The models that it is for; all if empty."""

    def at(self, value: object) -> dict[str, Any]:
        """Return the step at one strength."""
        return dict(self.step) | ({self.by: value} if self.by else {})


SUBJECTS: Mapping[str, Subject] = {
    "PP-OCRv6": Subject(_ocr.model, _ocr.dataset, _ocr.Reading().measures),
    "MiniLM": Subject(
        _minilm.model, _minilm.dataset, _minilm.Search(_minilm.model, THREADS).measures
    ),
}
_BITS = ("int8", "int4")
_LITTLE = (0.05, 0.1, 0.2, 0.3)
_SOME = (0.1, 0.2, 0.3)
_ZEROS = (0.2, 0.4, 0.6)
WAYS: Mapping[str, Way] = {
    "float16": Way({"method": "quantize", "mode": "float16"}),
    "dynamic": Way({"method": "quantize", "mode": "dynamic"}, "weights", _BITS),
    "static": Way({"method": "quantize", "mode": "static"}, "weights", _BITS),
    "static, extremes": Way({"method": "quantize", "mode": "static", "ranges": "minmax"}),
    "static, embeddings": Way(
        {"method": "quantize", "mode": "static", "operators": ["Gemm", "MatMul", "Gather"]},
        "weights",
        _BITS,
        ("MiniLM",),
    ),
    "weight_only int8": Way({"method": "quantize", "mode": "weight_only"}),
    **{
        f"weight_only int4 {algorithm}": Way(
            {"method": "quantize", "mode": "weight_only", "weights": "int4", "algorithm": algorithm}
        )
        for algorithm in ("rtn", "hqq", "gptq")
    },
    "cluster": Way({"method": "cluster"}, "clusters", (256, 16, 8)),
    "low_rank": Way({"method": "low_rank"}, "ratio", _LITTLE),
    "channel": Way({"method": "prune"}, "ratio", _LITTLE),
    "qat": Way({"method": "quantize", "mode": "qat", "recover": RECOVER}, "weights", _BITS),
    "channel, trained": Way({"method": "prune", "recover": RECOVER}, "ratio", _SOME),
    "low_rank, trained": Way({"method": "low_rank", "recover": RECOVER}, "ratio", (0.2,)),
    "unstructured": Way({"method": "prune", "granularity": "unstructured"}, "sparsity", _ZEROS),
}


def main() -> None:
    wanted = [each for each in sys.argv[1:] if not each.startswith("--")]
    tried: dict[str, dict[str, list[Figures]]] = {name: {} for name in SUBJECTS}
    for way in [each for each in WAYS if each in wanted] or WAYS:
        for name in [each for each in SUBJECTS if each in wanted] or SUBJECTS:
            if not WAYS[way].only or name in WAYS[way].only:
                tried[name][way] = sweep(name, WAYS[way])
    bars = [bar for name in SUBJECTS for bar in _bars(name, tried[name])]
    originals = {name: SUBJECTS[name].original for name in tried}
    conclude("real_models", bars, seed=SEED, recover=RECOVER, originals=originals, jobs=tried)


def _bars(name: str, tried: Mapping[str, list[Figures]]) -> list[Bar]:
    """Return how small and how fast a model gets within a point, by any way."""
    good = [found for way in tried.values() for found in way if kept(found)]
    smallest, fastest = (
        max((found[key] for found in good), default=0.0) for key in ("size_ratio", "speedup")
    )
    return [
        Bar(f"{name}: smallest within a point", "times smaller", smallest, 2, "at least"),
        Bar(f"{name}: fastest within a point", "times faster", fastest, 1, "at least"),
    ]


def sweep(name: str, way: Way) -> list[Figures]:
    """Find the strongest within a point by bisection; return all that was tried, mild first."""
    tried: dict[int, Figures] = {}
    low, high = -1, len(way.values)
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = {"strength": way.values[middle]} | figures(name, way.at(way.values[middle]))
        show(name, way, tried[middle])
        low, high = (middle, high) if kept(tried[middle]) else (low, middle)
    return [tried[each] for each in sorted(tried)]


def kept(found: Figures) -> bool:
    """Whether no more than a point was lost."""
    return "problem" not in found and found["lost"] <= LOSS


def figures(name: str, step: Mapping[str, Any]) -> Figures:
    """Return what a job made of a model, from the cache if it ran before."""
    subject = SUBJECTS[name]
    order = _engine.order_of([step])
    key = hashlib.sha256(subject.model().read_bytes() + json.dumps(order).encode()).hexdigest()
    path = CACHE / "real_models" / f"{name}-{key[:16]}.json"
    if not path.exists() or "--fresh" in sys.argv:
        found = {"step": step} | _compress(subject, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1))
    read: Figures = json.loads(path.read_text())
    return read


def _compress(subject: Subject, step: Mapping[str, Any]) -> Figures:
    """Run the engine and judge what comes out."""
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
        kept_as = Path(scratch) / "model.onnx"
        result = _engine.run(subject.model(), subject.dataset(), [step], kept_as)
        if result.report is None:
            assert result.problem is not None, "a job ends in one of the two"
            return {"problem": result.problem.detail}
        measured = subject.judge(kept_as)
    return _engine.row(result.report) | measured | {"lost": subject.lost(measured)}


def show(name: str, way: Way, found: Figures) -> None:
    """Print one line of a table, as soon as it is known."""
    settings = {key: value for key, value in way.at(found["strength"]).items() if key != "recover"}
    label = f"{name} {' '.join(map(str, settings.values()))}{' trained' * ('recover' in way.step)}"
    if "problem" in found:
        print(f"{label:60} {found['problem']}", flush=True)
        return
    print(
        f"{label:60} {found['lost']:6.2f} lost"
        f" {found['size_ratio']:5.2f}x smaller {found['macs_ratio']:4.2f}x fewer MACs"
        f" {found['speedup']:5.2f}x faster ({found['latency_ms']:.1f} ms)"
        f" {found['seconds']:5.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
