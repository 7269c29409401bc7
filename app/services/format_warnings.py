"""What formats do not keep of a model, or cannot do, as far as descriptions tell."""

from collections.abc import Iterator

from app.domain.jobs import JobRequest
from app.domain.layer_forms import IN_WORDS, LAYER_FORMS, held_by_all, not_holding
from app.domain.models import ModelDescription
from app.domain.steps.quantize import Quantize
from app.domain.targets import EXPORTED, FIXED, OutputFormat

_BY_VALUE = frozenset({"Loop", "Scan", "NonZero", "NonMaxSuppression", "Unique", "Compress"})
"""Operators whose shapes depend on values, which an exported program does not hold."""
_LACKED: dict[OutputFormat, frozenset[str]] = {
    "openvino": frozenset({"Det"}),
    "litert": frozenset({"Det", "TopK"}),
    "executorch": frozenset({"Det"}),
    "coreml": frozenset(
        {"Acosh", "Asinh", "Celu", "Det", "GRU", "Hardmax", "IsInf", "LRN", "LSTM", "RNN",
         "ReduceProd"}
    ),
    "litert_micro": frozenset(
        {"Acos", "Asin", "Asinh", "Atan", "DepthToSpace", "Det", "Erf", "GatherElements", "Gelu",
         "GridSample", "Hardmax", "IsInf", "IsNaN", "LRN", "OneHot", "ReduceProd",
         "ReverseSequence", "ScatterElements", "ScatterND", "Sign", "SpaceToDepth", "Tile", "TopK"}
    ),
}  # fmt: skip
"""Operators that a format's converter or kernels refused when each was tried alone."""
_NO_SPACE: frozenset[OutputFormat] = frozenset({"litert_micro", "executorch"})
"""Formats without a kernel for convolutions in three dimensions."""


def warnings(request: JobRequest, model: ModelDescription | None) -> Iterator[str]:
    """Yield what a user should know of the formats before the job runs."""
    yield from _few_bits(request)
    yield from _forms(request)
    yield from _micro(request)
    if model is not None:
        yield from _dynamic(request, model)
        yield from _operators(request, model)


def _dynamic(request: JobRequest, model: ModelDescription) -> Iterator[str]:
    dynamic = [
        f"'{tensor.name}' {list(tensor.shape)}"
        for tensor in model.inputs
        if any(isinstance(size, str) for size in tensor.shape)
    ]
    fixed = [name for name in request.deliver if name in FIXED]
    if dynamic and fixed:
        yield (
            f"The shapes of {_named(fixed)} are fixed to those of one sample of the data; dynamic"
            f" are {', '.join(dynamic[:5])}. 'onnx' and 'openvino' keep them dynamic."
        )


def _few_bits(request: JobRequest) -> Iterator[str]:
    exported = [name for name in request.deliver if name in EXPORTED]
    for index, step in enumerate(request.steps or ()):
        if exported and isinstance(step, Quantize) and step.weights in ("int2", "int3", "int4"):
            yield (
                f"Step {index + 1} stores weights in fewer than 8 bits; in {_named(exported)} each"
                " takes 8."
            )


def _forms(request: JobRequest) -> Iterator[str]:
    """Say what a step that chooses what layers become leaves out, and for which format."""
    held = held_by_all(request.deliver)
    lacking = [form for form in LAYER_FORMS if form not in held]
    formats = _named([name for name in request.deliver if held_by_all([name]) != {*LAYER_FORMS}])
    for index, step in enumerate(request.steps or ()):
        if not (step.chooses_forms and lacking):
            continue
        words = "; ".join(IN_WORDS[form] for form in lacking)
        yield (
            f"Step {index + 1} leaves out what {formats} cannot hold: {words}. It chooses among all"
            " where 'onnx' alone is delivered."
        )
        if "stored" in lacking and request.samples is None:
            floats = _named(not_holding("stored", request.deliver))
            yield (
                f"Without a dataset step {index + 1} only stores weights in few bits, for which"
                f" there are floats in {floats}: name a dataset."
            )


def _micro(request: JobRequest) -> Iterator[str]:
    steps = request.steps
    if "litert_micro" not in request.deliver or steps is None:
        return
    if not any(isinstance(step, Quantize) and step.mode in {"static", "qat"} for step in steps):
        yield (
            "No step quantizes activations, so 'litert_micro' computes in float, which most"
            " microcontrollers do slowly: add a step 'quantize' with mode 'static' or 'qat'."
        )


def _operators(request: JobRequest, model: ModelDescription) -> Iterator[str]:
    exported = [name for name in request.deliver if name in EXPORTED]
    if exported and (by_value := sorted(_BY_VALUE & set(model.operators))):
        yield (
            f"The shapes of {', '.join(by_value)} depend on values, so that {_named(exported)} may"
            " be impossible to write: the job then fails with 'delivery-failed' and keeps its other"
            " files, such as 'onnx'."
        )
    if exported and model.untranslated:
        yield (
            f"{_named(exported)} are made of torch's programs, and torch has nothing like"
            f" {', '.join(model.untranslated[:3])}: they may be impossible to write, and the job"
            " then fails with 'delivery-failed' and keeps its other files, such as 'onnx'."
        )
    yield from _kernels(request, model)


def _kernels(request: JobRequest, model: ModelDescription) -> Iterator[str]:
    """Name the operators that a format has no kernel for."""
    in_space = any(layer.operator == "Conv" and len(layer.kernel) == 3 for layer in model.layers)
    for name in request.deliver:
        lacked = sorted(_LACKED.get(name, frozenset()) & set(model.operators))
        lacked += ["Conv in three dimensions"] * (in_space and name in _NO_SPACE)
        if lacked:
            taken = "'litert' may take it" if name == "litert_micro" else "'onnx' takes all"
            yield (
                f"'{name}' has nothing for {', '.join(lacked)} as it is exported here, so that the"
                f" job may fail with 'delivery-failed' and keep its other files: {taken}."
            )


def _named(formats: list[OutputFormat]) -> str:
    return ", ".join(f"'{name}'" for name in formats)
