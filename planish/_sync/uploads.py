# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""Files on their way to the service, and the inspection that follows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from planish._answers import given
from planish._requests import id_of
from planish._sync import io, resumable
from planish._sync.http import FilePart, Transport
from planish.errors import Rejected
from planish.types import Dataset, Model

_Upload = TypeVar("_Upload", Model, Dataset)

LARGE_BYTES = 32 * 1024**2
"""Files from this size on are sent so that an upload which breaks off goes on."""
_LOOK_S = 0.1
_LONGEST_LOOK_S = 2.0


class Uploads(Generic[_Upload]):
    """What models and datasets have in common."""

    def __init__(self, http: Transport, path: str, kind: type[_Upload]) -> None:
        self._http = http
        self._path = path
        self._kind: type[_Upload] = kind

    def __call__(self) -> Iterator[_Upload]:
        """Yield all of them, newest first."""
        return self.list()

    def list(self) -> Iterator[_Upload]:
        """Yield all of them, newest first."""
        for item in self._http.items(self._path):
            yield self._kind.model_validate(item)

    def get(self, upload: _Upload | str) -> _Upload:
        """Return one, as it is now."""
        return self._http.get(f"{self._path}/{id_of(upload)}", self._kind)

    def delete(self, upload: _Upload | str) -> None:
        """Delete one that no queued or running job uses; jobs and their artifacts stay.

        Raises:
            Conflict: a job uses it.
        """
        self._http.request("DELETE", f"{self._path}/{id_of(upload)}")

    def wait(self, upload: _Upload | str) -> _Upload:
        """Return it once its inspection is over.

        Raises:
            Rejected: it cannot be used.
        """
        pause = _LOOK_S
        now = self.get(upload) if isinstance(upload, str) else upload
        while now.status == "inspecting":
            io.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK_S)
            now = self._http.look(f"{self._path}/{now.id}", self._kind)
        if now.problem is not None:
            raise Rejected(now.problem, now.id)
        return now

    def _refer(self, *, wait: bool, **body: Any) -> _Upload:
        made = self._http.post(self._path, self._kind, given(body))
        return self.wait(made) if wait else made

    def _send(self, file: Path, *, wait: bool, **params: str | None) -> _Upload:
        part = FilePart.whole(file)
        query = {"filename": file.name, **params}
        if part.end < LARGE_BYTES:
            made = self._http.post_file(self._path, self._kind, part, **query)
        else:
            upload = resumable.send(self._http, part)
            made = self._http.post(self._path, self._kind, body=None, upload_id=upload, **query)
        return self.wait(made) if wait else made
