"""What became of the jobs that a disturbed service has accepted."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.store import leases
from benchmarks._tenants import PATIENCE_SECONDS, Load
from tests.e2e import engine
from tests.e2e.service import Service
from tests.waiting import eventually


@dataclass(frozen=True)
class Verdict:
    """What became of what was accepted."""

    faults: dict[str, int]
    jobs: int
    attempts: int
    """Of all jobs: how often a run was started."""
    lost: int
    doubled: int
    different: int
    failed: int
    left_over: int
    indiscreet: int
    """Lines of all logs that hold a secret, or are no JSON."""
    our_faults: int
    """Lines of all logs that tell of a fault that nobody has thought of."""
    longest_seconds: float
    """From submission to the end of the slowest job."""


def judge(service: Service, loads: Sequence[Load], faults: Mapping[str, int]) -> Verdict:
    """Wait for what was accepted to end; return what became of it."""
    epochs = {name: count for load in loads for name, count in load.accepted.items()}
    eventually(
        lambda: not service.rows("SELECT 1 FROM jobs WHERE finished_at IS NULL"),
        PATIENCE_SECONDS + leases.LONGEST_PAUSE_SECONDS,
        "the end of all jobs",
    )
    rows = service.rows("""
        SELECT j.name, j.id, j.status, m.graph_sha256,
            (SELECT min(sha256) FROM artifacts a WHERE a.job_id = j.id),
            (SELECT count(*) FROM artifacts a WHERE a.job_id = j.id),
            extract(epoch FROM j.finished_at - j.created_at), j.attempts
        FROM jobs j JOIN models m ON m.id = j.model_id
    """)
    graphs = {graph: service.stored(graph) for graph in {row[3] for row in rows}}
    found = Counter(name for name, *_ in rows)
    ends = dict(
        service.rows(
            "SELECT job_id, count(*) FROM events WHERE kind = 'state'"
            " AND data->>'status' IN ('succeeded', 'failed', 'cancelled') GROUP BY job_id"
        )
    )
    different = 0
    for name, _, status, graph, artifact, count, *_ in rows:
        if status == "succeeded" and name in epochs:
            undisturbed = engine.expected(graphs[graph], [epochs[name]])
            different += count != 1 or service.stored(artifact) != undisturbed
    return Verdict(
        faults=dict(faults),
        jobs=len(epochs),
        attempts=sum(row[7] for row in rows),
        lost=sum(name not in found for name in epochs),
        doubled=sum(count > 1 for count in found.values())
        + sum(ends.get(job) != 1 for _, job, *_ in rows),
        different=different,
        failed=sum(status != "succeeded" for _, _, status, *_ in rows),
        left_over=_left_over(service),
        indiscreet=len(service.indiscreet()),
        our_faults=sum("a fault of ours" in line for line in service.complaints()),
        longest_seconds=max((float(row[6]) for row in rows), default=0.0),
    )


def _left_over(service: Service) -> int:
    """Count what runs have left: job directories of living workers, and unfinished uploads."""
    service.sweep()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        alive = {lock.stem for lock in service.directory.glob("*.lock")}
        roots = [root for root in service.directory.glob("wrk_*/") if root.name in alive]
        left = [place for root in roots for place in root.glob("*/")]
        if not left and not service.incoming():
            return 0
        time.sleep(0.2)
    return len(left) + len(service.incoming())
