"""A gateway for two tenants, as many tests need it with settings of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from app.services import keys
from app.settings import Settings
from app.store.session import Sessions
from tests.app.service import Service
from tests.gateway import serving


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
