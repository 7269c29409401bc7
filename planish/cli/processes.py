"""The processes of a deployment: one gateway, one worker a device, one for light work."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.local.server import Server
    from app.settings import Settings


def gateway(host: str, port: int, env: Mapping[str, str]) -> "Server":
    """Return the gateway; it has started when it answers ``/healthz``.

    Args:
        host: address to listen on.
        port: port to listen on.
        env: its whole environment, with the other settings.
    """
    import httpx

    from app.local.server import Server

    url = reachable_url(host, port)
    env = {**env, "SERVER_HOST": host, "SERVER_PORT": str(port)}

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    return Server(
        name="gateway", argv=[sys.executable, "-m", "app"], env=env, url=url, answers=answers
    )


def workers(settings: "Settings", env: Mapping[str, str]) -> Iterator["Server"]:
    """Yield the worker processes of this machine."""
    from app.local.server import Server

    celery = [sys.executable, "-m", "workers.celery"]
    at_hand = settings.worker.devices or devices()
    env = {**env, "WORKER_DEVICES": json.dumps(at_hand)}  # they share the processors
    yield Server(name="light worker", argv=[*celery, "--queue", "light"], env=env)
    for device in at_hand:
        argv = [*celery, "--queue", "jobs", "--device", device]
        yield Server(name=f"worker on {device}", argv=argv, env=env)


def devices() -> list[str]:
    """Return every CUDA device of this machine, else one ``cpu``."""
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return ["cpu"]
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = min(count, len(visible.split(","))) if visible else count
    return [f"cuda:{index}" for index in range(count)] or ["cpu"]


def reachable_url(host: str, port: int) -> str:
    """Return how a program on this machine reaches a gateway that listens on ``host``."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (compared, not bound)
    return f"http://{anywhere.get(host, f'[{host}]' if ':' in host else host)}:{port}"
