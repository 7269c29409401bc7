"""Takes back the work of silent workers, and fails jobs that waited too long."""

from app import nudge
from app.store import chores, counters, inspections, leases, reaping
from app.store.session import transaction
from workers.upkeep.sight import Sight
from workers.worker import Worker

MERGE_SECONDS = 60.0
"""How often the rows of counters are merged."""

OVERDUE_SECONDS = 5.0
"""How often, in the whole deployment, all waiting jobs are read for those that waited too long."""


def reap(worker: Worker, sight: Sight) -> None:
    """Fail jobs that waited too long, and take back the work of silent workers.

    A worker is silent only if it could have renewed its lease: the database must have been
    available for the duration of a lease. If another worker is reaping at this moment, nothing is
    done.
    """
    lease = worker.settings.lease
    waiting: list[tuple[nudge.Subject, str]] = []
    with transaction(worker.sessions) as session:
        seen_for = sight.span(leases.now(session))
        if not reaping.try_lock(session):
            return
        chores.do(session, "fail overdue", worker.id, OVERDUE_SECONDS, reaping.fail_overdue)
        chores.do(session, "merge counters", worker.id, MERGE_SECONDS, counters.compact)
        if seen_for >= lease.seconds:
            waiting += [("job", each) for each in reaping.reap_jobs(session, lease.attempts)]
            for upload, table in inspections.TABLES.items():
                upload_ids = reaping.reap_inspections(session, table, lease.attempts)
                waiting += [(upload, each) for each in upload_ids]
            reaping.reap_fetches(session, lease.attempts)
    for subject, row_id in waiting:
        nudge.send(worker.settings, subject, row_id)
