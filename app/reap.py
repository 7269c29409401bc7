"""Takes back the work of silent workers, and fails jobs and uploads that waited too long.

Every worker and every gateway does this, so the work of killed workers is taken back as long as one
process is left, and what no worker takes fails in time where there is none.
"""

import math
import random
import threading
from functools import partial

import structlog

from app import nudge
from app.domain.problems import Unavailable
from app.settings import Settings
from app.sight import Sight
from app.store import chores, counters, inspections, leases, reaping, schema
from app.store.session import AWAY, Sessions, first_line, transaction

MERGE_SECONDS = 60.0
"""How often the rows of counters are merged."""

OVERDUE_SECONDS = 5.0
"""How often, in the whole deployment, all waiting jobs are read for those that waited too long."""

OVERDUE_UPLOADS_SECONDS = 30.0
"""The same of uploads."""

BACK_SECONDS = 300.0
"""How long workers have to start and to take what waits, once the service is there again."""

log = structlog.get_logger(__name__)


class Reaper:
    """What one process takes back, and for how long it has seen the database.

    Args:
        sessions: of the job store.
        settings: of the deployment.
        owner: the id of this process.
        back_seconds: how long the process has been there before it fails what waited longer.
    """

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        owner: str,
        back_seconds: float = BACK_SECONDS,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._owner = owner
        self._sight = Sight(settings.lease.blind_seconds)
        self._back_seconds = back_seconds
        self._presence = Sight(back_seconds)

    def reap(self) -> None:
        """Fail what waited too long, and take back the work of silent workers.

        A worker is silent only if it could have renewed its lease: the database must have been
        available for the duration of a lease. What waited while the whole service was away had
        nobody to take it: no limit that is longer than this process has been there is applied until
        workers have had time for that. If another process is reaping at this moment, nothing is
        done.
        """
        lease = self._settings.lease
        waiting: list[tuple[nudge.Subject, str]] = []
        with transaction(self._sessions) as session:
            now = leases.now(session)
            seen_for, there_for = self._sight.span(now), self._presence.span(now)
            if not reaping.try_lock(session):
                return
            owner = self._owner
            longest = math.inf if there_for >= self._back_seconds else there_for / 60
            fail = partial(reaping.fail_overdue, longest_minutes=longest)
            chores.do(session, "fail overdue", owner, OVERDUE_SECONDS, fail)
            minutes = self._settings.upload.pending_minutes
            reject = partial(reaping.reject_overdue, minutes=minutes, longest_minutes=longest)
            chores.do(session, "reject overdue", owner, OVERDUE_UPLOADS_SECONDS, reject)
            chores.do(session, "merge counters", owner, MERGE_SECONDS, counters.compact)
            if seen_for >= lease.seconds:
                waiting += [("job", each) for each in reaping.reap_jobs(session, lease.losses)]
                for upload, table in inspections.TABLES.items():
                    upload_ids = reaping.reap_inspections(session, table, lease.losses)
                    waiting += [(upload, each) for each in upload_ids]
                reaping.reap_fetches(session, lease.losses)
        for subject, row_id in waiting:
            nudge.send(self._settings, subject, row_id)

    def lose_sight(self) -> None:
        """Note that the database did not answer: the next lease's time counts from now."""
        self._sight.lose()

    def run(self, stopping: threading.Event) -> None:
        """Reap every few seconds, until the process stops."""
        while not stopping.wait(pause(self._settings)):
            try:
                with transaction(self._sessions) as session:
                    schema.require(session)
                self.reap()
            except (*AWAY, Unavailable) as error:
                self.lose_sight()
                log.warning("nothing can be taken back", error=first_line(error))
            except Exception:
                log.exception("a fault of ours")


def pause(settings: Settings) -> float:
    """Return the seconds until the next look at the table, spread so that processes alternate."""
    return settings.lease.scan_seconds * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)
