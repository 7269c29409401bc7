"""Mutated real models never hurt more than the process that reads them, within its limits."""

import gc
import os
import random
import resource
import signal
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import rapidocr
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from app.domain.directory import InspectModel
from app.domain.problems import Problem
from tests.workers.apart import apart
from tests.workers.intake.models import branch, convnet, mlp
from workers.compression.intake.inspect import inspect_model
from workers.compression.intake.limits import ModelLimits
from workers.compression.intake.reading import read_model

SEED = 20_26
MUTATIONS = 2_000
BATCH = 200
MEMORY = 6 << 30
"""Address space of a child."""
SECONDS = 10
"""Of computing, for one mutation."""
WAITED = 120
"""Seconds of time, for one mutation: none waits for anything, however busy the machine is."""
WHOLE = 2
"""One small mutation in so many also goes through trials, passes and statistics."""

NUMBERS = [0, 1, -1, 2, 7, 63, 255, 2**31 - 1, -(2**31), 2**32, 2**62, -(2**63), 2**63 - 1]
Mutate = Callable[[bytes, random.Random], bytes]


def flip_bits(data: bytes, dice: random.Random) -> bytes:
    bent = bytearray(data)
    for _ in range(dice.choice([1, 2, 8, 64])):
        bent[dice.randrange(len(bent))] ^= 1 << dice.randrange(8)
    return bytes(bent)


def truncate(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


def splice(data: bytes, dice: random.Random) -> bytes:
    start, end = sorted(dice.randrange(len(data)) for _ in range(2))
    at = dice.randrange(len(data))
    return data[:at] + data[start : min(end, start + 4096)] + data[at:]


def bend_fields(data: bytes, dice: random.Random) -> bytes:
    """Give some fields of the parsed model hostile values; the encoding stays sound."""
    proto = onnx.ModelProto.FromString(data)
    fields = list(_scalars(proto))
    for _ in range(dice.choice([1, 1, 2, 5])):
        _bend(*dice.choice(fields), dice)
    return bytes(proto.SerializeToString())


def _scalars(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    for field, held in message.ListFields():
        if field.message_type is None:
            yield message, field
            continue
        for child in [held] if isinstance(held, Message) else held:
            yield from _scalars(child)


def _bend(message: Message, field: FieldDescriptor, dice: random.Random) -> None:
    held = getattr(message, field.name)
    repeated = not isinstance(held, int | float | str | bytes)
    if dice.random() < 0.1:
        message.ClearField(field.name)
    elif repeated and (not held or dice.random() < 0.3):
        held.extend(list(held)[:1000])
    elif repeated:
        held[dice.randrange(len(held))] = _other(held[0], dice)
    else:
        setattr(message, field.name, _other(held, dice))


def _other(value: object, dice: random.Random) -> object:
    if isinstance(value, str):
        return dice.choice(["", "x", "y", "a" * 5000, value + "'", "com.microsoft", "Loop", "../x"])
    if isinstance(value, bytes):
        return dice.choice([b"", value[:-1], value + b"\0", bytes(1), os.urandom(8)])
    if isinstance(value, float):
        return dice.choice([0.0, -1.0, float("nan"), float("inf"), 1e38])
    return dice.choice(NUMBERS[:9])


MUTATORS: list[Mutate] = [flip_bits, truncate, splice, *[bend_fields] * 5]


def seeds() -> list[bytes]:
    models = Path(rapidocr.__file__).parent / "models"
    real = next(models.glob("*cls*.onnx"))
    return [proto.SerializeToString() for proto in (mlp(), convnet(), branch())] + [
        real.read_bytes()
    ]


def attempt(number: int, originals: list[bytes], directory: Path) -> None:
    """Read mutation ``number``; anything but a Problem is an error of ours."""
    dice = random.Random(SEED + number)
    original = originals[number % len(originals) if number % 20 < 12 else number % 3]
    try:
        data = dice.choice(MUTATORS)(original, dice)
    except (ValueError, TypeError, struct.error):
        return  # a value that protobuf itself does not take
    upload = directory / "upload"
    upload.write_bytes(data)
    try:
        if number % WHOLE == 0 and len(data) < 1 << 16:
            inspect_model(upload, directory)
        else:
            read_model(upload, directory / "original.onnx", ModelLimits(), InspectModel())
    except Problem:
        return


def run_child(first: int, last: int, originals: list[bytes], progress: int) -> None:
    """Read a batch under limits, telling the parent the number of each before it begins."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as directory:
        for number in range(first, last):
            os.write(progress, struct.pack("<I", number))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the default action of both kills
            signal.setitimer(signal.ITIMER_REAL, WAITED)
            attempt(number, originals, Path(directory))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def fork_batch(first: int, last: int, originals: list[bytes], errors: Path) -> tuple[int, int]:
    """Return how a child ended (0, 1, or a negative signal) and the last number that it began."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            run_child(first, last, originals, writer)
            code = 0
        except BaseException:  # noqa: BLE001 (the child must not go on with the parent's tests)
            import traceback

            errors.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        numbers = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), struct.unpack("<I", numbers[-4:])[0]


def crashes_of(mutations: int, errors: Path) -> Counter[int]:
    """Read all mutations; return how often a child ended by each signal.

    This forks, and is to be called in a process without threads.
    """
    gc.freeze()  # children neither look through what is imported nor copy it
    originals, number = seeds(), 0
    crashes: Counter[int] = Counter()
    while number < mutations:
        last = min(number + BATCH, mutations)
        code, reached = fork_batch(number, last, originals, errors)
        assert code <= 0, f"mutation {reached}: {errors.read_text()}"
        if code < 0:
            crashes[-code] += 1
            number = reached + 1
        else:
            number = last
    return crashes


@pytest.mark.timeout(900)
def test_mutated_models_are_read_or_refused_within_limits(tmp_path: Path) -> None:
    crashes = apart(crashes_of, MUTATIONS, tmp_path / "errors")
    assert crashes[signal.SIGPROF] == 0, "a mutation computed longer than it may"
    assert crashes[signal.SIGALRM] == 0, "a mutation waits, and for nothing"
    assert sum(crashes.values()) < MUTATIONS // 100, crashes
