"""What a tenant may store."""

from sqlalchemy.orm import Session

from app.domain.problems import TooManyRequests
from app.settings import Settings
from app.store import stats


def require_room(session: Session, settings: Settings, tenant: str, size_bytes: int) -> None:
    """Refuse an upload that exceeds the tenant's storage quota; others wait until commit.

    Raises:
        TooManyRequests: The upload exceeds the quota.
    """
    free = settings.quota.stored_bytes - stats.lock_stored_bytes(session, tenant)
    if size_bytes > free:
        raise TooManyRequests(
            f"The upload has {size_bytes} bytes, and {max(free, 0)} of your quota of"
            f" {settings.quota.stored_bytes} are free: delete models, datasets or jobs.",
            headers={"Retry-After": "3600"},
        )
