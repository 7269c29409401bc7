"""Faults that the chaos benchmark injects into a whole service, and how each is put right again."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import redis

from app.local.server import Server
from benchmarks._network import Network
from tests.disk import filled
from tests.e2e.service import SETTINGS, Service
from tests.e2e.test_faults_stores import TERMINATE
from tests.waiting import eventually

_LEASE_SECONDS = float(SETTINGS["LEASE_SECONDS"])


@dataclass(frozen=True)
class Target:
    """What faults happen to."""

    service: Service
    workers: Mapping[str, list[Server]]
    """By queue; each is to run whenever no fault is at it."""
    disk: Path | None
    """Of the storage, if it can be filled."""
    networks: Mapping[str, Network]
    """Between the service and each of its stores, by name."""
    chance: random.Random

    def one(self, queue: str) -> Server:
        """Return any worker of a queue."""
        return self.chance.choice(self.workers[queue])

    def pause(self, longest: float) -> None:
        """Let some time pass."""
        time.sleep(self.chance.uniform(0, longest))


def kill_worker(at: Target) -> None:
    """SIGKILL: the engine dies with it, and others take the job over."""
    _killed(at, [at.one("jobs")])


def kill_light_worker(at: Target) -> None:
    """SIGKILL of who inspects, sends webhooks and collects."""
    _killed(at, [at.one("light")])


def kill_two(at: Target) -> None:
    """A worker and the light worker at one time."""
    _killed(at, [at.one("jobs"), at.one("light")])


def kill_engine(at: Target) -> None:
    """SIGKILL of an engine alone: it is started again in its directory."""
    engines = at.service.engines(at.one("jobs"))
    if engines:
        at.chance.choice(engines).kill()


def deploy_worker(at: Target) -> None:
    """SIGTERM: the job is given back, and no attempt is spent."""
    worker = at.one("jobs")
    at.service.end(worker, signal.SIGTERM)
    worker.start()


def stop_worker(at: Target) -> None:
    """SIGSTOP for longer than its lease: what it then writes is rejected."""
    worker = at.one("jobs")
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(_LEASE_SECONDS + at.chance.uniform(0, 2))
    os.kill(worker.pid, signal.SIGCONT)


def kill_gateway(at: Target) -> None:
    """SIGKILL in the middle of whatever it answers."""
    at.service.restart(at.service.gateway)


def restart_database(at: Target) -> None:
    """PostgreSQL is away for some seconds."""
    at.service.end(at.service.postgres, signal.SIGINT)
    at.pause(3)
    at.service.postgres.start()


def crash_database(at: Target) -> None:
    """PostgreSQL is killed, and recovers."""
    at.service.end(at.service.postgres, signal.SIGQUIT)
    at.service.postgres.start()


def cut_connections(at: Target) -> None:
    """Every connection to the database ends, several times."""
    for _ in range(3):
        at.service.rows(f"{TERMINATE} AND backend_type = 'client backend'")
        at.pause(0.3)


def kill_queue(at: Target) -> None:
    """Valkey is away for some seconds, and has forgotten everything."""
    at.service.end(at.service.redis)
    at.pause(4)
    at.service.redis.start()


def flush_queue(at: Target) -> None:
    """Every nudge is lost."""
    socket = at.service.redis.url.removeprefix("redis+socket://")
    with redis.Redis(unix_socket_path=socket) as client:
        client.flushall()


def fill_disk(at: Target) -> None:
    """Nothing can be stored for a while."""
    assert at.disk is not None
    with filled(at.disk):
        time.sleep(at.chance.uniform(0.5, 3))


def wrong_clock(at: Target) -> None:
    """SIGKILL of a worker, which comes back with a clock that is right, or five minutes off."""
    worker = at.one("jobs")
    at.service.end(worker)
    at.service.set_clock(worker, at.chance.choice((5, 0, -5)))
    worker.start()


def slow_network(at: Target) -> None:
    """A store answers late for a while, so that what takes a moment takes seconds."""
    network = at.networks[at.chance.choice(sorted(at.networks))]
    network.delay_seconds = at.chance.uniform(0.05, 0.5)
    time.sleep(at.chance.uniform(1, 3))
    network.delay_seconds = 0.0


def cut_network(at: Target) -> None:
    """Nothing reaches a store, and nothing says so; then what was held back arrives."""
    network = at.networks[at.chance.choice(sorted(at.networks))]
    network.is_cut = True
    time.sleep(at.chance.uniform(0.5, 2 * _LEASE_SECONDS))
    network.is_cut = False


def reset_network(at: Target) -> None:
    """Every connection to a store breaks, in the middle of what is sent."""
    at.networks[at.chance.choice(sorted(at.networks))].reset()


Fault = Callable[[Target], None]

OF_PROCESSES: tuple[Fault, ...] = (
    kill_worker,
    kill_light_worker,
    kill_two,
    kill_engine,
    deploy_worker,
    stop_worker,
    wrong_clock,
    kill_gateway,
)
OF_STORES: tuple[Fault, ...] = (
    restart_database,
    crash_database,
    cut_connections,
    kill_queue,
    flush_queue,
    fill_disk,
)
OF_NETWORKS: tuple[Fault, ...] = (slow_network, cut_network, reset_network)

GROUPS = (OF_PROCESSES, OF_STORES, OF_NETWORKS)
"""Faults of one group happen one after the other, those of different groups at the same time."""


def possible(at: Target) -> list[Fault]:
    """Return the faults that this machine allows."""
    faults = [fault for group in GROUPS for fault in group]
    return [fault for fault in faults if at.disk is not None or fault is not fill_disk]


def _killed(at: Target, victims: list[Server]) -> None:
    for victim in victims:
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
    with ExitStack() as again:
        for victim in victims:
            eventually(lambda at=victim: at.pid is None, what="a worker's end")  # type: ignore[misc]
            victim.stop()
            again.callback(victim.start)
        at.pause(3)
