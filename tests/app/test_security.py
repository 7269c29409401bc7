"""Keys, tenants and scopes; on the keyless default, pages of the web are kept out."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.services import keys
from app.settings import Settings
from app.store.session import Sessions
from app.store.tables import ApiKeyRow
from tests.app.service import DYNAMIC, Service
from tests.gateway import serving


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_valid_key_nothing_is_answered(service: Service, store: Sessions) -> None:
    with store.begin() as session:
        revoked, revoked_key = keys.create(session, "acme", "revoked")
        revoked.revoked_at = datetime.now(UTC)
        past = datetime.now(UTC) - timedelta(seconds=1)
        _, expired_key = keys.create(session, "acme", "expired", expires_at=past)
    wrong = ["Bearer plk_wrong", "Basic eDp5", "Bearer", f"Bearer {revoked_key}"]
    for value in [*wrong, f"Bearer {expired_key}", None]:
        headers = {} if value is None else {"Authorization": value}
        answer = httpx.get(f"{service.url}/v1/jobs", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "unauthenticated"), value
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_can_do_what_its_scopes_say(service: Service, store: Sessions) -> None:
    with store.begin() as session:
        _, reader = keys.create(session, "acme", "reads", ("read",))
        _, writer = keys.create(session, "acme", "writes", ("write",))
    url = f"{service.url}/v1/models"
    assert httpx.get(url, headers=bearer(reader)).status_code == 200
    assert httpx.post(url, headers=bearer(reader), content=b"m").status_code == 403
    assert httpx.post(url, headers=bearer(writer), content=b"m").status_code == 201
    refused = httpx.get(url, headers=bearer(writer))
    assert (refused.status_code, refused.json()["type"]) == (403, "forbidden")


def test_a_key_says_when_it_was_last_used(service: Service, store: Sessions) -> None:
    with store.begin() as session:
        row, key = keys.create(session, "acme", "fresh")
        made = row.id
    with store() as session:
        assert session.get_one(ApiKeyRow, made).used_at is None
    for _ in range(2):
        service.http.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    with store() as session:
        used = session.get_one(ApiKeyRow, made)
        assert used.used_at is not None
        assert used.used_at >= used.created_at


def test_only_the_hash_of_a_key_is_stored(store: Sessions) -> None:
    with store.begin() as session:
        row, key = keys.create(session, "acme", "mine")
        session.flush()
        stored = session.execute(
            text("select api_keys::text from api_keys where id = :id"), {"id": row.id}
        ).scalar_one()
    assert key.startswith("plk_")
    assert key not in stored
    assert key.removeprefix("plk_") not in stored


def test_a_revoked_key_is_worthless_at_once(service: Service, store: Sessions) -> None:
    from app.store import keys as stored

    assert service.http.get("/v1/jobs").status_code == 200
    with store.begin() as session:
        for row in stored.every(session):
            assert isinstance(row, ApiKeyRow)
            assert stored.revoke(session, row.id)
    assert service.http.get("/v1/jobs").status_code == 401


@pytest.fixture
def keyless(settings: Settings) -> Iterator[str]:
    open_to_all = settings.model_copy(
        update={"auth": settings.auth.model_copy(update={"required": False})}
    )
    with serving(open_to_all) as url:
        yield url


def test_programs_of_this_machine_need_no_key(keyless: str) -> None:
    made = httpx.post(f"{keyless}/v1/models", content=b"m")
    assert made.status_code == 201
    body = {"model": made.json()["id"], "steps": DYNAMIC}
    assert httpx.post(f"{keyless}/v1/jobs", json=body).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "attacker.example:8080"},
        {"Host": "127.0.0.1.attacker.example"},
        {"Host": "192.168.1.1"},
        {"Host": "[::ffff:8.8.8.8]"},
        {"Host": ""},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_the_web_cannot_reach_the_keyless_service(
    keyless: str, headers: dict[str, str]
) -> None:
    for method, path in (("POST", "/v1/models"), ("GET", "/v1/jobs"), ("GET", "/openapi.json")):
        answer = httpx.request(method, keyless + path, headers=headers, content=b"m")
        assert (answer.status_code, answer.json()["type"]) == (403, "forbidden"), (method, path)


def test_our_own_pages_and_names_are_let_in(keyless: str) -> None:
    own = {"Origin": keyless, "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(f"{keyless}/v1/models", content=b"m", headers=own).status_code == 201
    for host in ("localhost", "127.0.0.1:1", "[::1]:8080", "planish.localhost"):
        answer = httpx.get(f"{keyless}/v1/jobs", headers={"Host": host})
        assert answer.status_code == 200, host
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert httpx.get(f"{keyless}/docs", headers=link).status_code == 200


def test_where_keys_are_needed_hosts_can_be_named(settings: Settings) -> None:
    named = settings.model_copy(
        update={"server": settings.server.model_copy(update={"allowed_hosts": ["planish.example"]})}
    )
    with serving(named) as url:
        good = httpx.get(f"{url}/healthz", headers={"Host": "planish.example:443"})
        assert good.status_code == 200
        assert httpx.get(f"{url}/healthz", headers={"Host": "other.example"}).status_code == 403


def test_no_answer_can_be_taken_for_something_else(service: Service) -> None:
    for path in ("/v1/jobs", "/v1/nothing", "/docs"):
        headers = service.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_the_storage_directory_is_private(service: Service, storage_url: str) -> None:
    service.model()
    root = Path(httpx.URL(storage_url).path)
    assert root.stat().st_mode & 0o077 == 0
