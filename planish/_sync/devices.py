# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""``client.devices``: boards that time files, and what their agents call."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from planish._requests import id_of
from planish._sync.download import download
from planish._sync.http import Transport
from planish.types import (
    Claimed,
    Comparison,
    Device,
    Measurement,
    RegisteredDevice,
    Task,
    TimedFile,
)

_Answer = TypeVar("_Answer", bound=BaseModel)


class Devices:
    """The registered devices; called, it yields them."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def __call__(self) -> Iterator[Device]:
        """Yield all of them, newest first."""
        return self.list()

    def list(self) -> Iterator[Device]:
        """Yield all of them, newest first."""
        for item in self._http.items("/v1/devices"):
            yield Device.model_validate(item)

    def get(self, device: Device | str) -> Device:
        """Return one."""
        return self._http.get(f"/v1/devices/{id_of(device)}", Device)

    def delete(self, device: Device | str) -> None:
        """Forget a device; what it has measured stays."""
        self._http.request("DELETE", f"/v1/devices/{id_of(device)}")

    def register(
        self, name: str, *, runtime: str, machine: str, threads: int, formats: Sequence[str]
    ) -> RegisteredDevice:
        """Register the device on which this runs; an earlier agent of that name ends.

        Args:
            name: which jobs have as ``target``.
            runtime: what files are timed on, with its version.
            machine: the processor and the system, in words.
            threads: how many the runtime computes with.
            formats: of the files that can be timed, such as ``onnx``.
        """
        body = {
            "name": name,
            "runtime": runtime,
            "machine": machine,
            "threads": threads,
            "formats": [*formats],
        }
        return self._http.post("/v1/devices", RegisteredDevice, body)

    def claim(self, device: RegisteredDevice) -> Task | None:
        """Return what the device is to time next; None where nothing waits.

        Raises:
            Forbidden: another agent has registered under the device's name.
        """
        path = f"/v1/devices/{device.id}/measurements/claim"
        return (self._post(device, path, Claimed)).task

    def renew(self, device: RegisteredDevice, task: Task) -> Measurement:
        """Say that a task is still worked on.

        Raises:
            Conflict: it was given out again, or has ended.
        """
        path = f"/v1/devices/{device.id}/measurements/{task.id}/renew"
        body = {"token": task.token}
        return self._post(device, path, Measurement, body)

    def report(
        self,
        device: RegisteredDevice,
        task: Task,
        latency: Comparison | None,
        problem: str | None = None,
    ) -> Measurement:
        """Report what was measured of a task, or the ``problem`` that there was.

        Raises:
            Conflict: it was given out again, or has ended.
        """
        path = f"/v1/devices/{device.id}/measurements/{task.id}/report"
        body = {
            "token": task.token,
            "sha256": task.candidate.sha256,
            "latency": latency.model_dump() if latency else None,
            "problem": problem,
        }
        return self._post(device, path, Measurement, body)

    def download(self, file: TimedFile, to: str | Path) -> Path:
        """Download a file of a task; ``to`` is then whole and verified, or not there.

        Raises:
            CorruptDownload: its SHA-256 is not the announced one.
        """
        return download(self._http, file.href, to, sha256=file.sha256)

    def _post(
        self,
        device: RegisteredDevice,
        path: str,
        kind: type[_Answer],
        body: Mapping[str, Any] | None = None,
    ) -> _Answer:
        """POST as the agent of a device, signed with its token."""
        headers = {"Planish-Device-Token": device.token, "Idempotency-Key": str(uuid.uuid4())}
        response = self._http.request("POST", path, json=body, headers=headers)
        return kind.model_validate_json(response.content)
