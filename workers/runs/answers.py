"""Reads what the engine wrote, which may be crafted by an attacker.

The engine process runs uploads, so its directory may hold anything: links, pipes, endless lines,
deep JSON, numbers that a database refuses. Files are opened one path component at a time without
following links, must be regular and within bounds, and are copied before they are used.
"""

import math
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.domain.directory import (
    EVENTS,
    GENERATED,
    LOG,
    MADE_ORIGIN,
    REPORT,
    RESULT,
    FinishedStep,
    Result,
    step_directory,
)
from app.domain.events import EngineEvent, Progress
from app.domain.problems import Failed, InternalError, NotAvailable, Problem, ProblemDetails, kinds
from app.domain.reports import Generated
from workers.sandbox.directories import Place

Model = TypeVar("Model", bound=BaseModel)

MAX_JSON_BYTES = 64 * 1024**2
MAX_LINE_BYTES = 16 * 1024
MAX_ORIGIN_BYTES = 16 * 1024
"""Of the report on made samples: a few sentences, which are stored with the job."""
MAX_READ_BYTES = 256 * 1024
"""The most bytes of events that are read at a time."""
MAX_DETAIL = 4000
_LAST_WORDS = 4000
_TAIL_BYTES = 8192
_BLOCK_BYTES = 4 * 1024**2
_PATHS = re.compile(r"(?:/[\w.@+-]+){2,}/?")
_PROBLEMS: dict[str, type[Problem]] = {kind.type: kind for kind in kinds(Failed)}
_PROBLEMS |= {kind.type: kind for kind in (InternalError, NotAvailable)}
_EVENT: TypeAdapter[EngineEvent] = TypeAdapter(EngineEvent)

log = structlog.get_logger(__name__)


class Unreadable(Exception):  # noqa: N818 (it says what it is)
    """A file is missing, not a regular file, too large, or malformed."""


def regular(root: Path, relative: PurePosixPath) -> BinaryIO:
    """Open a regular file below ``root`` without following any link.

    Raises:
        Unreadable: there is no such file, or it is not a regular file.
    """
    parts = relative.parts
    if not parts or relative.is_absolute() or ".." in parts:
        raise Unreadable(f"{relative} is not below the directory")
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.fdopen(os.open(parts[-1], flags, dir_fd=directory), "rb")
    except (OSError, ValueError) as error:
        raise Unreadable(f"{relative} cannot be read") from error
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Unreadable(f"{relative} is not a regular file")
    return file


def copy_of(place: Place, relative: PurePosixPath, limit: int) -> Path:
    """Copy a file of the engine to the worker's spool, where the engine cannot change it.

    Raises:
        Unreadable: it is not a regular file of at most ``limit`` bytes.
    """
    copy = place.spool / uuid.uuid4().hex
    with regular(place.engine, relative) as source:
        size = os.fstat(source.fileno()).st_size
        if size > limit:
            raise Unreadable(f"{relative} is larger than {limit} bytes")
        with copy.open("xb") as target:
            while size and (data := source.read(min(size, _BLOCK_BYTES))):
                size -= target.write(data)
    return copy


def result(place: Place) -> Result | None:
    """Return the result of the engine, or None if there is none in the agreed form."""
    try:
        answer = _document(place.engine, PurePosixPath(RESULT), Result)
    except Unreadable as error:
        log.warning("no usable result", error=str(error))
        return None
    if answer.problem is not None:
        answer = answer.model_copy(update={"problem": _problem(answer.problem)})
    return answer


def finished_step(place: Place, index: int, method: str) -> FinishedStep:
    """Return the report of a finished step.

    Raises:
        Unreadable: the step is not finished, or its report is malformed.
    """
    return _document(place.engine, step_file(index, method, REPORT), FinishedStep)


