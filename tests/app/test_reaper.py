"""What gateways and workers do for all: take back the work of silent workers."""

import asyncio
import threading

import pytest
from sqlalchemy import func

from app.domain import ids
from app.main import create_app
from app.settings import Settings
from app.store import blob_rows
from app.store.session import Sessions, transaction
from app.store.tables import ModelRow
from tests.gateway import serving
from tests.waiting import eventually

SHA256 = "0" * 64


def test_a_gateway_takes_back_what_a_silent_worker_held(
    settings: Settings, store: Sessions
) -> None:
    """Where every worker was killed, the next one starts with work that is free."""
    quick = settings.lease.model_copy(update={"seconds": 2, "renew_seconds": 0.1})
    with transaction(store) as session:
        blob_rows.touch(session, SHA256, 1)
        row = ModelRow(id=ids.new("mdl"), tenant="t", sha256=SHA256, size_bytes=1)
        row.lease_owner, row.lease_expires_at = "wrk_silent", func.now()
        session.add(row)

    def is_free() -> bool:
        with store() as session:
            return session.get_one(ModelRow, row.id).lease_owner is None

    with serving(settings.model_copy(update={"lease": quick}), scan_seconds=0.1):
        eventually(is_free, what="taking it back")


def test_a_gateway_that_is_ended_by_force_leaves_no_thread(settings: Settings) -> None:
    """A second Ctrl+C cancels what runs; a thread that went on would keep the process alive."""
    before = set(threading.enumerate())
    app = create_app(settings)

    def reapers() -> list[threading.Thread]:
        return [each for each in {*threading.enumerate()} - before if each.name == "reap"]

    async def end_by_force() -> None:
        async with app.router.lifespan_context(app):
            assert len(reapers()) == 1
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(end_by_force())
    eventually(lambda: not reapers(), what="the end of the reaper")
