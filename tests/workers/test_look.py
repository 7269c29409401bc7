"""What a worker does for all goes on while its slots are taken."""

import threading
from pathlib import Path

from sqlalchemy import func

from app.domain import ids
from app.settings import Settings
from app.store import blob_rows
from app.store.session import Sessions, transaction
from app.store.tables import ModelRow
from tests.waiting import eventually
from tests.workers.light import settings_of, worker_with
from workers.upkeep.look import look

SHA256 = "0" * 64


def test_a_slow_inspection_delays_nobody_whose_worker_went_silent(
    database: str, redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    quick = {"lease": {"seconds": 0.5, "renew_seconds": 0.1, "scan_seconds": 0.1}}
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


def _owner(made: Sessions, model_id: str) -> str | None:
    with made() as session:
        return session.get_one(ModelRow, model_id).lease_owner
