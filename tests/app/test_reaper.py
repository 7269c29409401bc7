"""What gateways and workers do for all: take back the work of silent workers."""

from sqlalchemy import func

from app.domain import ids
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
    quick = settings.lease.model_copy(update={"seconds": 0.5, "renew_seconds": 0.1})
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
