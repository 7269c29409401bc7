"""Where benchmarks keep what they fetch, train or finish once."""

import os
from pathlib import Path

CACHE = Path(os.environ.get("PLANISH_BENCH_CACHE", Path.home() / ".cache/planish-bench"))
