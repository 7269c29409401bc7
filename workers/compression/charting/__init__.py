"""The chart of a model's sensitivity: what each layer loses and saves in each form, alone.

The rows are the nodes that hold weights, the columns the forms of ``app/domain/sensitivity.py``.
Each form is written by the method that a job would use, one layer at a time, and the whole graph
runs on samples that training may see. Layers with more work and weights come first; where the time
is used up, the cells of the others stay empty.
"""

import time
from collections.abc import Callable
from pathlib import Path

from app.domain.directory import MODEL, Compress, MeasureSensitivity, Result
from app.domain.problems import InvalidDataset, InvalidModel
from app.domain.sensitivity import FORMS, Form, Kind, Saved, Sensitivity
from workers.compression import inputs
from workers.compression.charting.bits import Bits
from workers.compression.charting.changes import Change, Changes, Refused
from workers.compression.charting.channels import Channels
from workers.compression.charting.costs import Cost, Costs
from workers.compression.charting.ranks import Ranks
from workers.compression.charting.subject import Subject, subject_of
from workers.compression.events import Events
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load
from workers.compression.known_times import KnownTimes
from workers.compression.measure import machine
from workers.compression.samples.context import Context
from workers.compression.targets import onnx as target

_SECONDS = 900.0
"""The time that a chart may take where its job has more."""

_LATE = "The time of the job was used up by larger layers."

_NOTES = [
    "Each form is measured alone: what several layers lose together may be more or less.",
    "Channels are cut, and ranks lowered, without fitting or training what is left.",
    "Times are of layers by themselves; a layer in int8 converts its values at both ends.",
]

_GENERATED = "Costs were measured on samples that are made from the model, not on real data."

_Cell = tuple[Cost, Saved] | Refused


def chart(directory: Path, order: MeasureSensitivity, events: Events) -> Result:
    """Measure a model's sensitivity, and return the result with the times of layers.

    Args:
        directory: the job's directory.
        order: the seed and the limits.
        events: receives the progress.

    Raises:
        InvalidDataset: there are no samples.
        InvalidModel: no layer holds weights.
        Problem: the model or the dataset cannot be used.
    """
    start = time.monotonic()
    begin = inputs.are_there_at(order.data)
    events.pace_from(begin)
    subject = _subject(directory, order, events)
    seconds = min(_SECONDS, order.seconds or _SECONDS)
    change = _changes(subject)
    costs = Costs(subject)
    rows: list[list[_Cell]] = [[] for _ in subject.layers]
    advance = events.span(begin, 0.98, "measuring layers one by one")
    order_of_rows = sorted(range(len(rows)), key=lambda row: -subject.weight_of(row))
    for done, row in enumerate(order_of_rows):
        name = subject.layers[row].name
        for form in FORMS:
            late = time.monotonic() - start > seconds
            rows[row].append(Refused(_LATE) if late else _measured(change(form, name), costs))
        advance((done + 1) / len(rows))
    events.progress(1.0, "storing the result")
    known = subject.context.known_times
    measured = Sensitivity(
        layers=subject.layers,
        forms=[*FORMS],
        cost=[[None if isinstance(c, Refused) else c[0].lost for c in row] for row in rows],
        answers=[[None if isinstance(c, Refused) else c[0].changed for c in row] for row in rows]
        if costs.answers_tell
        else None,
        saved=[[None if isinstance(c, Refused) else c[1] for c in row] for row in rows],
        reasons=[[c.reason if isinstance(c, Refused) else None for c in row] for row in rows],
        samples=costs.samples,
        seed=order.seed,
        seconds=round(time.monotonic() - start, 1),
        threads=subject.context.threads,
        runtime=f"onnxruntime {target.VERSION}, {target.PROVIDER}",
        machine=machine.machine(subject.context.device),
        versions=machine.versions(),
        notes=[
            *_NOTES,
            *([] if order.data is None else [_GENERATED]),
            *subject.notes,
            *known.note(),
        ],
    )
    return Result(sensitivity=measured, layer_times=known.handed_on)


def _subject(directory: Path, order: MeasureSensitivity, events: Events) -> Subject:
    as_job = Compress(
        steps=[], seed=order.seed, data=order.data, images=order.images, threads=order.threads
    )
    job_inputs = inputs.read(directory, as_job, events)
    train = job_inputs.train
    if not train:
        raise InvalidDataset("Sensitivity is measured on samples, and there are none.")
    model = load(directory / MODEL)
    name_nodes(model)
    context = Context(
        train=train,
        seed=order.seed,
        threads=job_inputs.evaluation_set.threads,
        example=train.first_run(),
        layout=train.layout,
        original=directory / MODEL,
        device=machine.compute_device(),
        known_times=KnownTimes(order.layer_times),
    )
    events.progress(0.05, "looking at the layers")
    subject = subject_of(model, context)
    if not subject.layers:
        raise InvalidModel("The model has no layer with weights: there is nothing to measure.")
    return subject


def _changes(subject: Subject) -> Callable[[Form, str], Change | Refused]:
    """Return the function that gives a layer, by its name, a form."""
    kinds: dict[Kind, Changes] = {
        "bits": Bits(subject),
        "channels": Channels(subject),
        "rank": Ranks(subject),
    }
    return lambda form, name: kinds[form.kind].change(form, name)


def _measured(change: Change | Refused, costs: Costs) -> _Cell:
    """Run the graph of a change, and return what it costs and saves."""
    if isinstance(change, Refused):
        return change
    cost = costs.of(change.model, change.key)
    return cost if isinstance(cost, Refused) else (cost, change.saved)
