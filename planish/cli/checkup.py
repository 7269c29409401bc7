"""The single checks of ``planish doctor``; none raises for what it is there to find."""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from planish.cli import processes

if TYPE_CHECKING:
    from app.settings import Database, Settings

_GIB = 1024**3
_LITTLE_DISK = 10 * _GIB
_NO_DISK = 1 * _GIB

_READERS = {
    "ONNX": ("onnx", "onnxruntime"),
    "NumPy archives": ("numpy",),
    "Parquet": ("pyarrow",),
    "images": ("pillow",),
}
"""What each upload format is read with."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def variables() -> Check:
    """Look for variables that are meant as settings and are none."""
    from app.misspelt import unknown

    if found := unknown(os.environ):
        return Check("settings", "warn", f"ignored: {found}", "correct the names that are ours")
    return Check("settings", "ok", "no variable looks like one and is none")


def database(settings: "Database") -> Check:
    """Look whether PostgreSQL answers, and whether its tables are those of this version."""
    from sqlalchemy import inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    import migrations
    from app.store.session import connect

    engine = connect(settings)
    try:
        with engine.connect() as connection:
            version = connection.scalar(text("SHOW server_version"))
            migrated = inspect(connection).has_table("alembic_version")
            revision = (
                connection.scalar(text("SELECT version_num FROM alembic_version"))
                if migrated
                else None
            )
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return Check("database", "fail", reason, "check DATABASE_URL, and that the server runs")
    finally:
        engine.dispose()
    found = f"PostgreSQL {version}, tables {revision or 'not made yet'}"
    if revision != migrations.head():
        advice = "run `planish migrate`; `planish serve` does it for a private database"
        return Check("database", "warn", found, advice)
    return Check("database", "ok", found)


def workers(settings: "Database") -> Check:
    """Look which workers announced themselves lately."""
    from sqlalchemy.exc import SQLAlchemyError

    from app.store.session import connect, sessions, transaction
    from app.store.workers import alive

    engine = connect(settings)
    try:
        with transaction(sessions(engine)) as session:
            rows = alive(session)
            seen = [f"{row.queue} on {row.device} ({row.hostname})" for row in rows]
            unable = [f"{row.queue} on {row.device}: {row.unable}" for row in rows if row.unable]
    except SQLAlchemyError:
        seen, unable = [], []
    finally:
        engine.dispose()
    if not seen:
        advice = "`planish serve` or `planish worker` starts them; jobs wait meanwhile"
        return Check("workers", "warn", "none running", advice)
    if unable:
        return Check("workers", "fail", "; ".join(unable), "they take no jobs; see `engine` there")
    return Check("workers", "ok", ", ".join(seen))


def broker(url: str) -> Check:
    """Look whether the queue answers."""
    from kombu import Connection
    from kombu.exceptions import OperationalError

    try:
        with Connection(url, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, timeout=3, reraise_as_library_errors=True)
            found = f"answers ({connection.transport.driver_type})"
    except (OperationalError, OSError) as error:
        return Check("broker", "fail", str(error), "check BROKER_URL, and that the server runs")
    return Check("broker", "ok", found)


def storage(url: str) -> Check:
    """Look whether the storage can be listed."""
    from obstore.exceptions import BaseError

    from app.blobs import Blobs
    from app.domain.problems import Problem

    bare = url.partition("?")[0]
    try:
        Blobs.open(url).check()
    except Problem as problem:
        cause = problem.__cause__ or problem
        return Check("storage", "fail", f"{bare}: {cause}", "check STORAGE_URL and credentials")
    except (BaseError, ValueError) as error:
        found = f"{bare}: {str(error).splitlines()[0]}"
        return Check("storage", "fail", found, "use s3://, gs://, az:// or file://")
    return Check("storage", "ok", bare)


def devices(settings: "Settings") -> Check:
    """Say where jobs will run."""
    slots = settings.worker.devices or processes.devices()
    return Check("devices", "ok", f"{', '.join(slots)}; {os.cpu_count()} cores")


def memory(settings: "Settings") -> Check:
    """Compare what a run may use with what the machine has."""
    import psutil

    total = psutil.virtual_memory().total
    allowed = settings.engine.memory_bytes
    found = f"{total / _GIB:.1f} GiB; a run may use {allowed / _GIB:.1f} GiB"
    if allowed > total:
        return Check("memory", "warn", found, f"set ENGINE_MEMORY_BYTES below {total}")
    return Check("memory", "ok", found)


def confinement(settings: "Settings") -> Check:
    """Start an engine process and look what really confines it."""
    from app.domain.workers import Confinement
    from workers.sandbox.server import Sandbox, SandboxError

    try:
        with Sandbox(preload=False) as sandbox:
            state = Confinement.model_validate(sandbox.probe())
    except SandboxError as error:
        return Check("confinement", "fail", str(error), "the engine process cannot be started")
    parts = {
        "user namespace": state.user_namespace,
        "network namespace": state.network_namespace,
        "process namespace": state.pid_namespace,
        f"Landlock {state.landlock_abi}": state.landlock_abi > 0,
        "seccomp": state.seccomp,
    }
    found = f"{state.mode}: "
    found += ", ".join(name for name, there in parts.items() if there) or "nothing"
    found += "; memory is watched"
    absent = ", ".join(name for name, there in parts.items() if not there)
    if not (state.landlock_abi and state.seccomp):
        status: Literal["warn", "fail"] = "fail" if settings.engine.require_confinement else "warn"
        advice = f"no {absent}: use a kernel with Landlock (5.13) and seccomp, or, for uploads you"
        return Check(
            "confinement", status, found, f"{advice} trust, ENGINE_REQUIRE_CONFINEMENT=false"
        )
    return Check("confinement", "warn" if absent else "ok", found, absent and f"no {absent} here")


def engine(settings: "Settings") -> Check:
    """Do a whole small job, as a worker does when it starts."""
    import time

    from workers import trial
    from workers.sandbox import directories
    from workers.sandbox.server import ENTRY, SandboxError
    from workers.worker import Sandboxes, threads

    if any(importlib.util.find_spec(name) is None for name in ("torch", "onnxruntime")):
        return Check("engine", "warn", "not installed here", "workers need planish[worker]")
    sandboxes = Sandboxes(settings, "cpu")
    parent = directories.base(settings.worker.directory)
    try:
        with directories.process_directory(parent) as directory, sandboxes.lend() as sandbox:
            sandbox.probe()  # it imports the engine's libraries, which workers do once
            began = time.monotonic()
            lacking = trial.shortcoming(
                sandbox, directory, settings.engine, entry=ENTRY, threads=threads(settings)
            )
            took = time.monotonic() - began
    except SandboxError as error:
        lacking = str(error)
    finally:
        sandboxes.close()
    if lacking is not None:
        return Check("engine", "fail", lacking, "no job can come to its end on this machine")
    return Check("engine", "ok", f"a whole small job took {took:.1f} s")


def formats() -> Iterator[Check]:
    """Look which upload formats can be read."""
    for name, packages in _READERS.items():
        try:
            versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
        except importlib.metadata.PackageNotFoundError as error:
            yield Check(name, "fail", f"{error.name} is not installed", "install planish[worker]")
        else:
            yield Check(name, "ok", ", ".join(versions))


def disk(directory: Path | None) -> Check:
    """Look how much room job directories have."""
    place = directory or Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free
    found = f"{free / _GIB:.1f} GiB free in {place}"
    if free < _LITTLE_DISK:
        status: Literal["warn", "fail"] = "fail" if free < _NO_DISK else "warn"
        return Check("disk", status, found, "make room, or set WORKER_DIRECTORY")
    return Check("disk", "ok", found)
