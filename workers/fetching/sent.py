"""An upload whose parts a client sent to the storage itself: nobody has read them yet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.blobs import Incoming
from app.domain.problems import FetchFailed, NotFound
from app.store import uploads
from app.store.session import transaction
from workers.fetching.files import Interrupted, RemoteFile
from workers.worker import Worker


@asynccontextmanager
async def opened(worker: Worker, tenant: str, upload_id: str) -> AsyncIterator[RemoteFile]:
    """Open an upload: its parts, or the blob that was made of them meanwhile.

    Raises:
        FetchFailed: It has expired or was deleted, or a part was replaced by a shorter one.
        Interrupted: A part went away, as something else was made of the upload.
    """
    with transaction(worker.sessions) as session:
        row = uploads.find(session, tenant, upload_id)
        if row is None:
            raise FetchFailed("The upload has expired or was deleted: send the file again.")
        size, sha256 = row.length, row.sha256
        parts = [Incoming(p.sha256, p.size_bytes, p.key) for p in uploads.parts(session, upload_id)]
    blobs = worker.blobs
    chunks = blobs.join(parts) if sha256 is None else blobs.stream(sha256, 0, size)
    yield RemoteFile(size, _whole(chunks, size))


async def _whole(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Yield all bytes: whoever has the address of a part may replace it until that expires."""
    read = 0
    try:
        async for chunk in chunks:
            read += len(chunk)
            yield chunk
    except NotFound as error:
        raise Interrupted("a part of the upload is no longer in the storage") from error
    if read != size:
        raise FetchFailed(
            f"The upload has {read} of its {size} bytes: a part was replaced after it was complete."
            " Send the file again."
        )