def generated(place: Place) -> Generated:
    """Return how the samples that the engine has made from the model were made.

    Raises:
        Unreadable: there are none, or the report on them is malformed or too long.
    """
    return _document(place.engine, samples_file(MADE_ORIGIN), Generated, MAX_ORIGIN_BYTES)


def samples_file(name: str) -> PurePosixPath:
    """Return the path of a file of made samples, relative to the engine's directory."""
    return PurePosixPath(GENERATED, name)


def step_file(index: int, method: str, name: str) -> PurePosixPath:
    """Return the path of a file of a step, relative to the engine's directory."""
    return PurePosixPath(step_directory(Path(), index, method) / name)


def last_words(place: Place) -> str:
    """Return the end of the engine's log as one line, for the worker's log: it names files."""
    lines = (line.decode(errors="replace").strip() for line in _tail(place, LOG))
    return _printable(" | ".join(line for line in lines if line))[-_LAST_WORDS:]


def stage(place: Place) -> str:
    """Return the last stage that the engine reported; empty if it reported none."""
    events = (_event(line) for line in reversed(_tail(place, EVENTS)))
    words = next((event.stage for event in events if isinstance(event, Progress)), "")
    return _PATHS.sub("…", _printable(words))


def _tail(place: Place, name: str) -> list[bytes]:
    """Return the last lines of a file that the engine appends to; none if it is missing."""
    try:
        with regular(place.engine, PurePosixPath(name)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).split(b"\n")
    except Unreadable:
        return []
    return lines[1:] if size > _TAIL_BYTES else lines


def _printable(words: str) -> str:
    return "".join(letter for letter in words if letter.isprintable())


class EventReader:
    """Reads the events that the engine appends to its file."""

    def __init__(self, place: Place) -> None:
        self._root = place.engine
        self._offset = 0
        self._rest = b""

    def new(self) -> Iterator[EngineEvent]:
        """Yield the events that the engine has written since the last call.

        A call reads at most `MAX_READ_BYTES`, the next one goes on from there. A malformed line is
        logged and skipped.
        """
        try:
            with regular(self._root, PurePosixPath(EVENTS)) as file:
                file.seek(self._offset)
                data = file.read(MAX_READ_BYTES)
        except Unreadable:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            # The rest of an overlong line is read as a malformed event.
            self._rest = self._rest[:1]
            log.warning("an event is too long")
        for line in lines:
            event = _event(line)
            if event is not None:
                yield event


def _event(line: bytes) -> EngineEvent | None:
    if not line.strip():
        return None
    if len(line) > MAX_LINE_BYTES:
        log.warning("an event is too long")
        return None
    try:
        event = _EVENT.validate_json(_storable(line))
    except ValidationError as error:
        log.warning("not an event", errors=error.error_count())
        return None
    return event if _finite(event.model_dump()) else None


def _document(
    root: Path, relative: PurePosixPath, kind: type[Model], most_bytes: int = MAX_JSON_BYTES
) -> Model:
    with regular(root, relative) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise Unreadable(f"{relative} is larger than {most_bytes} bytes")
    try:
        document = kind.model_validate_json(_storable(data))
    except ValidationError as error:
        raise Unreadable(f"{relative} has {error.error_count()} faults") from error
    if not _finite(document.model_dump()):
        raise Unreadable(f"{relative} has numbers that are not finite")
    return document


def _problem(reported: ProblemDetails) -> ProblemDetails:
    """Return a problem of a kind that the engine may report, with its text cut to bounds."""
    kind = _PROBLEMS.get(reported.type, Failed)
    bounded = reported.model_copy(update={"detail": reported.detail[:MAX_DETAIL]})
    extra = dict(reported.model_extra or {}) if len(str(reported.model_extra)) <= MAX_DETAIL else {}
    return kind(bounded.detail, errors=reported.errors, **extra).details()


def _storable(data: bytes) -> bytes:
    """Replace characters that a text column cannot hold."""
    return data.replace(rb"\u0000", rb"\ufffd")


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return True
