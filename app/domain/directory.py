"""A job is a directory: the one interface between a worker and the engine.

    job.json         an Order: what to do (the only file besides inputs that must be there)
    upload           the uploaded bytes (inspections, and jobs run by hand)
    original.onnx    the model as uploaded, self-contained
    model.onnx       the model in normal form: what steps read
    models/<id>.onnx other models that steps name, in normal form
    metric.onnx      the metric's graph as uploaded, where ``evaluate.metric`` names a model
    source           the uploaded bytes of the model whose layers the result has, where
                     ``source`` is delivered
    dataset          the uploaded dataset's bytes
    data/*.npy       its arrays, fitted to the model's inputs; made by the engine
    generated/{samples.npz,origin.json}   samples that the engine made from the model, where the
                     order asks for them, and a Generated
    evaluate-dataset, evaluate-data/*.npy   likewise the dataset that the result is judged on,
                     where ``evaluate.dataset`` names one
    steps/01-quantize/{graph.onnx,report.json,checkpoint/*.npz}
    steps/01-quantize/delivered.onnx   the step's graph as users get it
    steps/01-quantize/prices.npz   the price list of the graph that the step was given: the worker
                     puts an earlier job's there, and the engine writes what it has measured
    delivery/litert/{task.json,model.pt2,inputs/*.npy}   for a tool: a ToolTask, the graph as an
                     exported torch program, and what each run reads
    delivery/litert/{answer.json,outputs/*.npy}   by the tool: a ToolAnswer, and what each run gave
    delivery/web/runtime/*   files of a tool that go into the artifact
    artifacts/       what the user downloads
    events.jsonl     one EngineEvent a line, appended
    engine.log       what the engine's processes print
    result.json      a Result, written last and atomically

A step whose ``report.json`` (a FinishedStep) is there is finished and is not done again.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.datasets import DatasetDescription, ImageOptions
from app.domain.generated import GeneratedData
from app.domain.jobs import Evaluate
from app.domain.layer_times import MillisecondsByForm
from app.domain.models import ModelDescription, ModelHints
from app.domain.problems import ProblemDetails
from app.domain.reports import ArtifactFigures, Choice, LayerChange, LayerPrice, Report
from app.domain.request_parts import Require
from app.domain.sensitivity import Sensitivity
from app.domain.steps import AnyStep, Skipped
from app.domain.targets import TOOL_NAMES, OutputFormat, ToolName
from app.domain.workers import Capabilities

ORDER = "job.json"
UPLOAD = "upload"
ORIGINAL = "original.onnx"
MODEL = "model.onnx"
MODELS = "models"
METRIC = "metric.onnx"
SOURCE = "source"
DATASET = "dataset"
DATA = "data"
GENERATED = "generated"
EVALUATE_DATASET = "evaluate-dataset"
EVALUATE_DATA = "evaluate-data"
STEPS = "steps"
DELIVERY = "delivery"
ARTIFACTS = "artifacts"
EVENTS = "events.jsonl"
LOG = "engine.log"
RESULT = "result.json"

MADE_SAMPLES, MADE_ORIGIN = "samples.npz", "origin.json"
"""In ``generated``: the arrays, and a Generated that says how they were made."""
GRAPH = "graph.onnx"
"""In a step's directory: what it made."""
TIDIED = "tidied.onnx"
"""The graph that steps begin with, as users would get it."""
DELIVERED = "delivered.onnx"
"""In a step's directory: its graph without what only steps read."""
TASK, PROGRAM, INPUTS = "task.json", "model.pt2", "inputs"
"""In a format's directory: what a tool is to do, and with what."""
ANSWER, OUTPUTS = "answer.json", "outputs"
"""In a format's directory: what a tool said, and what its runs gave."""
RUNTIME = "runtime"
"""In a format's directory: files of a tool that go into the artifact."""
PRICES = "prices.npz"
"""In a step's directory: the price list of the graph that it was given."""
MOST_PRICE_BYTES = 1 << 30
"""A larger price list is not kept."""
REPORT = "report.json"
"""In a step's directory: a FinishedStep; the step is finished once it is there."""
CHECKPOINT = "checkpoint"
"""In a step's directory: the states of trainings; not needed once the step is finished."""


def step_directory(root: Path, index: int, method: str) -> Path:
    """Return the directory of step ``index`` (from 0); users count from 1."""
    return root / STEPS / f"{index + 1:02d}-{method}"


def delivery_directory(root: Path, name: OutputFormat) -> Path:
    """Return the directory for intermediate files of a format."""
    return root / DELIVERY / name


def checkpoint_file(step: Path, training: str) -> Path:
    """Return the checkpoint file of a named training of a step."""
    return step / CHECKPOINT / f"{training}.npz"


def model_file(root: Path, model_id: str) -> Path:
    """Return the file of another model that a step names by its id."""
    return root / MODELS / f"{model_id}.onnx"


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InspectModel(_Order):
    """Read ``upload``; write ``original.onnx``, ``model.onnx`` and a description."""

    kind: Literal["inspect_model"] = "inspect_model"
    filename: str | None = None
    hints: ModelHints = ModelHints()
    may_run_code: bool = False
    """Whether a format that runs code while it is opened may be: the worker says so where the
    confinement is whole."""


class InspectDataset(_Order):
    """Read ``upload`` and describe it."""

    kind: Literal["inspect_dataset"] = "inspect_dataset"
    filename: str | None = None


