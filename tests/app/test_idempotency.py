"""``Idempotency-Key``: a request that is sent again is answered again, and done once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import func, select, text

from app.store.tables import IdempotencyRow, JobRow, ModelRow
from tests.app.service import DYNAMIC, Service, pointers

KEY = {"Idempotency-Key": "once"}


def test_fifty_at_once_make_one_job(service: Service) -> None:
    body = {"model": service.model(), "steps": DYNAMIC}

    def submit(_number: int) -> httpx.Response:
        return service.http.post("/v1/jobs", json=body, headers=KEY)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(submit, range(50)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {202, 409}
    made = [answer for answer in answers if answer.status_code == 202]
    assert len({answer.content for answer in made}) == 1
    assert sum("idempotent-replay" not in answer.headers for answer in made) == 1
    in_flight = [answer.json()["type"] for answer in answers if answer.status_code == 409]
    assert set(in_flight) <= {"request-in-flight"}
    with service.store() as session:
        assert session.scalar(select(func.count()).select_from(JobRow)) == 1


def test_a_replay_gives_the_same_answer_and_says_so(service: Service) -> None:
    body = {"model": service.model(), "steps": DYNAMIC, "webhook": {"url": "https://example.com"}}
    first = service.http.post("/v1/jobs", json=body, headers=KEY)
    service.http.post(f"/v1/jobs/{first.json()['id']}/cancel")
    again = service.http.post("/v1/jobs", json=body, headers=KEY)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replay"] == "true"
    assert first.json()["webhook"]["secret"]


def test_while_the_first_is_in_flight_the_second_conflicts(service: Service) -> None:
    body = {"model": service.model(), "steps": DYNAMIC}
    with service.store.begin() as session:
        session.execute(text("lock table jobs in access exclusive mode"))
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(service.http.post, "/v1/jobs", json=body, headers=KEY)
            waiting = text("select count(*) from pg_locks where locktype = 'advisory' and granted")
            while session.scalar(waiting) == 0:
                assert not first.done()
            second = service.http.post("/v1/jobs", json=body, headers=KEY)
            session.rollback()
            assert (second.status_code, second.json()["type"]) == (409, "request-in-flight")
            assert first.result().status_code == 202


def test_another_body_under_the_same_key_is_refused(service: Service) -> None:
    model = service.model()
    service.http.post("/v1/jobs", json={"model": model, "steps": DYNAMIC}, headers=KEY)
    answer = service.http.post(
        "/v1/jobs", json={"model": model, "steps": DYNAMIC, "seed": 1}, headers=KEY
    )
    assert (answer.status_code, answer.json()["type"]) == (422, "idempotency-mismatch")


def test_a_refused_request_is_not_stored(service: Service) -> None:
    model = service.model()
    bad = service.http.post("/v1/jobs", json={"model": "x", "steps": DYNAMIC}, headers=KEY)
    assert bad.status_code == 422
    good = service.http.post("/v1/jobs", json={"model": model, "steps": DYNAMIC}, headers=KEY)
    assert good.status_code == 202


def test_a_key_belongs_to_tenant_and_path(service: Service) -> None:
    body = {"model": service.model(), "steps": DYNAMIC}
    job = service.http.post("/v1/jobs", json=body, headers=KEY).json()["id"]
    assert service.http.post("/v1/jobs/plan", json=body, headers=KEY).status_code == 200
    assert service.http.post(f"/v1/jobs/{job}/cancel", headers=KEY).status_code == 202
    assert service.http.post(f"/v1/jobs/{job}/cancel", headers=KEY).status_code == 202
    assert service.other.post("/v1/models", content=b"m", headers=KEY).status_code == 201
    assert service.http.post("/v1/models", content=b"m", headers=KEY).status_code == 201


def test_an_upload_is_made_once_for_its_bytes_and_query(service: Service) -> None:
    first = service.http.post("/v1/models?name=a", content=b"m", headers=KEY)
    again = service.http.post("/v1/models?name=a", content=b"m", headers=KEY)
    assert again.content == first.content
    assert again.headers["idempotent-replay"] == "true"
    for url, content in (("/v1/models?name=a", b"n"), ("/v1/models?name=b", b"m")):
        answer = service.http.post(url, content=content, headers=KEY)
        assert answer.json()["type"] == "idempotency-mismatch"
    with service.store() as session:
        assert session.scalar(select(func.count()).select_from(ModelRow)) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_bounded_length(service: Service, key: str) -> None:
    answer = service.http.post("/v1/models", content=b"m", headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert pointers(answer) == ["#/header/Idempotency-Key"]


def test_an_answer_is_kept_for_a_day(service: Service) -> None:
    first = service.http.post("/v1/models", content=b"m", headers=KEY).json()["id"]
    with service.store.begin() as session:
        row = session.scalars(select(IdempotencyRow)).one()
        row.created_at -= timedelta(hours=25)
    second = service.http.post("/v1/models", content=b"m", headers=KEY)
    assert second.json()["id"] != first
    assert "idempotent-replay" not in second.headers
    third = service.http.post("/v1/models", content=b"m", headers=KEY)
    assert third.content == second.content
