"""Large files, sent to the service's storage itself where it takes them, part by part."""

import math

import httpx

from planish._answers import pauses
from planish._async import io
from planish._async.http import AsyncTransport, FilePart
from planish.types import Part, Parts, Upload

_WRITE_S = 60.0


async def send(http: AsyncTransport, place: str, file: FilePart) -> bool:
    """Send the parts of a file that the storage does not have; then the upload is complete.

    Returns:
        False where the storage cannot be reached from here, or does not keep what it is sent: the
            service takes the bytes as well.

    Raises:
        Refused: the service said no.
    """
    remaining: list[float] = []
    least = math.inf
    etags: dict[int, str] = {}
    async with io.Http(timeout=httpx.Timeout(http.timeout_s, write=_WRITE_S)) as storage:
        while (missing := await http.get(f"{place}/parts", Parts)).items:
            if len(missing.items) < least:
                least, remaining = len(missing.items), list(pauses(http.attempts))
            elif not remaining:
                return False
            else:
                await io.sleep(remaining.pop(0))
            etags |= await _send_parts(storage, missing, file)
    parts = [{"start": start, "etag": etag} for start, etag in sorted(etags.items()) if etag]
    await http.post(f"{place}/complete", Upload, {"parts": parts})
    return True


async def _send_parts(storage: io.Http, missing: Parts, file: FilePart) -> dict[int, str]:
    """Send parts until one does not arrive; return the ETags of those that did."""
    etags: dict[int, str] = {}
    for part in missing.items:
        response = await _put(storage, part, missing.headers, file)
        if response is None or not response.is_success:
            break
        etags[part.start] = response.headers.get("ETag", "")
    return etags


async def _put(
    storage: io.Http, part: Part, headers: dict[str, str], file: FilePart
) -> httpx.Response | None:
    body = FilePart(file.path, part.start, part.start + part.size_bytes)
    announced = {**headers, "Content-Length": str(part.size_bytes)}
    try:
        return await storage.put(part.url, content=body.chunks(), headers=announced)
    except httpx.TransportError:
        return None
