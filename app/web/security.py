"""Who may call: API keys with tenants and scopes; without keys, this machine's programs alone."""

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from app.domain.problems import Forbidden, TooManyRequests, Unauthenticated
from app.services import keys
from app.services.keys import Scope
from app.settings import Settings
from app.web.gateway import Call, gateway_of
from app.web.parameters import require_known

LOCAL_TENANT = "local"
"""Whose everything is where no key is needed."""

STANDING = "planish.standing"
"""Where a request's scope holds how often its key may still call."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="API key",
    description="`Authorization: Bearer plk_…`, made with `planish keys create`. A service that"
    " was started without configuration on loopback needs none.",
)


async def authenticate(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Call:
    """Find out whose request this is, and that it asks for nothing that its call does not know.

    Raises:
        Unauthenticated: There is no key, or it is unknown, expired or revoked.
        TooManyRequests: The key has sent more than a minute's requests.
        Forbidden: The key lacks the scope: ``read`` for GET, ``write`` for all else.
        Invalid: It has query parameters that the call does not have. Who lacks a key is not told.
    """
    scope: Scope = "read" if request.method in _READING else "write"
    return await _allowed(request, credentials, scope)


async def authenticate_writer(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Call:
    """Find out whose request this is, which lets its caller write whatever its method.

    Raises:
        Unauthenticated, TooManyRequests, Forbidden, Invalid: as ``authenticate``.
    """
    return await _allowed(request, credentials, "write")


Caller = Annotated[Call, Depends(authenticate)]
Writer = Annotated[Call, Depends(authenticate_writer)]


async def _allowed(
    request: Request, credentials: HTTPAuthorizationCredentials | None, scope: Scope
) -> Call:
    call = await _whose(request, credentials, scope)
    require_known(request)
    return call


async def _whose(
    request: Request, credentials: HTTPAuthorizationCredentials | None, scope: Scope
) -> Call:
    gateway = gateway_of(request)
    if keyless(gateway.settings):
        return Call(LOCAL_TENANT, gateway)
    if credentials is None:
        raise _unauthenticated("Send an API key: 'Authorization: Bearer plk_…'.")
    key = await run_in_threadpool(
        keys.valid, gateway.reads, gateway.sessions, credentials.credentials
    )
    if key is None:
        raise _unauthenticated("The API key is unknown, expired or revoked.")
    standing = gateway.rates.take(keys.digest(credentials.credentials).hex())
    request.scope[STANDING] = standing
    if standing.left < 0:
        raise TooManyRequests(
            f"The key may send {standing.quota} requests a minute: wait {standing.seconds} s.",
            headers={"Retry-After": str(standing.seconds)},
        )
    if scope not in key.scopes:
        raise Forbidden(f"The key lacks the scope '{scope}'; it has: {', '.join(key.scopes)}.")
    return Call(key.tenant, gateway)


def keyless(settings: Settings) -> bool:
    """Whether anybody who reaches the port may call; only said so explicitly."""
    return settings.auth.required is False


def require_own_page(settings: Settings, method: str, headers: Headers) -> None:
    """Refuse what a browser sends for somebody else's page.

    Without keys a page on the web could otherwise have its visitor's browser call us, through a
    name that it lets point here (DNS rebinding) or by a form (CSRF).

    Raises:
        Forbidden: A foreign ``Host`` or ``Origin``.
    """
    host = headers.get("host", "")
    name = _hostname(host)
    open_to_all = not keyless(settings) and not settings.server.allowed_hosts
    if not open_to_all and not _is_ours(name, settings):
        raise Forbidden(
            f"This service does not answer to the host name {name!r}; SERVER_ALLOWED_HOSTS can"
            " admit it."
        )
    if not keyless(settings):
        return
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Forbidden(f"Pages of {origin} may not call this service.")
    navigates = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and not navigates:
        raise Forbidden("Pages of other sites may not call this service.")


def _is_ours(name: str, settings: Settings) -> bool:
    public = urlsplit(settings.server.public_url or "").hostname
    if name in {*settings.server.allowed_hosts, settings.server.host, public}:
        return True
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _unauthenticated(detail: str) -> Unauthenticated:
    return Unauthenticated(detail, headers={"WWW-Authenticate": 'Bearer realm="planish"'})
