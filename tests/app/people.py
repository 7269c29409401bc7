"""A person at the dashboard: logs in, reads pages, sends forms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
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


def filled(page: httpx.Response) -> dict[str, str]:
    """Return what a browser would send of a page's last form, if nothing was changed in it."""
    reader = _Forms()
    reader.feed(page.text)
    return reader.fields


class _Forms(HTMLParser):
    """Reads the fields of the last form of a page, buttons aside."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._choosing = self._typing = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "form":
            self.fields = {}
        elif tag == "input":
            self.fields[name] = given.get("value", "")
        elif tag == "textarea":
            self._typing, self.fields[name] = name, ""
        elif tag == "select":
            self._choosing, self.fields[name] = name, ""
        elif tag == "option" and "selected" in given:
            self.fields[self._choosing] = given.get("value", "")
            self._typing = "" if "value" in given else self._choosing

    def handle_endtag(self, tag: str) -> None:
        if tag in {"option", "textarea"}:
            self._typing = ""

    def handle_data(self, data: str) -> None:
        if self._typing:
            self.fields[self._typing] += data
