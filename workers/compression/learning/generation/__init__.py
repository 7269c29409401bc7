"""Samples that are made from the model itself, for jobs that have no data.

Three ways, the best that the model allows:

- ``declared``: what the graph says of its inputs (``samples/declared.py``), and nothing more;
- ``pixels``: numbers that are trained until the model's inner values are as with real data;
- ``network``: a generator that is trained against the model, where steps train on the samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from app.domain.directory import GENERATED, MADE_ORIGIN, MADE_SAMPLES, MODEL, ORIGINAL
from app.domain.generated import Effort
from app.domain.reports import Generated
from workers.compression import faults
from workers.compression.executor import build
from workers.compression.files import write_whole
from workers.compression.graph.load import load
from workers.compression.graph.pieces import open_graph
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.functions import inline_functions
from workers.compression.graph.rewrites.identity import remove_identities
from workers.compression.graph.rewrites.inputs import detach_initializers
from workers.compression.learning.feed import feed_for
from workers.compression.learning.generation import making, objective
from workers.compression.learning.generation.making import Teacher
from workers.compression.learning.generation.moments import Moments, moments_of
from workers.compression.learning.plan import Minutes
from workers.compression.measure import synthetic
from workers.compression.measure.quality import judged_output
from workers.compression.progress import Advance
from workers.compression.samples import declared
from workers.compression.samples.context import Context, Samples
from workers.compression.samples.declared import Declared, Floats

_MOST_BYTES = 256 << 20
_LEAST_SAMPLES = 16

_LATE = "Time ran out before they were finished. "
_ALIKE = "They are not real data: figures on them may be better or worse than on yours."


@dataclass(frozen=True)
class Made:
    """Samples, and how they were made."""

    samples: Samples
    generated: Generated


def are_made(directory: Path) -> bool:
    """Return whether a job directory has its samples."""
    return (directory / GENERATED / MADE_ORIGIN).exists()


def made_once(directory: Path, context: Context, advance: Advance, effort: Effort) -> Made:
    """Return the samples of a job directory; they are made where they are not there yet.

    Args:
        directory: the job's, with the model as uploaded and in normal form.
        context: as in ``make``.
        advance: receives the fraction done.
        effort: as in ``make``.
    """
    folder = directory / GENERATED
    arrays, origin = folder / MADE_SAMPLES, folder / MADE_ORIGIN
    if are_made(directory):
        found = Generated.model_validate_json(origin.read_bytes())
        with np.load(arrays) as stored:
            samples = {name: stored[name] for name in stored.files}
        layout = synthetic.draw(directory / ORIGINAL, context.seed).layout
        return Made(Samples(samples, None, range(found.samples), layout, made=True), found)
    made = make(directory / ORIGINAL, directory / MODEL, context, advance, effort)
    folder.mkdir(exist_ok=True)
    np.savez(arrays, allow_pickle=False, **made.samples.arrays)
    write_whole(origin, made.generated.model_dump_json())  # last: then the samples are there
    return made


def make(original: Path, normal: Path, context: Context, advance: Advance, effort: Effort) -> Made:
    """Make samples of a model's inputs.

    Args:
        original: the model as uploaded.
        normal: its normal form.
        context: seed, threads, device, clock, the output that is judged.
        advance: receives the fraction done.
        effort: how much is done.

    Raises:
        DatasetMismatch: the model accepts none of the inputs that were tried.
    """
    torch.set_num_threads(context.threads)
    minutes = Minutes(effort.minutes, context.clock)
    uploaded = load(original)
    for rewrite in (inline_functions, detach_initializers, lift_constants, remove_identities):
        rewrite(uploaded)
    known = declared.declared(uploaded)
    few = synthetic.draw(original, context.seed, _LEAST_SAMPLES)
    count = _affordable(few, effort.samples)
    drawn = few if count == len(few) else synthetic.draw(original, context.seed, count)
    samples = replace(_accepted(original, drawn, known, context.seed), made=True)
    teacher, why_not = _teacher(uploaded, load(normal), samples, known, context)
    if teacher is None:
        note = f"{_of_inputs(known)} {why_not} {_ALIKE}"
        return Made(samples, Generated(way="declared", samples=len(samples), note=note))
    way = making.by_network if effort.way == "network" else making.by_pixels
    arrays = way(teacher, effort.steps, minutes, context.seed, advance)
    made = min(len(array) for array in arrays.values())
    merged = {
        name: arrays[name].astype(array.dtype) if name in arrays else array[:made]
        for name, array in samples.arrays.items()
    }
    late = _LATE if minutes.left <= 0 else ""
    note = f"{_MADE[effort.way]} {_of_moments(teacher.objective.moments)} {late}{_ALIKE}"
    generated = Generated(way=effort.way, samples=made, note=note)
    return Made(replace(samples, arrays=merged, indices=range(made)), generated)


_MADE = {
    "pixels": "Each sample's numbers were trained until the model's inner values fitted.",
    "network": "A network was trained against the model to make them.",
}


def _affordable(few: Samples, count: int) -> int:
    """Return how many samples fit into memory, at most ``count``."""
    nbytes = sum(array.nbytes for array in few.arrays.values()) / max(len(few), 1)
    return int(np.clip(_MOST_BYTES / max(nbytes, 1), len(few), count))


def _accepted(original: Path, drawn: Samples, known: Mapping[str, Declared], seed: int) -> Samples:
    """Return samples of declared values; where the model does not accept them, drawn ones."""
    run = open_graph(original, len(load(original).graph))
    floats = {name: each for name, each in known.items() if isinstance(each, Floats)}
    for trusted in (known, floats):
        arrays = declared.arrays(trusted, drawn.arrays, seed)
        if trusted is floats:
            arrays = {n: a if n in floats else drawn.arrays[n] for n, a in arrays.items()}
        samples = replace(drawn, arrays=arrays)
        try:
            outputs = run(samples.first_run(), None)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001, S112 (each runtime has classes of its own)
            continue
        if all(_finite(value) for value in outputs.values()):
            return samples
    return drawn


def _finite(value: Any) -> bool:
    whole = not isinstance(value, np.ndarray) or value.dtype.kind != "f"
    return whole or bool(np.isfinite(value).all())


def _teacher(
    uploaded: ir.Model,
    normal: ir.Model,
    samples: Samples,
    known: Mapping[str, Declared],
    context: Context,
) -> tuple[Teacher | None, str]:
    """Return the model as what samples are trained against, or why they cannot be."""
    made = {
        name: each
        for name, each in known.items()
        if isinstance(each, Floats)
        and samples.arrays[name].dtype.kind == "f"
        and samples.layout.inputs.get(name, 0) is not None
        and samples.arrays[name].ndim > 1
    }
    if not made:
        return None, "No input holds numbers that could be trained."
    moments = moments_of(uploaded, normal)
    try:
        return _asked(normal, samples, made, moments, context)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever an operator does not take)
        faults.log(error)
        return None, "The model cannot be run with gradients, so samples could not be trained."


def _asked(
    normal: ir.Model,
    samples: Samples,
    made: Mapping[str, Floats],
    moments: Moments,
    context: Context,
) -> tuple[Teacher | None, str]:
    """Build the teacher and ask it once.

    Raises:
        Exception: the model cannot be run in torch.
    """
    outputs = [str(value.name) for value in normal.graph.outputs]
    executor = build(normal, outputs=list(dict.fromkeys([*outputs, *moments.expected])))
    plain = build(normal).to(context.device)
    feed = feed_for(plain, samples.take(samples.indices[:_LEAST_SAMPLES]), context.device)
    example = feed.batch(list(samples.indices[:2])[: feed.size])
    with torch.no_grad():
        first = feed.outputs(plain, example)
    scores = objective.scores_of(first, judged_output(normal, context.evaluate))
    aim = objective.Objective(
        moments.to(context.device), scores, objective.are_probabilities(first, scores)
    )
    if not moments.expected and scores is None:
        return None, "The model has neither statistics of normalisation nor class scores."
    executor.to(context.device).requires_grad_(requires_grad=False)
    teacher = Teacher(executor, replace(feed, samples=samples), made, aim)
    return (teacher, "") if teacher.can_be_asked() else (None, _NO_GRADIENT)


_NO_GRADIENT = "No gradient reaches the model's inputs, so samples could not be trained."


def _of_inputs(known: Mapping[str, Declared]) -> str:
    """Return in words what the graph says of its inputs."""
    said = [name for name, each in known.items() if not isinstance(each, Floats) or each.known]
    if not said:
        return "Samples are smooth noise: the graph says nothing of its inputs' values."
    return f"Samples are drawn as the graph declares its inputs ({', '.join(said[:10])})."


def _of_moments(moments: Moments) -> str:
    """Return in words what samples were fitted to."""
    if moments.known:
        return f"They fit the statistics of {len(moments.expected)} normalisations."
    if moments.expected:
        return (
            "The exporter has folded the normalisations away, so their statistics are unknown:"
            " export the model with them to get better samples."
        )
    return "The model has no normalisation whose statistics they could fit."
