"""A gateway for two tenants, as many tests need it with settings of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from sqlalchemy import text

from app.services import keys
from app.settings import Settings
from app.store.session import Sessions
from app.store.tables import ApiKeyRow, Table
from tests.app.service import Service
from tests.gateway import serving


def settings_with(database: str, redis_url: str, storage_url: str) -> Settings:
    """Return settings under which keys are needed, and limits small enough to be reached."""
    return Settings.model_validate(
        {
            "database": {"url": database},
            "broker": {"url": redis_url},
            "storage": {"url": storage_url},
            "auth": {"required": True},
            "upload": {"max_bytes": 4 * 1024**2, "max_json_bytes": 64 * 1024},
            "quota": {"active_jobs": 5, "stored_bytes": 16 * 1024**2},
            "webhook": {"allowed_networks": "127.0.0.0/8"},
        }
    )


@contextmanager
def serving_two(settings: Settings, store: Sessions) -> Iterator[Service]:
    """Run a gateway; ``http`` is the tenant acme's, ``other`` another's."""
    with store.begin() as session:
        made = {tenant: keys.create(session, tenant, "all")[1] for tenant in ("acme", "other")}
    bearer = {tenant: {"Authorization": f"Bearer {key}"} for tenant, key in made.items()}
    with (
        serving(settings) as url,
        httpx.Client(base_url=url, headers=bearer["acme"], timeout=30) as http,
        httpx.Client(base_url=url, headers=bearer["other"], timeout=30) as other,
    ):
        yield Service(url, http, other, store)


@contextmanager
def limited(settings: Settings, service: Service, **quota: int) -> Iterator[httpx.Client]:
    """Serve with another quota; yield a client of the same tenant."""
    changed = settings.model_copy(update={"quota": settings.quota.model_copy(update=quota)})
    headers = service.http.headers
    with (
        serving(changed) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as http,
    ):
        yield http


def emptied(store: Sessions) -> None:
    """Delete every row but the keys of tenants: what tests leave, where they share a gateway."""
    kept = {ApiKeyRow.__tablename__}
    tables = [name for name in Table.metadata.tables if name not in kept]
    with store.begin() as session:
        session.execute(text(f"TRUNCATE {', '.join(tables)}"))
