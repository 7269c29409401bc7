"""An engine whose pace and fate a test chooses, job by job, by words in a step's ``ignore`` list.

``epochs=N`` works N times a tenth of a second, with a checkpoint after each; ``die=N`` kills the
process in its first N starts; ``hoard``, ``fill`` and ``garble`` misbehave. What it makes depends
on model, seed and epochs alone, and has ``copies=N`` times 32 bytes. Everything but a job with such
words is left to the real engine.
"""

import ctypes
import hashlib
import time
from pathlib import Path

from pydantic import TypeAdapter

from app.domain.directory import (
    ARTIFACTS,
    CHECKPOINT,
    EVENTS,
    GRAPH,
    MODEL,
    ORDER,
    REPORT,
    RESULT,
    Compress,
    FinishedStep,
    Order,
    Produced,
    Result,
    step_directory,
)
from app.domain.events import Progress, StepFinished
from app.domain.reports import Evaluation, Machine, Manifest, Measures, Report, StepReport
from app.domain.steps import AnyStep
from workers.compression.__main__ import main as real

EPOCH_SECONDS = 0.1
COPIES = 64

_MEASURES = Measures(
    size_bytes=1,
    parameters=1,
    nonzero_parameters=1,
    macs=1,
    latency_ms=None,
    quality=None,
    fidelity=None,
)


def main(directory: Path) -> int:
    order = TypeAdapter(Order).validate_json((directory / ORDER).read_bytes())
    if not isinstance(order, Compress) or not order.steps or not _words(order.steps[0]):
        return real(directory)
    digest = b""
    for index, step in enumerate(order.steps):
        digest = _step(directory, order, index, step)
    artifact = directory / ARTIFACTS / "model.onnx"
    artifact.parent.mkdir(exist_ok=True)
    artifact.write_bytes(_artifact(digest, int(_words(order.steps[0]).get("copies", COPIES))))
    report = _report(order, directory)
    result = Result(report=report, artifacts=[Produced(format="onnx", path="model.onnx")])
    part = directory / "result.part"
    part.write_text(result.model_dump_json())
    part.replace(directory / RESULT)
    return 0


def expected(model: bytes, steps: list[int], seed: int = 0, copies: int = COPIES) -> bytes:
    """Return the artifact of an undisturbed run; ``steps`` are its epochs."""
    digest = b""
    for index, epochs in enumerate(steps):
        digest = _start(model, seed, index)
        for _ in range(epochs):
            digest = hashlib.sha256(digest).digest()
    return _artifact(digest, copies)


def _artifact(digest: bytes, copies: int) -> bytes:
    """Return other bytes than the last step's, so that both have to be stored."""
    return digest[::-1] * copies


def _words(step: AnyStep) -> dict[str, str]:
    return {
        name: value
        for name, _, value in (word.partition("=") for word in getattr(step, "ignore", ()))
    }


def _start(model: bytes, seed: int, index: int) -> bytes:
    return hashlib.sha256(model + bytes([seed, index])).digest()


def _step(directory: Path, order: Compress, index: int, step: AnyStep) -> bytes:
    own = step_directory(directory, index, step.method)
    own.mkdir(parents=True, exist_ok=True)
    graph, checkpoint = own / GRAPH, own / CHECKPOINT
    if (own / REPORT).exists():
        return graph.read_bytes()[:32]
    words = _words(step)
    _tell(directory, Progress(progress=index / len(order.steps), stage=f"step {index}"))
    _misbehave(directory, own, words)
    done, digest = 0, _start((directory / MODEL).read_bytes(), order.seed, index)
    if checkpoint.exists():
        kept = checkpoint.read_bytes()
        done, digest = int.from_bytes(kept[:4]), kept[4:]
    epochs = int(words.get("epochs", "1"))
    for epoch in range(done, epochs):
        time.sleep(EPOCH_SECONDS)
        digest = hashlib.sha256(digest).digest()
        _whole(checkpoint, (epoch + 1).to_bytes(4) + digest)
        fraction = (index + (epoch + 1) / epochs) / len(order.steps)
        _tell(directory, Progress(progress=fraction, stage=f"step {index}, epoch {epoch + 1}"))
    graph.write_bytes(digest * int(words.get("copies", COPIES)))
    finished = FinishedStep(seconds=0, layers=[], skipped=[])
    _whole(own / REPORT, finished.model_dump_json().encode())
    _tell(directory, StepFinished(index=index))
    return digest


def _misbehave(directory: Path, own: Path, words: dict[str, str]) -> None:
    starts = own / "starts"
    started = int(starts.read_text()) if starts.exists() else 0
    starts.write_text(str(started + 1))
    if started < int(words.get("die", "0")):
        print("about to die in /some/private/place", flush=True)
        ctypes.string_at(0)
    if "hoard" in words:
        hoard = []
        while True:
            hoard.append(b"\1" * (1 << 20))
    if "fill" in words:
        with (directory / "fill").open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
    if "spin" in words:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    if "garble" in words:
        with (directory / EVENTS).open("ab") as file:
            file.write(b'{"kind": "log", "message": "\\u0000"}\n{"kind":\n' + b"x" * 100_000)
            file.write(b'\n{"kind": "metric", "step": 0, "name": "loss", "value": NaN}\n')


def _tell(directory: Path, event: Progress | StepFinished) -> None:
    with (directory / EVENTS).open("a") as file:
        file.write(event.model_dump_json() + "\n")


def _whole(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def _step_report(index: int) -> StepReport:
    return StepReport(
        index=index,
        method="quantize",
        parameters={},
        seconds=0,
        before=_MEASURES,
        after=_MEASURES,
        layers=[],
        skipped=[],
    )


def _report(order: Compress, directory: Path) -> Report:
    machine = Machine(
        system="", processor="", cores=1, memory_bytes=1, instruction_sets=[], device="cpu"
    )
    return Report(
        baseline=_MEASURES,
        compressed=_MEASURES,
        step_reports=[_step_report(index) for index in range(len(order.steps))],
        evaluation=Evaluation(
            metric=None, split="synthetic", indices=[], threads=1, runtime="", latency=None
        ),
        verdict="done",
        manifest=Manifest(
            model_sha256=order.model_sha256 or "",
            dataset_sha256=None,
            steps=[],
            evaluate={},
            require={},
            deliver=[],
            seed=order.seed,
            versions={},
            machine=machine,
            artifacts={},
        ),
    )
