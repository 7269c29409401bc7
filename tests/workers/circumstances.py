"""Run every attack in a sandbox, as whoever starts this.

``python -m tests.workers.circumstances [DEVICE]``; the device is ``cpu`` by default.

Prints the confinement in force and the outcomes as JSON.
"""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from tests.workers import attacks
from workers.sandbox.limits import Limits
from workers.sandbox.server import Sandbox

LIMITS = Limits(
    memory_bytes=2 << 30,
    cpu_seconds=None,
    file_bytes=16 << 20,
    directory_bytes=64 << 20,
    processes=64,
    wall_seconds=60,
)


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="planish-test-") as name:
        base = Path(name)
        mine, other = base / "jobs" / "mine", base / "jobs" / "other"
        mine.mkdir(parents=True)
        other.mkdir()
        secret = base / "secret"
        for path in (secret, other / "model.onnx"):
            path.write_text("secret")
        (mine / "planted").symlink_to(secret)
        abstract = base.name
        with (
            socket.socket(socket.AF_UNIX) as by_path,
            socket.socket(socket.AF_UNIX) as by_name,
            socket.create_server(("127.0.0.1", 0)) as by_port,
            Sandbox(device=[*sys.argv, "cpu"][1], preload=False) as sandbox,
        ):
            by_path.bind(str(base / "socket"))
            by_path.listen()
            by_name.bind("\0" + abstract)
            by_name.listen()
            plan = {
                "worker": os.getpid(),
                "secret": str(secret),
                "other": str(other / "model.onnx"),
                "socket": str(base / "socket"),
                "abstract": abstract,
                "port": by_port.getsockname()[1],
            }
            (mine / attacks.PLAN).write_text(json.dumps(plan))
            run = sandbox.start(mine, LIMITS, entry="tests.workers.attacks:attempt_all")
            ended = run.wait(60)
            log = (mine / "engine.log").read_text()
            if ended is None or ended.code != 0:
                raise RuntimeError(f"{ended}: {log}")
            outcomes = json.loads((mine / attacks.OUTCOMES).read_text())
            print(json.dumps({"confinement": sandbox.probe(), "outcomes": outcomes}))


if __name__ == "__main__":
    main()
