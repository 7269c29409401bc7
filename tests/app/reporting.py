"""What tests of reports share: a finished job, its report, and its page as a browser reads it."""

from html.parser import HTMLParser
from typing import Any

from app.store.tables import JobRow, StepRow
from tests.app.service import Service

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_VOID = {"meta", "br", "rect", "img", "link", "input", "hr"}


class Parsed(HTMLParser):
    """What a browser would make of a page: elements, attributes, texts; and that all is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for name in {name for element in self._open for name in element if name}:
            self.texts.setdefault(name, []).append(data)

    def text(self, name: str) -> str:
        return "".join(self.texts.get(name, []))


def path(job_id: str) -> str:
    return f"/v1/jobs/{job_id}/report"


def page(service: Service, job_id: str) -> str:
    answer = service.http.get(path(job_id), headers={"Accept": BROWSER})
    assert answer.status_code == 200, answer.text
    return answer.text


def finished(service: Service, *, failed: bool = False, **more: Any) -> str:
    job: str = service.job(**more)["id"]
    service.finish(job, failed=failed)
    return job


def reported(service: Service, job_id: str, step: dict[str, Any], **columns: Any) -> None:
    """Let the job's report be another one."""
    with service.store.begin() as session:
        session.get_one(StepRow, (job_id, 0)).report = step
        row = session.get_one(JobRow, job_id)
        for name, value in columns.items():
            setattr(row, name, value)
