"""What a worker does for all goes on while its slots are taken."""

import threading
from pathlib import Path

from sqlalchemy import func

from app.domain import ids
from app.settings import Settings
from app.store import blob_rows, workers
from app.store.session import Sessions, transaction
from app.store.tables import ModelRow, WorkerRow
from tests.waiting import eventually
from tests.workers.worker import settings_of, worker_with
from workers.announce import store_announcement
from workers.upkeep.look import look

SHA256 = "0" * 64


def test_a_slow_inspection_delays_nobody_whose_worker_went_silent(
    database: str, redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    quick = {"lease": {"seconds": 2, "renew_seconds": 0.1, "scan_seconds": 0.1}}
    stores = settings_of(database, redis_url, storage_url).model_dump()
    settings = Settings.model_validate({**stores, **quick})
    with worker_with(settings, tmp_path) as worker, worker.slots.take() as is_inspecting:
        assert is_inspecting, "its one slot is taken, as by an inspection that goes on for long"
        with transaction(worker.sessions) as session:
            blob_rows.touch(session, SHA256, 1)
            row = ModelRow(id=ids.new("mdl"), tenant="t", sha256=SHA256, size_bytes=1)
            row.lease_owner, row.lease_expires_at = "wrk_silent", func.now()
            session.add(row)
        looking = threading.Thread(target=look, args=(worker,))
        looking.start()
        try:
            eventually(lambda: _owner(worker.sessions, row.id) is None, what="taking it back")
        finally:
            worker.stopping.set()
            looking.join()


def test_a_worker_that_was_cut_off_for_so_long_that_it_was_forgotten_announces_itself_again(
    database: str, redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    settings = settings_of(database, redis_url, storage_url)
    lease = settings.lease.model_copy(update={"scan_seconds": 0.1})
    with worker_with(settings.model_copy(update={"lease": lease}), tmp_path) as worker:
        store_announcement(worker)
        with transaction(worker.sessions) as session:
            session.query(WorkerRow).delete()
        looking = threading.Thread(target=look, args=(worker,))
        looking.start()
        try:
            eventually(lambda: _announced(worker.sessions) == [worker.id], what="the announcement")
        finally:
            worker.stopping.set()
            looking.join()


def _announced(made: Sessions) -> list[str]:
    with made() as session:
        return [row.id for row in workers.alive(session)]


def _owner(made: Sessions, model_id: str) -> str | None:
    with made() as session:
        return session.get_one(ModelRow, model_id).lease_owner
