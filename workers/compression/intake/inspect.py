"""Upload in, description and graph out: the entry of everything that users send."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from app.domain.directory import MODEL, ORIGINAL
from app.domain.models import MAX_LAYERS, Layer, ModelDescription, TensorSpec
from workers.compression.graph import equivalence, shapes, stats
from workers.compression.graph.load import load, store
from workers.compression.graph.rewrites import Applied, Undone, normalize
from workers.compression.graph.rewrites.float32 import compute_in_float32
from workers.compression.intake.formats import read_model
from workers.compression.intake.limits import ModelLimits
from workers.compression.learning import trainable

_OTHER_FLOATS = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


def inspect_model(
    upload: Path, directory: Path, limits: ModelLimits | None = None
) -> ModelDescription:
    """Check an uploaded model and bring it to the normal form.

    Args:
        upload: the uploaded bytes, of any name.
        directory: where ``original.onnx`` (the upload, self-contained) and ``model.onnx`` (its
            normal form) are written.
        limits: what the upload may hold.

    Raises:
        InvalidModel: with what is wrong and what to upload instead.
    """
    original = directory / ORIGINAL
    with collection_paused():
        accepted = read_model(upload, original, limits or ModelLimits())
        model = load(original)
        trials = equivalence.trials_of(accepted.run, model)
        return _to_normal_form(accepted.opset, model, trials, directory)


def _to_normal_form(
    opset: int, model: ir.Model, trials: list[equivalence.Trial], directory: Path
) -> ModelDescription:
    notes = []
    normal = model
    if trials:
        normal, passes = normalize(model, trials)
        notes += [f"{p.name} was undone: {p.reason}." for p in passes if isinstance(p, Undone)]
        notes += _precision(model, passes)
    else:
        notes.append(
            "The model accepted none of the random inputs that were tried, or answers differently"
            " each time; it is used as uploaded, without simplification."
        )
    store(normal, directory / MODEL)
    return _describe(opset, model, normal, trials[:1], notes)


def _precision(model: ir.Model, passes: list[Applied | Undone]) -> list[str]:
    """Say that a graph computes in another type than float32, and what becomes of that."""
    changed = {p.name: p.changes for p in passes if isinstance(p, Applied)}
    if not changed.get(compute_in_float32.__name__):
        return []
    values = (v for graph in model.graphs() for v in graph.initializers.values())
    others = {v.dtype for v in values} & _OTHER_FLOATS
    names = " and ".join(sorted(str(dtype.numpy()) for dtype in others if dtype is not None))
    narrow = ir.DataType.DOUBLE not in others
    kept = " Its weights stay stored as they are." if narrow else ""
    return [f"Steps compute in float32 what the model computes in {names or 'float16'}.{kept}"]


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Do not look for garbage in cycles: of millions of living objects, again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _describe(
    opset: int,
    model: ir.Model,
    normal: ir.Model,
    trials: list[equivalence.Trial],
    notes: list[str],
) -> ModelDescription:
    batches = shapes.batch_names(model)
    sizes = dict(trials[0].sizes) if trials else dict.fromkeys(batches, 1)
    feeds = trials[0].feeds if trials else None
    figures = stats.measure(model, sizes, feeds)
    assumed = {name: size for name, size in sizes.items() if name not in batches}
    if assumed:
        given = ", ".join(f"{name} = {size}" for name, size in assumed.items())
        notes.append(f"MACs are for one sample with {given}.")
    if figures.unknown:
        notes.append(f"MACs of {len(figures.unknown)} nodes are unknown and not counted.")
    obstacles = trainable.obstacles(normal)
    listed = stats.measure(normal, sizes, feeds).layers[:MAX_LAYERS]
    return ModelDescription(
        format="onnx",
        opset=opset,
        inputs=[spec(value) for value in shapes.inputs_of(model)],
        outputs=[spec(value) for value in normal.graph.outputs],
        operators=stats.operators(model),
        parameters=figures.parameters,
        nonzero_parameters=figures.nonzero_parameters,
        macs=figures.macs,
        layers=[
            Layer(
                name=each.name, operator=each.operator, parameters=each.parameters, macs=each.macs
            )
            for each in listed
        ],
        notes=notes,
        trainable=not obstacles,
        untrainable=obstacles,
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
