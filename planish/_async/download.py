"""Downloads that go on where they broke, and are whole and verified, or not there."""

import base64
import hashlib
import re
import uuid
from pathlib import Path
from urllib.parse import unquote

import httpx

from planish._answers import is_passing, pauses, words_of
from planish._async import io
from planish._async.http import AsyncTransport
from planish.errors import CorruptDownload, Refused, Unreachable

_NAME = re.compile(r"filename\*=UTF-8''([^;\s]+)", re.IGNORECASE)
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")


async def download(
    http: AsyncTransport,
    path: str,
    to: str | Path,
    *,
    sha256: str | None = None,
    **params: str | None,
) -> Path:
    """Download into the file ``to``, which is then whole and verified, or not there; return it.

    In a directory the file has the name that the service gives it. What a broken connection left
    lies beside it, and the same download goes on from there; also a later one, where ``sha256``
    says that it is of the same bytes.

    Raises:
        CorruptDownload: the bytes are not those that were announced.
        Unreachable: it breaks off again and again, without a byte between.
    """
    target = Path(to)
    own = (sha256 or uuid.uuid4().hex)[:12]
    inside = await io.call(target.is_dir)
    part = target / f"{own}.part" if inside else target.with_name(f"{target.name}.{own}.part")
    try:
        headers = await _fetch(http, path, part, params)
        announced = _announced(headers)
        digest = await io.call(_digest_of, part)
        if any(digest != wanted for wanted in (sha256, announced) if wanted):
            part.unlink()
            raise CorruptDownload(f"{path} came with SHA-256 {digest}: try again")
        target = target / _name(headers, path) if inside else target
        part.replace(target)
    finally:
        if sha256 is None:
            part.unlink(missing_ok=True)
    return target


async def _fetch(
    http: AsyncTransport, path: str, part: Path, params: dict[str, str | None]
) -> httpx.Headers:
    """Fetch what is missing of ``part``; return what the service says of it."""
    remaining = list(pauses(http.attempts))
    while True:
        had = _size(part)
        try:
            return await _go_on(http, path, part, had, params)
        except (httpx.TransportError, Refused) as error:
            if isinstance(error, Refused):
                if error.problem.status == 416 and had:
                    _begin_anew(part)
                elif not is_passing(error):
                    raise
            if _size(part) > had:
                remaining = list(pauses(http.attempts))
            if not remaining:
                raise Unreachable(f"the download broke off: {words_of(error)}") from None
            await io.sleep(remaining.pop(0))


async def _go_on(
    http: AsyncTransport, path: str, part: Path, start: int, params: dict[str, str | None]
) -> httpx.Headers:
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    async with http.stream(path, headers, **params) as response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        with part.open("ab" if start and goes_on else "wb") as file:
            async for chunk in response.aiter_bytes():
                file.write(chunk)
        return response.headers


def _announced(headers: httpx.Headers) -> str | None:
    """Return the SHA-256 that the service announces."""
    digest = _DIGEST.search(headers.get("Repr-Digest", ""))
    return base64.b64decode(digest[1]).hex() if digest else None


def _name(headers: httpx.Headers, path: str) -> str:
    """Return the name that the service gives the file (RFC 6266): no path, and not hidden."""
    given = _NAME.search(headers.get("Content-Disposition", ""))
    name = unquote(given[1]) if given else path.strip("/").replace("/", "-")
    return Path(name.replace("\\", "/")).name.lstrip(".") or "download"


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _begin_anew(file: Path) -> None:
    file.unlink(missing_ok=True)


def _digest_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
