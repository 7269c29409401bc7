"""Descriptions of uploaded models by the inspection of the engine."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter

from app.domain.fault_words import Said
from app.domain.problems import ProblemDetails

ModelId = Annotated[
    str,
    Field(pattern=r"^mdl_[A-Za-z0-9_-]{1,60}$", json_schema_extra={"names": "model"}),
    Said("must be the id of a model, which begins with mdl_"),
]

UploadStatus = Literal["inspecting", "ready", "rejected"]

ModelFormat = Literal["onnx", "keras", "torchscript", "torch_export", "safetensors", "huggingface"]
"""What an upload is, by its bytes. ``safetensors`` are weights, in a ``.pt`` file as well."""

MAX_LAYERS = 20_000
"""Layers that a description lists; a graph with more is described without the rest."""

MAX_NODES = 2_000
"""Nodes of a graph that is drawn; a larger one is not."""

MAX_DISTRIBUTIONS = 200
"""Layers, the largest ones, of which a description says how their weights lie."""

MAX_UNTRAINABLE = 100
"""Nodes that a description names as in the way of training."""


_QUANTIZED = ("Quantize", "Dequantize", "DynamicQuantize", "QLinear", "QGemm", "QAttention")
_INTEGER = frozenset({"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits"})


def quantized_operators(operators: Iterable[str]) -> list[str]:
    """Return those of some operators that a graph holds only once it is quantized."""
    return [name for name in operators if name.startswith(_QUANTIZED) or name in _INTEGER]


Dtype = Literal["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
Size = Annotated[int, Field(ge=1, le=1 << 24, strict=True)]
Symbol = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Dimension = Annotated[
    Size | Symbol,
    Said(f"must be a whole number from 1 to {1 << 24}, or a name such as batch"),
]


class TensorSpec(BaseModel):
    """A graph's input or output, or one array of a dataset."""

    model_config = ConfigDict(frozen=True)

    name: str
    dtype: str
    """numpy's name, such as ``float32``."""
    shape: list[int | str]
    """A dynamic dimension is a string."""


TensorName = Annotated[
    str,
    Field(min_length=1, max_length=200, pattern=r"^[\w./:-]+$"),
    Said("must be a name of letters, digits and the signs _ . / : -"),
]


class InputHint(BaseModel):
    """What the user says of an input where the file does not tell it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: TensorName | None = None
    """None: the name in the file."""
    dtype: Dtype | None = None
    """None: that of the file, else ``float32``."""
    shape: list[Dimension] = Field(max_length=8)
    """A dynamic dimension is a name; two dimensions of one name have one size."""


InputHints = Annotated[list[InputHint], Field(min_length=1, max_length=100)]

INPUT_HINTS: TypeAdapter[list[InputHint]] = TypeAdapter(InputHints)
"""Reads the parameter ``inputs`` of an upload."""


ArchitectureName = Annotated[
    str,
    Field(pattern=r"^timm/[A-Za-z0-9_.]{1,120}$"),
    Said("must be a name such as timm/mobilenetv3_small_100"),
]
"""The name of a network that weights may belong to."""


class ModelHints(BaseModel):
    """What the user says of an upload besides its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Annotated[str, Field(max_length=200)] | None = None
    """Of a file that holds weights alone: ``timm/<name>``."""
    inputs: InputHints | None = None
    cache: bool = False
    """Of a decoder: whether the keys and values of earlier tokens are inputs and outputs."""


class Conversion(BaseModel):
    """How an upload became an ONNX graph, and how far that is from its framework's answers."""

    model_config = ConfigDict(frozen=True)

    source: str
    """The framework that read the upload, such as ``keras``."""
    version: str
    """Of that framework."""
    max_error: float
    """The largest difference between an output of the graph in onnxruntime and of the upload in
    its framework, over several inputs and sizes; divided by the output's largest value where that
    is above 1."""
    warnings: list[str] = []


class Skipped(BaseModel):
    """A node that is left as it is: a refusal is a value with its reason."""

    model_config = ConfigDict(frozen=True)

    node: str
    reason: str


SampleSizes = dict[str, int]
"""The size of one sample along each dynamic dimension of the inputs, by the dimension's name."""


