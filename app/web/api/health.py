"""``/healthz``, ``/readyz``, ``/metrics``: for those who run the service."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app import nudge
from app.domain.problems import Problem, Unavailable
from app.store import schema, workers
from app.web.gateway import Gateway, gateway_of
from app.web.problems import documented

router = APIRouter(tags=["operations"])

_DISPENSABLE = frozenset({"broker", "workers"})
"""Without these, requests are served and jobs wait."""


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Check(BaseModel):
    """One thing that the service stands on."""

    ok: bool
    detail: str | None = None


class SeenWorker(BaseModel):
    """A worker that was seen in the last minute."""

    id: str
    queue: str
    device: str
    confinement: dict[str, Any] | None
    unable: str | None
    """Why it takes no jobs; it tries again by itself."""
    claimed_at: datetime | None


class Readiness(BaseModel):
    """Whether requests can be served; without broker or workers they can, jobs start later."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Check]
    workers: list[SeenWorker]


@router.get("/healthz")
async def healthz() -> Alive:
    """Say that the process answers."""
    return Alive()


@router.get("/readyz", responses=documented(Unavailable))
def readyz(request: Request) -> Readiness:
    """Check database, schema, storage, broker and workers; show who works and how confined.

    Raises:
        Unavailable: With the checks, if the database or the storage does not answer.
    """
    gateway = gateway_of(request)
    seen: list[SeenWorker] = []
    checks = {
        "database": _check(lambda: seen.extend(_workers(gateway))),
        "migrations": _check(lambda: _require_schema(gateway)),
        "storage": _check(gateway.blobs.check),
        "broker": _check(lambda: nudge.ping(gateway.settings)),
    }
    checks["workers"] = _all_able(seen)
    failed = [name for name, check in checks.items() if not check.ok and name not in _DISPENSABLE]
    if failed:
        raise Unavailable(
            f"Not ready: {', '.join(failed)}.",
            headers={"Retry-After": "5"},
            checks={name: check.model_dump() for name, check in checks.items()},
        )
    return Readiness(checks=checks, workers=seen)


@router.get("/metrics", response_class=Response, responses=documented(Unavailable))
def metrics(request: Request) -> Response:
    """Figures for Prometheus: requests, jobs by state, queue age, step durations, webhooks."""
    gateway = gateway_of(request)
    with gateway.sessions() as session:
        body = gateway.metrics.render(session)
    return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")


def _check(attempt: Callable[[], Any]) -> Check:
    try:
        attempt()
    except Problem as problem:
        return Check(ok=False, detail=problem.detail)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is not ready)
        return Check(ok=False, detail=type(error).__name__)
    return Check(ok=True)


def _all_able(seen: list[SeenWorker]) -> Check:
    """Say whether there are workers, and all of them can do jobs."""
    if not seen:
        return Check(ok=False, detail="no worker was seen in the last minute")
    unable = [
        f"{worker.queue} on {worker.device}: {worker.unable}" for worker in seen if worker.unable
    ]
    return Check(ok=not unable, detail="; ".join(unable) or None)


def _workers(gateway: Gateway) -> list[SeenWorker]:
    with gateway.sessions() as session:
        return [
            SeenWorker(
                id=row.id,
                queue=row.queue,
                device=row.device,
                confinement=row.confinement,
                unable=row.unable,
                claimed_at=row.claimed_at,
            )
            for row in workers.alive(session)
        ]


def _require_schema(gateway: Gateway) -> None:
    with gateway.sessions() as session:
        schema.require(session)
