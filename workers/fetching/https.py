"""A file at an ``https`` address: from permitted hosts at checked addresses, redirects included."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urljoin

import httpcore

from app.domain.addresses import Network
from app.domain.problems import FetchFailed
from app.domain.sources import Address, AddressError
from workers.addresses import AddressRefused, CheckedBackend, NameUnknown, trust
from workers.fetching.files import Interrupted, Permit, RemoteFile

MOST_REDIRECTS = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_USUAL_PORTS = {"http": 80, "https": 443}


@asynccontextmanager
async def opened(
    address: Address, permit: Permit, admitted: Iterable[Network], idle_seconds: float
) -> AsyncIterator[RemoteFile]:
    """Ask for a file; follow redirects as far as each address is permitted.

    Args:
        address: ``http`` or ``https``.
        permit: judges the address, and each that it is redirected to.
        admitted: networks that may be called although they are not public.
        idle_seconds: time limit for a connection, and for each wait for bytes.

    Raises:
        FetchFailed: There is no file, or it may not be fetched.
        Interrupted: The host does not answer, or asks to come again later.
    """
    backend = CheckedBackend(admitted)
    async with httpcore.AsyncConnectionPool(ssl_context=trust(), network_backend=backend) as pool:
        for _ in range(MOST_REDIRECTS + 1):
            permit(address)
            with _translated(address):
                response = await pool.handle_async_request(_request(address, idle_seconds))
            try:
                if response.status in _REDIRECTS:
                    address = _redirected(address, response)
                    continue
                _require_file(address, response)
                yield RemoteFile(_announced(response), _chunks(address, response))
                return
            finally:
                await response.aclose()
    raise FetchFailed(f"{address.host} redirects more than {MOST_REDIRECTS} times.")


def _request(address: Address, idle_seconds: float) -> httpcore.Request:
    """Build it of the parts that were judged: no second parser reads the URL."""
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    host = f"[{address.host}]" if ":" in address.host else address.host
    if address.port != _USUAL_PORTS[address.scheme]:
        host = f"{host}:{address.port}"
    url = httpcore.URL(
        scheme=address.scheme, host=address.host, port=address.port, target=target.encode()
    )
    headers = [("Host", host), ("User-Agent", "planish"), ("Accept-Encoding", "identity")]
    seconds = dict.fromkeys(("connect", "read", "write", "pool"), idle_seconds)
    return httpcore.Request("GET", url, headers=headers, extensions={"timeout": seconds})


def _redirected(address: Address, response: httpcore.Response) -> Address:
    location = _header(response, "location")
    try:
        to = Address.parse(urljoin(address.url, location))
    except (AddressError, ValueError) as error:
        raise FetchFailed(f"{address.host} redirects to an address that {error}.") from error
    if to.scheme not in _USUAL_PORTS:
        raise FetchFailed(f"{address.host} redirects to {to.scheme}://, which is not followed.")
    return to


def _require_file(address: Address, response: httpcore.Response) -> None:
    said = f"{address.host} answered {response.status}"
    if response.status in _TEMPORARY:
        raise Interrupted(said)
    if response.status != 200:
        raise FetchFailed(f"{said} in place of the file: check the address, and who may read it.")
    if _header(response, "content-encoding") not in {"", "identity"}:
        raise FetchFailed(f"{address.host} sends the file in an encoding that was not asked for.")


def _announced(response: httpcore.Response) -> int | None:
    length = _header(response, "content-length")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else None


async def _chunks(address: Address, response: httpcore.Response) -> AsyncIterator[bytes]:
    with _translated(address):
        async for chunk in response.aiter_stream():
            yield chunk


def _header(response: httpcore.Response, name: str) -> str:
    wanted = name.encode()
    values = (value for key, value in response.headers if key.lower() == wanted)
    return next(values, b"").decode("latin-1").strip()


@contextmanager
def _translated(address: Address) -> Iterator[None]:
    """Say in our words what went wrong between us and the host."""
    host = address.host
    try:
        yield
    except AddressRefused as error:
        raise FetchFailed(
            f"{host} has no public address. Whoever runs the service can admit its network with"
            " FETCH_ALLOWED_NETWORKS."
        ) from error
    except NameUnknown as error:
        raise Interrupted(f"the name {host} does not resolve") from error
    except httpcore.TimeoutException as error:
        raise Interrupted(f"{host} was silent for too long") from error
    except httpcore.ConnectError as error:
        raise Interrupted(f"there is no connection to {host}") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise Interrupted(f"the connection to {host} broke before the file was complete") from error
