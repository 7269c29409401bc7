"""The report's speed-up beside an outside script's, on an idle machine and on a busy one.

The script knows nothing of the engine: it opens both files with onnxruntime, as a user would, and
takes the shortest of many runs of each, which other work can only make longer. The report agrees
where the script's ratio lies in its interval, or is within 10 % of its figure.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import _engine, _ocr
from benchmarks._report import Bar, conclude

_STEPS = [{"method": "quantize", "mode": "static", "force": True}]
_BURNING = 2
_NEAR = 0.1

_OUTSIDE = """
import sys, time
import numpy as np, onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
options.add_session_config_entry("session.force_spinning_stop", "1")
sessions = [ort.InferenceSession(path, options) for path in sys.argv[1:3]]
feeds = {"x": np.load(sys.argv[4])["x"][:1]}
times = [[], []]
for _ in range(200):
    for session, found in zip(sessions, times):
        began = time.perf_counter()
        session.run(None, feeds)
        found.append(time.perf_counter() - began)
print(min(times[0]) / min(times[1]))
"""


def main() -> None:
    model, dataset = _ocr.model(), _ocr.dataset()
    found: dict[str, dict[str, float | bool]] = {}
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
        result = Path(scratch) / "result.onnx"
        for name, burning in (("idle", 0), ("busy", _BURNING)):
            with _burning(burning):
                report = _engine.run(model, dataset, _STEPS, result).report
                if report is None or report.evaluation.latency is None:
                    sys.exit("the job has no report of its latency")
                latency = report.evaluation.latency
                outside = _outside(model, result, dataset)
            assert latency.speedup_low is not None
            assert latency.speedup_high is not None
            inside = latency.speedup_low <= outside <= latency.speedup_high
            found[name] = {
                "speedup": latency.speedup,
                "low": latency.speedup_low,
                "high": latency.speedup_high,
                "certain": latency.certain,
                "outside": outside,
                "agrees": inside or abs(latency.speedup / outside - 1) <= _NEAR,
            }
            print(f"{name}: {found[name]}", flush=True)
    bars = [
        Bar(f"{name}: the report agrees with the script", "(1 is yes)", float(each["agrees"]), 1.0,
            "at least")
        for name, each in found.items()
    ]  # fmt: skip
    conclude("latency", bars, seed=_engine.SEED, **found)


def _outside(original: Path, result: Path, dataset: Path) -> float:
    """Return the median of three runs of the outside script."""
    words = [sys.executable, "-c", _OUTSIDE, str(original), str(result), str(_engine.THREADS)]
    ratios = [
        float(subprocess.run([*words, str(dataset)], check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(ratios)


@contextmanager
def _burning(count: int) -> Iterator[None]:
    """Keep some processors busy meanwhile."""
    loop = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
