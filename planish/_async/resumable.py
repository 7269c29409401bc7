"""Large files, sent so that after a cut the upload goes on where it broke.

They go to the service's storage itself where it takes them, else by the tus protocol.
"""

import base64
import contextlib
import uuid

from planish._answers import is_passing, pauses
from planish._async import direct, io
from planish._async.http import AsyncTransport, FilePart
from planish.errors import Conflict, PlanishError, Refused, Unreachable
from planish.types import Upload

_PATH = "/v1/uploads"
_TUS = {"Tus-Resumable": "1.0.0"}
_BYTES = {**_TUS, "Content-Type": "application/offset+octet-stream"}


async def send(http: AsyncTransport, file: FilePart) -> str:
    """Send a file; return the id of the upload, to be named in place of a body.

    An upload that is not sent to its end, because of an interrupt say, is deleted again.

    Raises:
        TooManyRequests: the quota does not hold it; no byte was sent.
        Unreachable: it breaks off again and again, without a byte between.
    """
    place, may_be_direct = await _begin(http, file)
    try:
        if not (may_be_direct and await direct.send(http, place, file)):
            await _send_here(http, place, file)
    except Unreachable:  # it expires
        raise
    except BaseException:
        with contextlib.suppress(PlanishError):
            await http.request("DELETE", place, headers=_TUS, attempts=1)
        raise
    return place.rpartition("/")[2]


async def _send_here(http: AsyncTransport, place: str, file: FilePart) -> None:
    remaining = list(pauses(http.attempts))
    start = 0
    while start < file.end:
        try:
            start = await _send_rest(http, place, FilePart(file.path, start, file.end))
        except PlanishError as error:
            if not _may_go_on(error) or not remaining:
                raise
            await io.sleep(remaining.pop(0))
            arrived = await _arrived(http, place)
            if arrived > start:
                remaining = list(pauses(http.attempts))
            start = arrived


async def _begin(http: AsyncTransport, file: FilePart) -> tuple[str, bool]:
    """Return where the upload goes on, and whether the service's storage takes it as well."""
    said = {"filename": file.path.name, "sha256": await io.call(file.sha256)}
    pairs = [f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in said.items()]
    headers = {
        **_TUS,
        "Idempotency-Key": str(uuid.uuid4()),
        "Upload-Length": str(file.end),
        "Upload-Metadata": ",".join(pairs),
    }
    response = await http.request("POST", _PATH, headers=headers)
    return response.headers["Location"], Upload.model_validate_json(response.content).direct


async def _send_rest(http: AsyncTransport, place: str, rest: FilePart) -> int:
    headers = {**_BYTES, "Upload-Offset": str(rest.start)}
    response = await http.request("PATCH", place, file=rest, headers=headers, attempts=1)
    return int(response.headers["Upload-Offset"])


async def _arrived(http: AsyncTransport, place: str) -> int:
    response = await http.request("HEAD", place, headers=_TUS)
    return int(response.headers["Upload-Offset"])


def _may_go_on(error: PlanishError) -> bool:
    """Whether the rest may be sent in a moment: what came before a cut may be on its way."""
    if isinstance(error, Refused):
        return is_passing(error) or isinstance(error, Conflict)
    return isinstance(error, Unreachable)
