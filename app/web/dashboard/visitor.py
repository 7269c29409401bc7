"""Who looks at a page: the holder of a session or, where no key is needed, whoever is here."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from app.domain.problems import Forbidden, MalformedRequest
from app.services import browser_sessions
from app.web.dashboard.back import asked_for
from app.web.gateway import Call, Gateway, gateway_of
from app.web.security import LOCAL_TENANT, keyless

COOKIE = "planish_session"
FORM_TOKEN = "form_token"  # noqa: S105 (the name of a field)
_READING = frozenset({"GET", "HEAD"})


class LogInFirst(Exception):  # noqa: N818 (it is what to do)
    """The page is for those who are logged in."""

    def __init__(self, back: str) -> None:
        super().__init__("Log in first.")
        self.location = f"/login?back={quote(back, safe='')}"


@dataclass(frozen=True)
class Visitor:
    """A person, whose tenant's things the pages show."""

    call: Call
    token: str | None
    """The session's; None where no key is needed."""
    scopes: frozenset[str]
    address: str
    """How programs of the visitor reach this service."""

    @property
    def needs_key(self) -> bool:
        """Whether programs have to send a key."""
        return self.token is not None

    @property
    def tenant(self) -> str:
        """Whose everything on the pages is."""
        return self.call.tenant

    @property
    def gateway(self) -> Gateway:
        """What pages may reach."""
        return self.call.gateway

    @property
    def form_token(self) -> str:
        """What every form carries, so that no other site can send it."""
        return "" if self.token is None else browser_sessions.form_token(self.token)

    @property
    def fetches(self) -> bool:
        """Whether files can be named by an address here."""
        return bool(self.gateway.settings.fetch.allowed)

    def require_own_form(self, given: Mapping[str, object]) -> None:
        """Refuse a form that is not of this session's pages.

        Raises:
            Forbidden: The token is missing or another's.
        """
        sent = str(given.get(FORM_TOKEN, ""))
        if not hmac.compare_digest(sent.encode(), self.form_token.encode()):
            raise Forbidden("This form is out of date: go back, reload the page and send it again.")


async def visitor(request: Request) -> Visitor:
    """Find out who looks.

    Raises:
        LogInFirst: There is no session, or it is over.
        Forbidden: The session's key may only read, and this is a change.
    """
    gateway = gateway_of(request)
    address = (gateway.settings.server.public_url or str(request.base_url)).rstrip("/")
    if keyless(gateway.settings):
        return Visitor(Call(LOCAL_TENANT, gateway), None, frozenset({"read", "write"}), address)
    token = request.cookies.get(COOKIE)
    back = asked_for(request.url) if request.method in _READING else "/"
    known = None if token is None else await run_in_threadpool(_rights_of, gateway, token)
    if token is None or known is None:
        raise LogInFirst(back)
    scope = "read" if request.method in _READING else "write"
    if scope not in known.scopes:
        raise Forbidden(f"Your key lacks the scope '{scope}'; log in with another one.")
    return Visitor(Call(known.tenant, gateway), token, frozenset(known.scopes), address)


Looking = Annotated[Visitor, Depends(visitor)]
"""Of a page."""


async def own_form(request: Request, visitor: Looking) -> FormData:
    """Return the fields of a form that one of our pages sent.

    Raises:
        Forbidden: It is not of this session's pages.
        MalformedRequest: A field holds U+0000, which no column of text takes.
    """
    form = await request.form(max_files=0)
    visitor.require_own_form(form)
    if any("\0" in name or "\0" in str(value) for name, value in form.multi_items()):
        raise MalformedRequest("The form must not contain U+0000.")
    return form


Form = Annotated[FormData, Depends(own_form)]
"""The fields of a form of ours; ``Looking`` says who sent it."""


def _rights_of(gateway: Gateway, token: str) -> browser_sessions.SessionRights | None:
    with gateway.sessions.begin() as session:
        return browser_sessions.rights_of(session, token)
