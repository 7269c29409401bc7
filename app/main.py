"""The gateway: FastAPI over the job store and the blobs."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from app import logs, tracing
from app.blobs import Blobs
from app.domain import ids
from app.presigned import Presigned
from app.reap import Reaper
from app.settings import Settings
from app.store.session import connect, sessions
from app.web import at_once, dashboard, openapi, problems
from app.web.api import (
    advice,
    artifacts,
    catalog,
    datasets,
    devices,
    events,
    health,
    jobs,
    models,
    reference,
    reports,
    uploads,
    usage,
    webhooks,
)
from app.web.dashboard import page
from app.web.dashboard.visitor import LogInFirst
from app.web.gateway import Gateway
from app.web.metrics import Metrics
from app.web.middleware import Guarded, Observed
from app.web.parameters import PREFIX
from app.web.protocol import Protocol
from app.web.rates import Rates
from app.web.watch import Watch

VERSION = "0.1.0"

_LAST_LOOK_SECONDS = 5.0
"""How long a stopping gateway waits for its reaper, whose database may not answer."""


def create_app(settings: Settings) -> FastAPI:
    """Return the gateway; it opens its stores when it starts, and closes them when it stops."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        changing, reading = connect(settings.database), connect(settings.database, reading=True)
        factory = sessions(changing)
        watch = Watch(factory)
        blobs = Blobs.open(settings.storage.url)
        reached = settings.upload.direct_url
        presigned = Presigned.open(reached) if reached else None
        app.state.gateway = Gateway(
            settings,
            factory,
            reading,
            blobs,
            presigned,
            watch,
            metrics,
            Rates(settings.quota.requests_per_minute),
            at_once.arrivals(settings.quota.arriving_uploads),
            at_once.streams(settings.quota.event_streams),
        )
        watching = asyncio.create_task(watch.run())
        stopping = threading.Event()
        reaper = Reaper(factory, settings, ids.new("gtw"))
        reaping = threading.Thread(target=reaper.run, args=(stopping,), name="reap", daemon=True)
        reaping.start()
        try:
            yield
        finally:  # also where a second Ctrl+C ends all at once
            stopping.set()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await run_in_threadpool(reaping.join, _LAST_LOOK_SECONDS)
        changing.dispose()
        reading.dispose()

    app = FastAPI(
        title="Planish",
        version=VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
    )
    of_api = (
        models, advice, datasets, uploads, catalog, jobs, events, reports, artifacts, webhooks,
        devices, usage,
    )  # fmt: skip
    for part in of_api:
        app.include_router(part.router, prefix=PREFIX)
    app.include_router(health.router)
    app.include_router(reference.router)
    app.include_router(dashboard.router)
    app.add_exception_handler(LogInFirst, _log_in)
    answer = problems.answering(page.problem)
    problems.install(app, answer)
    openapi.install(app)
    app.add_middleware(Guarded, settings=settings, answer=answer)
    app.add_middleware(Observed, metrics=metrics, answer=answer)
    return app


async def _log_in(_request: Request, first: Exception) -> Response:
    assert isinstance(first, LogInFirst)
    return page.see(first.location)


def serve(settings: Settings) -> None:
    """Run the gateway until SIGTERM; open requests may finish for a while."""
    logs.configure(settings.logging)
    tracing.configure(settings.tracing, "gateway")
    app = create_app(settings)
    # A full collection walks all that was imported, and no request is answered meanwhile: 0.17 s.
    gc.freeze()
    uvicorn.run(
        app,
        http=Protocol,
        host=settings.server.host,
        port=settings.server.port,
        timeout_graceful_shutdown=int(settings.server.shutdown_seconds),
        access_log=False,
        log_config=None,
        server_header=False,
    )
