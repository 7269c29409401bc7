"""Take back what silent workers held, and end what waited too long."""

from app import nudge
from app.store import inspections, leases, upkeep
from app.store.session import transaction
from workers.upkeep.sight import Sight
from workers.worker import Worker


def reap(worker: Worker, sight: Sight) -> None:
    """End what waited too long, and take back what silent workers held.

    They are silent if they could have renewed: the database has been seen for a lease's time.
    """
    lease = worker.settings.lease
    with transaction(worker.sessions) as session:
        upkeep.fail_overdue(session)
        if sight.span(leases.now(session)) < lease.seconds:
            return
    again: list[tuple[nudge.Subject, str]] = []
    with transaction(worker.sessions) as session:
        again += [("job", each) for each in upkeep.reap_jobs(session, lease.attempts)]
    for upload, table in inspections.TABLES.items():
        with transaction(worker.sessions) as session:
            taken = upkeep.reap_inspections(session, table, lease.attempts)
            again += [(upload, each) for each in taken]
    for subject, row_id in again:
        nudge.send(worker.settings, subject, row_id)