class Expected(BaseModel):
    """How long parts of a run take, by a forecast."""

    model_config = ConfigDict(frozen=True)

    samples_seconds: float
    """Of making samples from the model."""
    steps_seconds: float
    """Of the steps that are not finished."""


class Compress(_Order):
    """Run the steps, write the artifacts, measure them."""

    kind: Literal["compress"] = "compress"
    steps: list[AnyStep]
    evaluate: Evaluate = Evaluate()
    require: Require = Require()
    deliver: list[OutputFormat] = ["onnx"]
    seed: int = 0
    images: ImageOptions = ImageOptions()
    data: GeneratedData | None = None
    """Samples are made from the model where there is no dataset."""
    of_trial: bool = False
    """Whether the job is a trial of a search: the samples that it makes are for all trials."""
    evaluate_images: ImageOptions = ImageOptions()
    """Options for the images of the dataset that ``evaluate.dataset`` names."""
    tools: list[ToolName] = []
    """The tools that can be run on the directory when the engine asks for them."""
    tool_failures: dict[ToolName, str] = {}
    """For each tool that ran without an answer, the reason."""
    seconds: float | None = None
    """How long the engine may run until it is stopped; None sets no limit."""
    besides_seconds: float | None = None
    """What is expected to be spent besides the steps, as earlier jobs took; None while unknown."""
    expected: Expected | None = None
    """What is expected of making samples and of the steps; None where nothing is known."""
    source: InspectModel = InspectModel()
    """How the upload is opened again, where the format ``source`` is delivered."""
    threads: int | None = None
    """Threads to compute and measure with; None leaves it to the runtime's default."""
    chart: Sensitivity | None = None
    """What layers of the model lose and save, where it was measured on the job's dataset."""
    layer_times: MillisecondsByForm = {}
    """What earlier jobs measured of single layers, on a machine of this kind."""
    model_sha256: str | None = None
    """The SHA-256 of the upload, for the manifest; None when run by hand."""
    model_size_bytes: int | None = None
    """The size of the baseline: of the upload, or of its ONNX graph."""
    dataset_sha256: str | None = None
    evaluate_dataset_sha256: str | None = None


class MeasureSensitivity(_Order):
    """Measure what each layer loses and saves in each form; write no artifacts."""

    kind: Literal["measure_sensitivity"] = "measure_sensitivity"
    seed: int = 0
    data: GeneratedData | None = None
    """As in a job's request: samples are made from the model, in place of a dataset."""
    images: ImageOptions = ImageOptions()
    threads: int | None = None
    """The number of threads; None for the runtime's default."""
    seconds: float | None = None
    """The time after which layers are left out; None for the engine's own."""
    layer_times: MillisecondsByForm = {}
    """As in ``Compress``."""


class Describe(_Order):
    """Say what this machine, its devices and runtimes can do."""

    kind: Literal["describe"] = "describe"


Order = Annotated[
    InspectModel | InspectDataset | Compress | MeasureSensitivity | Describe,
    Field(discriminator="kind"),
]


class FinishedStep(BaseModel):
    """A step's ``report.json``: what it did; the figures are measured when all steps are done."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    taken_seconds: float = 0.0
    """What it took the job whose result was taken; 0 where this job made it itself."""
    layers: list[LayerChange]
    skipped: list[Skipped]
    changed: bool = True
    """Whether the graph computes something else than the graph before the step."""
    settled: bool = True
    """Whether the same step would come to the same result again, but for chance."""
    notes: list[str] = []
    """Findings of the method that a user would not expect."""
    kept: dict[str, dict[int, list[int]]] = {}
    """The remaining indices of each constant that was cut, by its name and axis."""
    choices: list[Choice] = []
    """The graphs that the method chose from."""
    prices: list[LayerPrice] = []
    """What layers lose and gain by themselves, where the method measured that."""
    other_prices: list[LayerPrice] = []
    """The same in forms that were measured besides the one that was chosen."""


class ToolTask(BaseModel):
    """A format's ``task.json``: what a tool is to make of the ``model.pt2`` beside it."""

    model_config = ConfigDict(frozen=True)

    format: OutputFormat
    file: str
    """The name of the artifact."""
    outputs: int
    """The number of outputs of the model."""
    threads: int


class ToolAnswer(BaseModel):
    """A format's ``answer.json``: what a tool made, or why it did not."""

    model_config = ConfigDict(frozen=True)

    runtime: str = Field(max_length=200)
    refused: str | None = Field(default=None, max_length=4000)
    """Why there is no artifact."""
    milliseconds: float | None = None
    """Median of one run, by turns with the original."""


class Produced(ArtifactFigures):
    """A file that the run leaves for the user, below ``artifacts/``, and what it does."""

    format: OutputFormat
    path: str


class Result(BaseModel):
    """How the run ended; just what the order asked for is set, or ``problem``.

    A job that misses its requirement has a ``problem`` and its ``report`` and ``artifacts``.
    """

    model_config = ConfigDict(frozen=True)

    problem: ProblemDetails | None = None
    model: ModelDescription | None = None
    dataset: DatasetDescription | None = None
    report: Report | None = None
    sensitivity: Sensitivity | None = None
    layer_times: MillisecondsByForm = {}
    """What the run has timed of single layers, for later jobs."""
    artifacts: list[Produced] = []
    capabilities: Capabilities | None = None
    tools: list[ToolName] = Field(default=[], max_length=len(TOOL_NAMES))
    """Tools to run on the directory before the engine is started again; then nothing else is
    set."""
