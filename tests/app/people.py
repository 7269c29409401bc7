"""A person at the dashboard: logs in, reads pages, sends forms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any

import httpx

from app.services import keys
from tests.app.service import Service

HTML = {"Accept": "text/html"}


@contextmanager
def browser(service: Service, tenant: str = "acme", **options: Any) -> Iterator[httpx.Client]:
    """Hand out a browser that is logged in for a tenant."""
    with service.store.begin() as session:
        _, key = keys.create(session, tenant, "browser", **options)
    with httpx.Client(base_url=service.url, headers=HTML, timeout=30) as client:
        answer = client.post("/login", data={"key": key})
        assert answer.status_code == 303, answer.text
        yield client


def form_token(client: httpx.Client) -> str:
    match = re.search(r'name="form_token" value="([0-9a-f]+)"', client.get("/jobs/new").text)
    assert match is not None
    return match[1]


def send(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Send a form of ours."""
    return client.post(path, data={"form_token": form_token(client), **fields})


def read(answer: httpx.Response) -> str:
    """Return a page's words."""
    assert answer.headers["content-type"].startswith("text/html")
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())
