"""The report of a job: what was measured, on which data, and how.

Sizes are bytes, latencies milliseconds, durations seconds. A figure that was not measured is an
explicit null, never a forgotten zero.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.domain import metrics
from app.domain.frozen import Frozen
from app.domain.generated import GeneratedData
from app.domain.latencies import Latency, TimedRun
from app.domain.layer_forms import LayerForm
from app.domain.metrics import METRICS, Kind, Metric
from app.domain.models import ModelId, SampleSizes
from app.domain.problems import ProblemDetails
from app.domain.steps import Skipped
from app.domain.targets import OutputFormat

Split = Literal["held_out", "synthetic", "generated"]
"""What figures are measured on: samples of a dataset that no step has seen; without a dataset
seeded random inputs, or samples that were made from the model. The last two give fidelity and
latency only."""


class Quality(Frozen):
    """A metric against targets."""

    metric: Metric | ModelId
    """By name, or the model that computes it."""
    kind: Kind = Field(default_factory=lambda found: METRICS[found["metric"]].kind)
    """What sort of figure it is: of rates and errors less is better, of the others more."""
    value: float
    split: Literal["held_out"] = "held_out"
    samples: int


class Worst(Frozen):
    """The channel of all outputs that keeps the least of the original's variance."""

    output: str
    channel: int | None
    """Its place among the output's channels; null where the output is one channel."""
    explained: float
    others: float | None = None
    """What ``explained`` of the fidelity would be without this channel. Null where no other channel
    varies, and in reports that are older than the figure."""


class OutputKept(Frozen):
    """How much of an output is left."""

    output: str
    explained: float
    """Share of the original's variance that is kept."""


_ROUNDING = 1e-12
"""What rounding may add to a loss: a loss that is above its bound by less is within it."""

_HALF = 0.5


class Fidelity(Frozen):
    """How near the outputs are to the original's, on held-out inputs."""

    sqnr_db: float | None
    """10·log10 of signal over error power, over all outputs; null when the error is zero."""
    agreement: float
    """Share of samples or positions of equal arg-max, of equal labels, or of elements within 1 % of
    the range."""
    explained: float | None = None
    """Share of the variance that is kept, a mean over channels in their own units, then over
    outputs: 1 is equal, below 0 is noise. Of labels it is the share of equal ones. Null in reports
    that are older than the figure."""
    worst: Worst | None = None
    """The channel that keeps the least; null where none varies."""
    commonest: float | None = None
    """Share of the original's most frequent answer: a graph that always gives it agrees as often.
    Null where outputs hold no answers, and in reports that are older than the figure."""
    bounded: Literal["agreement", "explained"] = "agreement"
    """The one that ``max_quality_drop`` bounds where there are no targets: ``agreement`` of class
    scores and labels, unless the original gives nearly always the same; else ``explained``."""
    samples: int | None = None
    """How many were compared; null in reports that are older than the figure."""
    beside: list[OutputKept] | None = None
    """Outputs besides the one whose quality and answers are judged, eight at most, those that keep
    least first. Null in reports that are older than the figure."""

    @property
    def counts_answers(self) -> bool:
        """Whether ``agreement`` counts equal answers; else it counts near values."""
        return self.bounded == "agreement" or self.commonest is not None

    @property
    def answers_changed(self) -> bool:
        """Whether most answers are not the original's, whichever figure is bounded."""
        return self.counts_answers and self.agreement < _HALF

    @property
    def one_channel_decides(self) -> bool:
        """Whether most of the variance that is lost is lost in the worst channel alone.

        A share has no lower bound: one of hundreds that hardly varies may outweigh all others.
        """
        worst = self.worst
        if self.explained is None or worst is None or worst.others is None or worst.explained >= 0:
            return False
        return 1 - worst.others < _HALF * (1 - self.explained)

    @property
    def ruined(self) -> bool:
        """Whether the graph does not do what the original does.

        Less than half is kept of what is bounded, or of the answers; or no more answers than a
        graph has that always gives the commonest, and less than half of the variance. Where
        answers vary, the variance alone tells nothing: scores of unlikely classes, next to nothing
        themselves, count in it as those of likely ones.
        """
        if self.kept < _HALF or self.answers_changed:
            return True
        by_chance = self.commonest is not None and self.agreement <= self.commonest
        return by_chance and self.explained is not None and self.explained < _HALF

    @property
    def kept(self) -> float:
        """The figure that is bounded where there are no targets; 1 is all."""
        explained = self.explained if self.bounded == "explained" else None
        return self.agreement if explained is None else explained