def said_sizes(sizes: SampleSizes, inputs: Iterable[tuple[str, int]] = ()) -> str:
    """Return sizes in words, such as ``height = 224, width = 224``.

    Args:
        sizes: of the dimensions.
        inputs: the name of each input and the number of its dimensions: one that the file has no
            name for, which is called by its place, is said to be there.
    """
    places = {
        place_name(name, axis): f" (size {axis + 1} of {name})"
        for name, dimensions in inputs
        for axis in range(dimensions)
    }
    return ", ".join(
        f"{name} = {size}{places.get(name, '')}" for name, size in sorted(sizes.items())
    )


def place_name(tensor: str, axis: int) -> str:
    """Return what a dimension is called that the file has no name for: by its place."""
    return f"{tensor}_{axis}"


class Layer(BaseModel):
    """One node that holds weights or costs multiply-accumulates."""

    model_config = ConfigDict(frozen=True)

    name: str
    operator: str
    parameters: int = 0
    macs: int = 0
    """Multiply-accumulates for one sample."""
    kernel: list[int] = Field(default=[], max_length=8)
    """Of a convolution: its spatial sizes; empty where that was not looked at."""
    groups: int = 1
    """Of a convolution."""


class Node(BaseModel):
    """One node of the graph, as it is drawn."""

    model_config = ConfigDict(frozen=True)

    name: str
    operator: str
    reads: list[int]
    """Positions of the nodes whose outputs it reads."""


class Distribution(BaseModel):
    """How the values of a layer's weights lie: counts in equal bins from lowest to highest."""

    model_config = ConfigDict(frozen=True)

    low: FiniteFloat
    high: FiniteFloat
    counts: list[int] = Field(max_length=64)


class ModelDescription(BaseModel):
    """The engine's findings on one uploaded model."""

    model_config = ConfigDict(frozen=True)

    format: ModelFormat
    conversion: Conversion | None = None
    """Of an upload that was no ONNX graph."""
    opset: int
    """Of the default domain, as uploaded or converted."""
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    operators: dict[str, int]
    """Counts over the upload's graph, subgraphs included."""
    parameters: int
    nonzero_parameters: int
    macs: int
    sample_sizes: SampleSizes = {}
    """Of the sample that ``macs`` are counted for; empty where no dimension of it is dynamic."""
    layers: list[Layer] = Field(max_length=MAX_LAYERS)
    """Of the normal form: what steps act on, and what a plan is computed from."""
    notes: list[str] = []
    """What the user should know: passes that were undone, dimensions that were assumed."""
    trainable: bool | None = None
    """Whether the weights can be trained; null where that was not looked at."""
    untrainable: list[Skipped] = Field(default=[], max_length=MAX_UNTRAINABLE)
    """The nodes that stand in the way, and why."""
    untranslated: list[str] = Field(default=[], max_length=MAX_UNTRAINABLE)
    """The nodes that torch has nothing like: formats that are made of its programs refuse them."""
    blocks: int | None = None
    """Residual blocks, each of which could be left out; null where that was not looked at."""
    nodes: list[Node] = Field(default=[], max_length=MAX_NODES)
    """The normal form, to be drawn; empty where it is too large for that."""
    distributions: dict[str, Distribution] = Field(default={}, max_length=MAX_DISTRIBUTIONS)
    """How the weights of the largest layers lie, by the layer's name."""


class Model(BaseModel):
    """An uploaded model as clients see it; what inspection finds is null until then."""

    id: str
    name: str | None
    filename: str | None
    format: ModelFormat | None
    conversion: Conversion | None
    """How an upload of another format became the ONNX graph; null for ONNX."""
    status: UploadStatus
    problem: ProblemDetails | None = Field(default=None, exclude_if=lambda value: value is None)
    sha256: str
    size_bytes: int
    parameters: int | None
    nonzero_parameters: int | None
    macs: int | None
    sample_sizes: SampleSizes | None
    """Of the sample that 'macs' are counted for, by the name of the dynamic dimension. A job counts
    for its own samples, and its report says of which sizes they are."""
    opset: int | None
    inputs: list[TensorSpec] | None
    outputs: list[TensorSpec] | None
    operators: dict[str, int] | None
    notes: list[str] | None
    trainable: bool | None
    """Whether its weights can be trained, as ``recover`` and distillation do."""
    untrainable: list[Skipped] | None
    """The nodes that stand in the way of training, and why."""
    created_at: AwareDatetime
