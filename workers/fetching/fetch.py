"""Fetches a file: claims it, stores its bytes while they are hashed, hands it to an inspection."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import TypeVar

import structlog
from structlog.contextvars import bound_contextvars

from app import nudge
from app.arriving import plausible
from app.blobs import Incoming
from app.domain.problems import (
    ChecksumMismatch,
    FetchFailed,
    InternalError,
    Problem,
    RunningLimit,
    TooLarge,
    Unavailable,
)
from app.domain.sources import Address, place_of
from app.store import fetches, quotas
from app.store.leases import LeaseLost
from app.store.session import first_line, transaction
from workers.fetching import https, s3, sent
from workers.fetching.files import Interrupted, RemoteFile
from workers.runs.hold import (
    FAULT_PAUSE_SECONDS,
    GIVE_BACK_SECONDS,
    LAST_WRITE_SECONDS,
    TEMPORARY,
    Cancelled,
    Hold,
    Stopping,
    retry,
)
from workers.worker import Worker

RETRY_SECONDS = (5.0, 30.0)
"""Pauses after the first interruption, and after each further one."""

_LOOK_SECONDS = 0.1

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


def fetch_next(worker: Worker) -> bool:
    """Fetch the file whose turn it is; return False if none waits."""
    with transaction(worker.sessions) as session:
        claimed = fetches.claim_next(session, worker.id, worker.settings.lease.seconds)
    if claimed is None:
        return False
    worker.fetch_due.set()  # perhaps another one waits
    with bound_contextvars(upload=claimed.id):
        waiting = _Fetch(worker, claimed).run()
    for job_id in waiting:
        nudge.send(worker.settings, "job", job_id)
    return True


class _Fetch:
    """One claim on a fetch."""

    def __init__(self, worker: Worker, claimed: fetches.Claim) -> None:
        self._worker = worker
        self._claimed = claimed
        self._fetch = worker.settings.fetch
        self._hold = Hold(
            self._renew,
            every=worker.settings.lease.renew_seconds,
            stopping=worker.stopping,
            seconds=self._fetch.seconds,
        )

    def run(self) -> Sequence[str]:
        """Fetch the file and store the outcome; return the jobs that fail with it."""
        with self._hold:
            try:
                self._keep(asyncio.run(self._receive()))
                nudge.send(self._worker.settings, self._claimed.kind, self._claimed.id)
            except (LeaseLost, Cancelled):
                log.warning("upload deleted, or somebody else's: nothing is stored")
            except Stopping:
                retry(partial(self._give_back, spent=False), GIVE_BACK_SECONDS)
            except TEMPORARY as error:
                log.warning("a store is away", error=first_line(error))
                retry(partial(self._give_back, spent=False, pause=True), LAST_WRITE_SECONDS)
            except Interrupted as error:
                return self._try_again(FetchFailed(_said(str(error), "again and again")))
            except RunningLimit:
                seconds = self._fetch.seconds
                return self._fail(FetchFailed(f"It was not complete within {seconds:g} s."))
            except Problem as problem:
                return self._fail(problem)
            except Exception:
                log.exception("a fault of ours")
                fault = f"A fault of ours; the log has it as {self._claimed.id}."
                return self._try_again(InternalError(fault))
        return ()

    async def _receive(self) -> Incoming:
        """Store the bytes; stop at once where the work has to.

        Raises:
            FetchFailed, TooLarge, TooManyRequests, UnsupportedMedia, Invalid: of the file.
            Interrupted: It may come another time.
            LeaseLost, Cancelled, Stopping, RunningLimit: as ``Hold.check``.
        """
        receiving = asyncio.ensure_future(self._stored())
        try:
            while not (await asyncio.wait({receiving}, timeout=_LOOK_SECONDS))[0]:
                self._hold.check()
            return receiving.result()
        finally:
            receiving.cancel()
            await asyncio.wait({receiving})

    async def _stored(self) -> Incoming:
        limit = self._worker.settings.upload.max_bytes
        async with self._opened() as file:
            if file.size_bytes is not None:
                if file.size_bytes > limit:
                    raise TooLarge(f"The file has more than the {limit} bytes that it may have.")
                if self._claimed.source.upload_id is None:
                    await asyncio.to_thread(self._require_room, file.size_bytes)
            chunks = plausible(file.chunks, self._claimed.kind)
            return await self._worker.blobs.receive(chunks, limit=limit)

    def _opened(self) -> AbstractAsyncContextManager[RemoteFile]:
        upload_id = self._claimed.source.upload_id
        if upload_id is not None:
            return sent.opened(self._worker, self._claimed.tenant, upload_id)
        address = Address.parse(self._claimed.source.url)
        idle = self._fetch.idle_seconds
        place = place_of(self._fetch.places, address, self._claimed.tenant)
        if address.scheme == "s3" and place is not None:
            return s3.opened(address, place, idle)
        return https.opened(address, self._permit, self._fetch.allowed_networks, idle)

    def _permit(self, address: Address) -> None:
        if place_of(self._fetch.places, address, self._claimed.tenant) is None:
            raise FetchFailed(
                f"The way to the file leads over {address.scheme}://{address.host}, from where"
                " nothing may be fetched; the operator can allow it with FETCH_ALLOWED."
            )

    def _keep(self, incoming: Incoming) -> None:
        """Publish the bytes, and give them to the upload."""
        try:
            wanted = self._claimed.source.sha256
            if wanted is not None and wanted != incoming.sha256:
                raise ChecksumMismatch(
                    f"The file has the SHA-256 {incoming.sha256}, not the one that the request"
                    " names. Check both, and send the request again."
                )
            self._hold.do(partial(self._store, fetches.announce, incoming))
            self._hold.do(partial(self._worker.blobs.publish, incoming))
            self._hold.do(partial(self._store, fetches.finish, incoming))
            if self._claimed.source.upload_id is not None:
                with suppress(Unavailable):  # what stays is swept
                    self._worker.blobs.forget_arrived(self._claimed.source.upload_id)
        finally:
            self._worker.blobs.discard(incoming)

    def _require_room(self, size_bytes: int) -> None:
        with transaction(self._worker.sessions) as session:
            settings, tenant = self._worker.settings, self._claimed.tenant
            quotas.require_room(session, settings, tenant, size_bytes)

    def _store(self, write: Callable[..., None], incoming: Incoming) -> None:
        with transaction(self._worker.sessions) as session:
            write(session, self._worker.settings, self._claimed, incoming)

    def _fail(self, problem: Problem) -> Sequence[str]:
        log.info("not fetched", problem=problem.detail)
        return retry(partial(self._write, fetches.fail, problem), LAST_WRITE_SECONDS) or ()

    def _try_again(self, problem: Problem) -> Sequence[str]:
        """Let it wait; reject it with a problem if its attempts are used up."""
        if self._claimed.attempts >= self._worker.settings.lease.attempts:
            return self._fail(problem)
        log.warning("fetched again later", problem=problem.detail)
        retry(partial(self._give_back, spent=True, pause=True), LAST_WRITE_SECONDS)
        return ()

    def _give_back(self, *, spent: bool, pause: bool = False) -> None:
        before = min(self._claimed.attempts, len(RETRY_SECONDS)) - 1
        seconds = RETRY_SECONDS[before] if spent else FAULT_PAUSE_SECONDS
        with transaction(self._worker.sessions) as session:
            fetches.give_back(
                session, self._claimed, spent=spent, delay_seconds=seconds if pause else 0
            )

    def _renew(self) -> bool:
        self._write(fetches.renew, self._worker.settings.lease.seconds)
        return False

    def _write(self, write: Callable[..., Answer], *values: object) -> Answer:
        with transaction(self._worker.sessions) as session:
            return write(session, self._claimed, *values)


def _said(reason: str, how_often: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}, {how_often}."