class Measures(Frozen):
    """The figures of one graph."""

    size_bytes: int
    parameters: int
    nonzero_parameters: int
    macs: int
    latency_ms: float | None
    """Median of one sample, interleaved with the original."""
    quality: Quality | None
    fidelity: Fidelity | None
    """Null for the original itself."""
    peak_memory_bytes: int | None = None
    """Of one run in a fresh process."""


def quality_drop(before: Quality | None, after: Quality | None, fidelity: Fidelity | None) -> float:
    """Return the drop in quality, from the metric if there is one, else from the fidelity.

    The drop is negative when quality rose. It is absolute, except for errors, where it is relative.
    Without targets it is what is lost of the figure that `Fidelity.bounded` names.
    """
    if before is None or after is None:
        return 1 - fidelity.kept if fidelity else 0.0
    return metrics.fall(before.kind, before.value, after.value)


def ruined(before: Measures, after: Measures) -> bool:
    """Return whether a graph does not do what the original does: less than half of it is left.

    A metric tells by itself where it is a share. Others have no bounds: where such a figure got
    worse, the comparison with the original tells. Of numbers it has to be the variance: which of
    them is the largest is no answer.
    """
    was, now, fidelity = before.quality, after.quality, after.fidelity
    differs = fidelity is not None and fidelity.ruined
    if was is None or now is None:
        return differs
    left = metrics.left(was.kind, was.value, now.value)
    if left is None:
        kept = None if fidelity is None else fidelity.explained
        if kept is not None and kept >= _HALF:
            return False
        return differs and metrics.fall(was.kind, was.value, now.value) > 0
    return left < _HALF


class ArtifactFigures(BaseModel):
    """What a file that is delivered does on the runtime of its format."""

    model_config = ConfigDict(frozen=True)

    runtime: str | None = Field(default=None, max_length=200)
    """Such as ``openvino 2026.4.1``."""
    ran: bool = True
    """Whether it was run here; if not, ``reason`` says why, and there are no figures."""
    reason: str | None = Field(default=None, max_length=4000)
    """Why it was not run or has no error; or what of the model the file does not keep."""
    max_error: float | None = None
    """The largest absolute difference of any output to those of the ONNX graph that it was made
    of, run as it is written, without onnxruntime's optimizations."""
    latency_ms: float | None = None
    """Median of one sample, by turns with the original."""
    quality: Quality | None = None
    fidelity: Fidelity | None = None
    """Against the original."""


class LayerChange(Frozen):
    """What a step did to one node."""

    node: str
    operator: str
    change: str
    """In words, such as ``float32 → int8, per channel``."""
    bytes_before: int
    bytes_after: int
    sqnr_db: float | None = None
    """Of the node's weights, before against after."""


class Choice(Frozen):
    """A graph that a step considered. Its figures are from training samples."""

    title: str
    """What it is, such as ``3 of 20 layers in float``."""
    size_bytes: int
    speedup: float | None
    """How many times as fast it was as the graph before the step; null where it was not timed."""
    lost: float | None
    """The drop in quality, as ``max_quality_drop`` bounds it; null where it has no bound itself."""
    lost_error: float | None = None
    """The standard error of ``lost``, by which other samples may lose more; 0 where targets were
    compared, null where ``lost`` is."""
    chosen: bool = False


class LayerPrice(Frozen):
    """What a layer loses, and what it gains, if it alone is quantized."""

    node: str
    lost: float
    """The share of the outputs' variance that is lost."""
    gain: float
    """What is saved: a share of the quantized graph's time, or bytes."""
    unit: Literal["time", "bytes"]
    bytes_saved: int | None = None
    """Null in reports that are older than the field, as ``time_saved`` is."""
    time_saved: float | None = None
    """A share of the quantized graph's time; 0 where weights are only stored in few bits."""
    priced_together: int
    """The number of neighbouring layers that share these figures, this one included."""
    quantized: bool
    """Whether it was quantized in the end."""
    form: LayerForm | None = None
    """What it is quantized to; null in reports that are older than the field."""


class StepReport(Frozen):
    """What one step did."""

    index: int
    method: str
    parameters: dict[str, Any]
    seconds: float
    before: Measures
    after: Measures
    layers: list[LayerChange]
    skipped: list[Skipped]
    changed: bool = True
    """Whether the step's graph computes something else than the one that it was given."""
    notes: list[str] = Field(default=[])
    """What one would not expect: that the step changed nothing, or made the file larger."""
    choices: list[Choice] = Field(default=[])
    """The graphs that the step chose from."""
    prices: list[LayerPrice] = Field(default=[])
    """Of the layers that the step measured by themselves, in the graph's order."""
    own_bound: float | None = None
    """The largest drop in quality that the step aimed at, on training samples, as the job bounds
    none; null where it aimed at none of its own, and in reports that are older than the figure."""


