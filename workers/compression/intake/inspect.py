"""Inspects uploaded models: checks them, describes them, and writes their graphs."""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from app.domain.directory import MODEL, ORIGINAL, InspectModel
from app.domain.models import MAX_LAYERS, Layer, ModelDescription, TensorSpec, said_sizes
from workers.compression.graph import residual, shapes, stats
from workers.compression.graph.chance import why_untried
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.equivalence import Trial
from workers.compression.graph.load import load, store
from workers.compression.graph.pieces import Run, open_graph
from workers.compression.graph.rewrites import Applied, Undone, normalize
from workers.compression.graph.rewrites.float32 import compute_in_float32
from workers.compression.graph.rewrites.inputs import defaults_taken, inputs_with_default
from workers.compression.graph.trials import trials_of
from workers.compression.intake import portrait
from workers.compression.intake.limits import ModelLimits
from workers.compression.intake.reading import Accepted, read_model
from workers.compression.learning import trainable
from workers.compression.samples import axis
from workers.compression.samples.drawn import find_layout
from workers.compression.samples.layout import Layout

_PATIENCE = 10.0
"""The time limit, in seconds, of a run that finds the layout of samples."""

_OTHER_FLOATS = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


def inspect_model(
    upload: Path,
    directory: Path,
    limits: ModelLimits | None = None,
    order: InspectModel | None = None,
) -> ModelDescription:
    """Check an uploaded model and bring it to the normal form.

    Args:
        upload: the uploaded bytes, of any name.
        directory: the directory for ``original.onnx`` (the upload, self-contained) and
            ``model.onnx`` (its normal form).
        limits: what the upload may hold.
        order: the hints of the user, and whether code of the upload may run.

    Raises:
        InvalidModel: the upload is refused; the message says why and what to upload instead.
        NotAvailable: the format runs code, and this machine cannot confine it.
    """
    original, notes = directory / ORIGINAL, list[str]()
    with _collection_paused():
        accepted = read_model(upload, original, limits or ModelLimits(), order or InspectModel())
        trials, findings = _examine(original)
        gc.collect()
        if trials:
            normal, passes = normalize(original, trials)
            notes += [f"{p.name} was undone: {p.reason}." for p in passes if isinstance(p, Undone)]
            notes += _precision(findings.types, passes)
        else:
            normal = load(original)
            notes.append(f"{why_untried(normal)} It is used as uploaded, without simplification.")
        notes += defaults_taken(findings.with_default, normal)
        store(normal, directory / MODEL)
        return _describe(accepted, findings, normal, trials[:1], notes)


def _precision(types: set[ir.DataType], passes: list[Applied | Undone]) -> list[str]:
    """Return a note on a graph that computes in another type than float32."""
    changed = {p.name: p.changes for p in passes if isinstance(p, Applied)}
    if not changed.get(compute_in_float32.__name__):
        return []
    other_types = types & _OTHER_FLOATS
    names = " and ".join(sorted(str(dtype.numpy()) for dtype in other_types))
    narrow = ir.DataType.DOUBLE not in other_types
    storage = " Its weights stay stored as they are." if narrow else ""
    return [f"Steps compute in float32 what the model computes in {names or 'float16'}.{storage}"]


@contextlib.contextmanager
def _collection_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector, which would traverse millions of live objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class _Findings:
    """The findings on the upload that its description needs; the graph itself is released."""

    inputs: list[TensorSpec]
    operators: dict[str, int]
    sizes: dict[str, int]
    """The sizes of dynamic dimensions in the run whose multiply-accumulates are counted."""
    samples: int
    """The number of samples of that run."""
    sample_sizes: dict[str, int]
    """Those sizes that do not count samples."""
    figures: stats.Stats
    types: set[ir.DataType]
    """The types of the constants."""
    with_default: list[str]
    """The inputs that a run may leave out."""


def _examine(original: Path) -> tuple[list[Trial], _Findings]:
    model = load(original)
    trials, layout = _trials(open_graph(original, len(model.graph)), model)
    counting = axis.sample_dimensions(model, layout)
    sizes = dict(trials[0].sizes) if trials else dict.fromkeys(counting, 1)
    figures = stats.measure(model, sizes, trials[0].feeds if trials else None, layout.size)
    return trials, _Findings(
        inputs=[spec(value) for value in shapes.inputs_of(model)],
        operators=stats.operators(model),
        sizes=sizes,
        samples=layout.size,
        sample_sizes=axis.sizes_of_one(model, layout, sizes),
        figures=replace(figures, layers=[]),
        types={
            value.dtype
            for graph in model.graphs()
            for value in graph.initializers.values()
            if value.dtype is not None
        },
        with_default=inputs_with_default(model),
    )


def _trials(run: Run, model: ir.Model) -> tuple[list[Trial], Layout]:
    """Return inputs that a model runs on, and the layout of samples in them."""
    trials = trials_of(run, model)
    if not trials:
        return [], Layout()
    layout = find_layout(model, lambda feeds: run(feeds, _PATIENCE), trials[0])
    names = axis.sample_dimensions(model, layout)
    if names != shapes.batch_names(model):
        trials = trials_of(run, model, counting=names) or trials
    return trials, layout


def _describe(
    accepted: Accepted,
    findings: _Findings,
    normal: ir.Model,
    trials: list[Trial],
    notes: list[str],
) -> ModelDescription:
    if findings.sample_sizes:
        sizes = said_sizes(findings.sample_sizes)
        notes.append(f"Multiply–accumulates (MACs) are those of one sample with {sizes}.")
    notes += stats.notes_on_macs(len(findings.figures.unknown), findings.figures.uncounted)
    name_nodes(normal)
    in_torch = trainable.examine(normal)
    feeds = trials[0].feeds if trials else None
    listed = stats.measure(normal, findings.sizes, feeds, findings.samples).layers[:MAX_LAYERS]
    layers = [
        Layer(
            name=layer.name,
            operator=layer.operator,
            parameters=layer.parameters,
            macs=layer.macs,
            kernel=list(layer.kernel[:8]),
            groups=max(layer.groups, 1),
        )
        for layer in listed
    ]
    return ModelDescription(
        format=accepted.format,
        conversion=accepted.conversion,
        opset=accepted.opset,
        inputs=findings.inputs,
        outputs=[spec(value) for value in normal.graph.outputs],
        operators=findings.operators,
        parameters=findings.figures.parameters,
        nonzero_parameters=findings.figures.nonzero_parameters,
        macs=findings.figures.macs,
        sample_sizes=findings.sample_sizes,
        layers=layers,
        notes=notes,
        trainable=not in_torch.obstacles,
        untrainable=in_torch.obstacles,
        untranslated=in_torch.untranslated,
        blocks=len(residual.blocks(normal)),
        nodes=portrait.nodes(normal),
        distributions=portrait.distributions(normal, layers),
    )


def spec(value: ir.Value) -> TensorSpec:
    """Describe an input or output; numpy's dtype, names for dynamic dimensions."""
    names = shapes.dimension_names(value)
    sizes = value.shape if value.shape is not None else ()
    return TensorSpec(
        name=str(value.name),
        dtype=_numpy_name(value.dtype),
        shape=[
            size if isinstance(size, int) else name for size, name in zip(sizes, names, strict=True)
        ],
    )


def _numpy_name(dtype: ir.DataType | None) -> str:
    if dtype is None:
        return "unknown"
    return "str" if dtype == ir.DataType.STRING else str(dtype.numpy())
