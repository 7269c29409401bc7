"""A key may call so many times a minute, and every response says how many are left."""

import re

import httpx
import pytest

from app.services import keys
from app.settings import Settings
from app.store.session import Sessions
from app.web.rates import Rates
from tests.app.service import Service
from tests.gateway import serving


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_begins_with_its_first_request_and_ends_after_a_minute() -> None:
    clock = Clock()
    rates = Rates(2, clock)
    assert [rates.take("a").left for _ in range(3)] == [1, 0, -1]
    assert rates.take("b").left == 1
    clock.now += 59.5
    standing = rates.take("a")
    assert (standing.left, standing.seconds) == (-2, 1)
    assert standing.headers()["RateLimit"] == '"requests";r=0;t=1'
    clock.now += 0.5
    assert rates.take("a").left == 1


def test_keys_that_came_once_are_forgotten() -> None:
    clock = Clock()
    rates = Rates(1, clock)
    for index in range(10_000):
        rates.take(str(index))
    clock.now += 60
    rates.take("new")
    assert len(rates._windows) == 1


def test_responses_to_a_key_carry_its_standing(service: Service) -> None:
    answers = [service.http.get("/v1/models"), service.http.get("/v1/models/mdl_none")]
    left = []
    for answer in answers:
        assert answer.headers["RateLimit-Policy"] == '"requests";q=60000;w=60'
        match = re.fullmatch(r'"requests";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
        assert match is not None
        assert 0 < int(match[2]) <= 60
        left.append(int(match[1]))
    assert left == [59_999, 59_998]
    assert "RateLimit" not in httpx.get(f"{service.url}/healthz").headers


def test_one_request_too_many_is_told_when_to_come_again(
    settings: Settings, store: Sessions
) -> None:
    quota = settings.quota.model_copy(update={"requests_per_minute": 2})
    with store.begin() as session:
        made = [keys.create(session, "acme", "all")[1] for _ in range(2)]
    with serving(settings.model_copy(update={"quota": quota})) as url:
        statuses = []
        for key in (*[made[0]] * 3, made[1]):
            answer = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                assert answer.json()["type"] == "too-many-requests"
                assert int(answer.headers["Retry-After"]) == pytest.approx(60, abs=30)
                assert "2 requests a minute" in answer.json()["detail"]
    assert statuses == [200, 200, 429, 200]
