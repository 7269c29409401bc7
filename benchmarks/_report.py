"""What every benchmark ends with: a table for people, JSON for machines, and a verdict."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from workers.compression.measure.machine import machine, versions

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Bar:
    """A number that was measured, and what it has to be."""

    what: str
    unit: str
    measured: float
    wanted: float
    bound: Literal["at least", "under"]

    @property
    def met(self) -> bool:
        """Whether it is what it has to be."""
        if self.bound == "under":
            return self.measured < self.wanted
        return self.measured >= self.wanted

    def __str__(self) -> str:
        verdict = "met" if self.met else "MISSED"
        return f"{self.measured:.4g} {self.unit}, {self.bound} {self.wanted:g} wanted: {verdict}"


def seeds_asked(usual: Sequence[int]) -> Sequence[int]:
    """Return the seeds on the command line, the usual ones where it names none."""
    return [int(word) for word in sys.argv[1:] if word.isdigit()] or usual


def conclude(name: str, bars: Sequence[Bar], seed: int | None = None, **samples: Any) -> None:
    """Print the bars, write ``results/<name>.json``, and end the process.

    Args:
        name: of the benchmark.
        bars: what it measured, against what is wanted.
        seed: of whatever was random.
        samples: the single measurements that the bars were made of.
    """
    width = max((len(bar.what) for bar in bars), default=0)
    for bar in bars:
        print(f"{bar.what:{width}}  {bar}")
    record(name, bars, seed, **samples)
    missed = not all(bar.met for bar in bars)
    sys.exit("--strict" in sys.argv and missed)


def record(name: str, bars: Sequence[Bar], seed: int | None = None, **samples: Any) -> None:
    """Write ``results/<name>.json``; see ``conclude``."""
    RESULTS.mkdir(exist_ok=True)
    found: Mapping[str, Any] = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine().model_dump(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "versions": versions(),
        "seed": seed,
        "bars": [{**asdict(bar), "met": bar.met} for bar in bars],
        "samples": samples,
    }
    path = RESULTS / f"{name}.json"
    path.with_suffix(".new").write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".new").rename(path)