class Generated(Frozen):
    """Samples that were made from the model, because the job has no dataset."""

    way: Literal["declared", "pixels", "network"]
    """``declared``: as the graph says of its inputs; ``pixels``: trained number by number to fit
    the model; ``network``: by a network that was trained against the model."""
    samples: int
    """How many were made; steps used those that were not held out."""
    note: str
    """In words: what is known of them, and what is not."""


class Portability(Frozen):
    """Where the figures hold, and where integers may saturate."""

    measured_on: list[str]
    """The instruction sets of the processor that latency and quality were measured on."""
    integer_layers: int
    """The number of layers that compute in integers."""
    may_saturate: list[str]
    """Those of them whose sums may saturate on x86-64 processors without VNNI, so that quality is
    lower there. ``"weights": "int7"`` leaves none."""


class DropInterval(Frozen):
    """The interval of a drop, with 95 % confidence: other samples would give another drop."""

    low: float
    """Negative where the metric may have risen."""
    high: float


class Evaluation(Frozen):
    """How the figures were obtained."""

    metric: Metric | ModelId | None
    split: Split
    generated: Generated | None = None
    """The samples that steps used, where they were made from the model; null otherwise."""
    dataset: str | None = None
    """The dataset that ``evaluate.dataset`` named; null: a part of the job's was held out."""
    indices: list[int]
    """The samples of that dataset that were judged on; no step has seen them."""
    threads: int
    runtime: str
    """Such as ``onnxruntime 1.32.0, CPUExecutionProvider``."""
    latency: Latency | None
    drop: DropInterval | None = None
    """Of the metric; null of metrics that do not count answers, and in reports that are older than
    the figure."""
    run: TimedRun | None = None
    """What one timed run reads; null in reports that are older than the field."""
    sample_sizes: SampleSizes = Field(default={})
    """Of the sample that is timed and that ``macs`` are counted for; empty where no dimension of it
    is dynamic, and in reports that are older than the field."""
    portability: Portability | None = None
    """Null in reports that are older than the figure."""
    notes: list[str] = Field(default=[])


class Machine(Frozen):
    """Where it was measured."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    instruction_sets: list[str]
    device: str


class Manifest(Frozen):
    """All that is needed to run the job again: same seed, same machine, same bytes."""

    model_sha256: str
    dataset_sha256: str | None
    data: GeneratedData | None = None
    """``generated``: the samples were made from the model, by the seed."""
    evaluate_dataset_sha256: str | None = None
    steps: list[dict[str, Any]]
    evaluate: dict[str, Any]
    require: dict[str, Any]
    deliver: list[str]
    seed: int
    versions: dict[str, str]
    machine: Machine
    artifacts: dict[str, str]
    """File name → SHA-256."""


class Report(Frozen):
    """What the engine hands over when a job is done."""

    baseline: Measures
    compressed: Measures
    step_reports: list[StepReport]
    evaluation: Evaluation
    verdict: str
    """In words; says so where the result is larger, slower or below its requirement."""
    manifest: Manifest


class Delivered(ArtifactFigures):
    """An artifact in a job's report."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    format: OutputFormat
    filename: str
    """What the download is called; in the manifest it has the name of the job's directory."""
    size_bytes: int
    sha256: str


def is_beyond(lost: float, allowed: float) -> bool:
    """Return whether more is lost than is allowed, rounding errors of the loss aside."""
    return lost > allowed + _ROUNDING


def missed_bound(before: Measures, after: Measures, steps: Sequence[StepReport]) -> float | None:
    """Return the bound that all steps set themselves, where the result misses it; else None."""
    bounds = [step.own_bound for step in steps if step.changed]
    known = [bound for bound in bounds if bound is not None]
    if not known or len(known) < len(bounds):
        return None
    lost = quality_drop(before.quality, after.quality, after.fidelity)
    return sum(known) if is_beyond(lost, sum(known)) else None


class JobReport(Report):
    """The report of a job as clients read it."""

    job: str
    name: str | None
    status: str
    model: str
    dataset: str | None
    artifacts: list[Delivered] = Field(default=[])
    problem: ProblemDetails | None = Field(default=None, exclude_if=lambda value: value is None)
    finished_at: AwareDatetime | None
