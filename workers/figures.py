"""What a worker process has done, counted here and added to the store's counters now and then.

Figures go through the store and not through a port of each worker: a machine has several worker
processes, nobody need reach them, and the gateway's ``/metrics`` has them all. A process that is
killed loses what it counted since it last looked for work, a few seconds.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app import tracing
from app.store import counters

Amounts = Mapping[str, Mapping[str, float]]
"""By name and label; see ``app.store.counters``."""


class Figures:
    """Counts in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._amounts: dict[str, dict[str, float]] = {}

    def add(self, name: str, label: str, amount: float = 1.0) -> None:
        """Add to one figure."""
        self.add_all({name: {label: amount}})

    def add_all(self, amounts: Amounts) -> None:
        """Add to figures."""
        with self._lock:
            for name, by_label in amounts.items():
                mine = self._amounts.setdefault(name, defaultdict(float))
                for label, amount in by_label.items():
                    mine[label] += amount

    def take(self) -> Amounts:
        """Return what was counted, and count from zero again."""
        with self._lock:
            taken, self._amounts = self._amounts, {}
        return taken

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the context's seconds to those of a stage, and trace it, however it ends."""
        began = time.monotonic()
        try:
            with tracing.span(stage):
                yield
        finally:
            self.add(counters.STAGE_SECONDS, stage, time.monotonic() - began)
