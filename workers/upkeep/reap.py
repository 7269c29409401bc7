"""Take back what silent workers held, and end what waited too long."""

from app import nudge
from app.store import inspections, leases, upkeep
from app.store.session import transaction
from workers.upkeep.sight import Sight
from workers.worker import Worker


def reap(worker: Worker, sight: Sight) -> None:
    """End what waited too long, and take back what silent workers held.

    They are silent if they could have renewed: the database has been seen for a lease's time. Where
    another worker is at it this moment, there is nothing to do.
    """
    lease = worker.settings.lease
    again: list[tuple[nudge.Subject, str]] = []
    with transaction(worker.sessions) as session:
        seen_for = sight.span(leases.now(session))
        if not upkeep.alone(session):
            return
        upkeep.fail_overdue(session)
        if seen_for >= lease.seconds:
            again += [("job", each) for each in upkeep.reap_jobs(session, lease.attempts)]
            for upload, table in inspections.TABLES.items():
                taken = upkeep.reap_inspections(session, table, lease.attempts)
                again += [(upload, each) for each in taken]
    for subject, row_id in again:
        nudge.send(worker.settings, subject, row_id)
