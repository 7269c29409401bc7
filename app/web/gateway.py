"""What every request may reach, opened once a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from app.blobs import Blobs
from app.presigned import Presigned
from app.settings import Settings
from app.store.session import Sessions
from app.web.at_once import AtOnce
from app.web.metrics import Metrics
from app.web.rates import Rates
from app.web.watch import Watch


@dataclass(frozen=True)
class Gateway:
    """The stores, and what is shared among requests."""

    settings: Settings
    sessions: Sessions
    reads: Engine
    """For what is read most: each statement by itself, and no session around it."""
    blobs: Blobs
    presigned: Presigned | None
    """The storage as clients reach it; None where all bytes come to the gateway."""
    watch: Watch
    metrics: Metrics
    rates: Rates
    arrivals: AtOnce
    streams: AtOnce


@dataclass(frozen=True)
class Call:
    """A request that may go on: whose it is, and what it may reach."""

    tenant: str
    gateway: Gateway

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Commit what the block did, or roll all of it back."""
        with self.gateway.sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Look things up; nothing is changed."""
        with self.gateway.reads.connect() as connection:
            yield connection


def gateway_of(connection: HTTPConnection) -> Gateway:
    """Return the gateway that this request came to."""
    gateway: Gateway = connection.app.state.gateway
    return gateway
