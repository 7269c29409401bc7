"""One object store, local files or a cloud's, through ``obstore``: keys, and bytes under them.

obstore repeats requests that fail with a transient error, with back-off. It is not safe across
``fork``: never fork a process that has opened a store.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from app.domain.problems import NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_BLOCK_BYTES = 4 * 1024**2  # handed on at a time

_CLIENT: "ClientConfig" = {"timeout": "60s", "connect_timeout": "5s"}
_RETRY: "RetryConfig" = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=90),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10)},
}
_PROBE_CLIENT: "ClientConfig" = {"timeout": "3s", "connect_timeout": "2s"}
_PROBE_RETRY: "RetryConfig" = {"max_retries": 0}


class Storage:
    """One object store.

    Every method raises :class:`Unavailable` when the storage does not answer, is full, or refuses.
    """

    def __init__(self, store: ObjectStore, probe: ObjectStore, root: Path | None) -> None:
        self._store = store
        self._probe = probe  # gives up quickly
        self._root = root  # of local files, which we flush and sweep ourselves

    @classmethod
    def open(cls, url: str) -> Self:
        """Open ``file:///path``, ``s3://bucket/prefix``, ``gs://…`` or ``az://account/container/…``.

        A query holds obstore's configuration (``?endpoint=http://host:9000&region=…``); credentials
        come from the environment, as each cloud's own tools read them.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            root = Path(unquote(parts.path))
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            local = LocalStore(root)
            return cls(local, local, root)
        return cls(_remote(url, _CLIENT, _RETRY), _remote(url, _PROBE_CLIENT, _PROBE_RETRY), None)

    async def _read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        for begin in range(start, end, _BLOCK_BYTES):
            with translated():
                block = await obstore.get_range_async(
                    self._store, key, start=begin, end=min(begin + _BLOCK_BYTES, end)
                )
            yield bytes(block)

    def _abandon(self, key: str) -> None:
        """Remove what there is of an object, unless the storage does not answer."""
        with contextlib.suppress(BaseError, OSError):
            obstore.delete(self._probe, key)
        if self._root is not None:
            for unfinished in self._root.glob(f"{key}#*"):
                unfinished.unlink(missing_ok=True)

    def _flush(self, key: str) -> None:
        """On local disks, wait until the file or directory is on the medium."""
        if self._root is not None:
            descriptor = os.open(self._root / key, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _age(self, key: str) -> timedelta:
        with translated():
            try:
                return datetime.now(UTC) - obstore.head(self._store, key)["last_modified"]
            except FileNotFoundError:
                return timedelta.max

    def _listed(self, prefix: str, older_than: timedelta) -> Iterator[str]:
        latest = datetime.now(UTC) - older_than
        with translated():
            for page in obstore.list(self._store, prefix):
                yield from (found["path"] for found in page if found["last_modified"] < latest)

    def _delete(self, key: str) -> None:
        with translated(), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, key)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the storage's errors into ours; the log has the cause, the caller need not know it."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("the content is no longer in the storage") from error
    except (BaseError, OSError) as error:
        raise Unavailable(
            "the storage does not answer or is full; nothing was stored, so try again",
            headers={"Retry-After": "5"},
        ) from error


def _remote(url: str, client: "ClientConfig", retry: "RetryConfig") -> ObjectStore:
    parts = urlsplit(url)
    config = dict(parse_qsl(parts.query))
    plain: ClientConfig = {"allow_http": config.get("endpoint", "").startswith("http://")}
    return from_url(  # type: ignore[call-overload, no-any-return]
        parts._replace(query="").geturl(),
        config=config,
        client_options={**client, **plain},
        retry_config=retry,
    )
