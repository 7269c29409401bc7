"""Tenants that keep a disturbed service busy, and remember what it has accepted of them."""

import random
import threading
import time
import uuid
from dataclasses import dataclass, field

import httpx

from app.domain.jobs import FINISHED
from tests.e2e.service import Service, small_model
from tests.waiting import eventually

TENANTS = ("acme", "globex", "initech")
ACTIVE = 4
"""Jobs that a tenant has at one time."""
EPOCHS = (1, 15)
PATIENCE_SECONDS = 180.0
"""For what was accepted to end, once nothing is at fault any more."""


@dataclass
class Load:
    """A tenant that submits jobs, again and again under one key until it is answered."""

    name: str
    service: Service
    key: str
    chance: random.Random
    stopping: threading.Event
    model: str = ""
    accepted: dict[str, int] = field(default_factory=dict)
    """By name: the epochs of the job."""
    active: set[str] = field(default_factory=set)
    failure: BaseException | None = None

    def prepare(self) -> None:
        """Upload a model of its own and wait until it is ready."""
        seed = TENANTS.index(self.name)
        binary = {"Content-Type": "application/octet-stream"}
        made = self._ask("POST", "/v1/models", content=small_model(seed), headers=binary)
        self.model = str(made.json()["id"])
        path = f"/v1/models/{self.model}"
        eventually(lambda: self._ask("GET", path).json()["status"] == "ready", 120, "inspection")

    def run(self) -> None:
        """Submit until told to stop."""
        try:
            while not self.stopping.is_set():
                self._forget_finished()
                if len(self.active) < ACTIVE:
                    self._submit()
                time.sleep(self.chance.uniform(0.05, 0.3))
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            self.failure = error

    def _submit(self) -> None:
        name, epochs = (
            str(uuid.UUID(int=self.chance.getrandbits(128))),
            self.chance.randint(*EPOCHS),
        )
        step = {"method": "quantize", "mode": "float16", "force": True}
        body = {
            "model": self.model,
            "name": name,
            "steps": [{**step, "ignore": [f"epochs={epochs}"]}],
        }
        made = self._ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": name})
        self.accepted[name] = epochs
        self.active.add(str(made.json()["id"]))

    def _forget_finished(self) -> None:
        for job in list(self.active):
            if self._ask("GET", f"/v1/jobs/{job}").json()["status"] in FINISHED:
                self.active.remove(job)

    def _ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: object
    ) -> httpx.Response:
        """Ask until there is an answer, as a careful client does."""
        own = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = httpx.request(
                    method,
                    f"{self.service.gateway.url}{path}",
                    headers=own,
                    timeout=30,
                    trust_env=False,
                    **body,  # type: ignore[arg-type]
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.is_success:
                return answer
            busy = answer is None or answer.status_code in {409, 429, 503}
            assert busy, answer and (answer.status_code, answer.text)
            assert time.monotonic() < until, "nothing answers"
            time.sleep(0.2)
