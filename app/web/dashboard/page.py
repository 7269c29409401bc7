"""HTML of the dashboard: one layout, one policy, files of our own alone."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache, partial
from importlib.resources import files
from secrets import token_hex
from typing import Any

from fastapi import Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment

from app.domain import job_names
from app.domain.models import said_sizes
from app.domain.problems import Problem
from app.domain.wording import listed
from app.web import comparison, pages
from app.web.dashboard import places
from app.web.dashboard.labels import labels
from app.web.dashboard.visitor import Visitor
from app.web.figures import scaled

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Only files of this service apply, run and are asked for; no page may frame ours."""

FILES = {
    "dashboard.css": "text/css",
    "forms.js": "text/javascript",
    "live.js": "text/javascript",
    "upload.js": "text/javascript",
    "htmx.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""What pages load, and what it is."""

_STORED = {"htmx.js": "vendor/htmx.min.js"}


def show(
    template: str, visitor: Visitor | None, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """Return a page; every value is text, whatever markup it holds.

    Args:
        template: below ``templates/dashboard``.
        visitor: who looks; None for those who are not logged in.
        status: of the answer.
        values: what the template shows.
    """
    body = _environment().get_template(f"dashboard/{template}").render(visitor=visitor, **values)
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "private, no-store"}
    return HTMLResponse(body, status, headers)


def of_uploads(
    template: str,
    visitor: Visitor,
    found: object,
    fault: Problem | None = None,
    given: Mapping[str, object] | None = None,
) -> Response:
    """Return the list of models or of data, with the form that names a file by its address.

    Args:
        template: below ``templates/dashboard``.
        visitor: who looks.
        found: the part of the list that is shown.
        fault: what is wrong with the form.
        given: what was filled in.
    """
    status = fault.status if fault else 200
    return show(template, visitor, status=status, found=found, fault=fault, given=given or {})


def problem(fault: Problem, visitor: Visitor | None = None) -> Response:
    """Return a page that says what went wrong and what to do."""
    answer = show("problem.html", visitor, status=fault.status, problem=fault)
    answer.headers.update(dict(fault.headers or {}))
    return answer


def see(path: str) -> RedirectResponse:
    """Send the browser to another page, after a form was taken."""
    return RedirectResponse(path, 303)


@lru_cache
def stored(name: str) -> bytes:
    """Return the bytes of one of ``FILES``."""
    here = files("app.web")
    own = here.joinpath("static", _STORED.get(name, name)).read_bytes()
    if name == "dashboard.css":
        return here.joinpath("templates", "page.css").read_bytes() + own
    return own


@lru_cache
def address(name: str) -> str:
    """Return where one of ``FILES`` is found; it changes with the bytes, so they may be kept."""
    return f"/static/{hashlib.sha256(stored(name)).hexdigest()[:12]}/{name}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = pages.environment()
    environment.globals |= {
        "address": address,
        "zip": zip,
        "once": partial(token_hex, 32),
        "faults_of": faults,
        "less": job_names.LESS,
        "labels": labels,
        "sentences": places.sentences,
        "within": places.within,
        "beside": places.beside,
    }
    environment.filters |= {
        "listed": listed,
        "sizes": said_sizes,
        "amount": _amount,
        "bytes": lambda value: _amount(value, "B"),
        "signed": lambda value: (
            f"\N{MINUS SIGN}{_amount(-value, 'B')}" if value < 0 else _amount(value, "B")
        ),
        "quality": comparison.quality,
        "methods": job_names.methods_of,
        "job_work": job_names.work_of,
        "when": _when,
        "moment": lambda at: at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "duration": _duration,
        "shape": lambda shape: " × ".join(str(size) for size in shape) or "one number",
    }
    return environment


def _amount(value: int | None, unit: str = "") -> str:
    return "–" if value is None else scaled(value, unit).text


def _when(at: datetime | None) -> str:
    return "–" if at is None else at.strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float | None) -> str:
    """Return seconds in the unit that a person would say."""
    if seconds is None:
        return "–"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def faults(fault: Problem) -> Mapping[str, str]:
    """Return what is wrong with each field of a form, by its JSON pointer."""
    return places.faults((error.pointer, error.detail) for error in fault.details().errors or [])
