"""A file in a bucket, read with the credentials of this process."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from app.domain.problems import FetchFailed
from app.domain.sources import Address, Place
from workers.fetching.files import Interrupted, RemoteFile

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}
_CHUNK_BYTES = 1024**2


@asynccontextmanager
async def opened(address: Address, place: Place, idle_seconds: float) -> AsyncIterator[RemoteFile]:
    """Ask for an object.

    Args:
        address: ``s3``.
        place: the operator's, which says how the bucket is reached.
        idle_seconds: time limit for a connection, and for each wait for bytes.

    Raises:
        FetchFailed: There is no such object, or this deployment may not read it.
        Interrupted: The storage does not answer.
    """
    options = dict(place.options)
    client: ClientConfig = {
        "allow_http": options.get("endpoint", "").startswith("http://"),
        "connect_timeout": timedelta(seconds=idle_seconds),
        "read_timeout": timedelta(seconds=idle_seconds),
    }
    bucket = address.host
    with _translated(address):
        store = S3Store.from_url(
            f"s3://{bucket}",
            config=options,  # type: ignore[arg-type]
            client_options=client,
            retry_config=_RETRY,
        )
        found = await obstore.get_async(store, unquote(address.path.lstrip("/")))
    yield RemoteFile(found.meta["size"], _chunks(address, found))


async def _chunks(address: Address, found: "obstore.GetResult") -> AsyncIterator[bytes]:
    with _translated(address):
        async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(chunk)


@contextmanager
def _translated(address: Address) -> Iterator[None]:
    bucket = address.host
    try:
        yield
    except FileNotFoundError as error:
        raise FetchFailed(f"There is no such object in the bucket {bucket}.") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise FetchFailed(f"This deployment may not read that from the bucket {bucket}.") from error
    except BaseError as error:
        raise Interrupted(f"the bucket {bucket} does not answer") from error
