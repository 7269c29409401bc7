"""The parameters of ``quantize``: fewer bits for weights and activations."""

from typing import Annotated, ClassVar, Literal, Self, assert_never

from pydantic import Field, model_validator

from app.domain.layer_forms import LayerForm
from app.domain.models import Layer
from app.domain.steps.base import (
    Forecast,
    Ignored,
    Needs,
    Outlook,
    Saving,
    Share,
    Skipped,
    Step,
    matches,
    searched,
)
from app.domain.steps.recover import EPOCHS, Recover, training_minutes

MAIN_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators with most of the time and bytes; others lose more quality than they save time."""

DYNAMIC_OPERATORS = ("Gemm", "MatMul")
"""onnxruntime's dynamic kernels pay off here; its dynamic convolutions are slower than float."""


RangeRule = Literal["minmax", "percentile", "mse", "entropy"]

_POINT = 0.01
"""One point of quality, or 1 % of the variance."""

PACKED = ("int2", "int3", "int4")
"""Two of these take a byte of the file."""


class Quantize(Step):
    """Store weights, and compute activations, in fewer bits.

    ``auto`` chooses among the others for each layer, within the bound of the loss of quality, or a
    point where the job names none; the result is never slower and never larger.
    ``static`` calibrates activation ranges on data and writes QuantizeLinear/DequantizeLinear
    pairs; ``qat`` starts from there and trains the graph as it will be shipped; ``dynamic`` finds
    ranges at run time and needs no data; ``weight_only`` packs the weights of matrix products in
    blocks of four or eight bits, or stores those of every operator in fewer bits at no cost of time
    (``unpack`` is ``load``); ``float16`` halves the file and keeps float32 inputs and
    outputs. Weights of four bits or fewer are packed in the file.
    """

    title: ClassVar[str] = "Quantization"
    gentler: ClassVar[str] = (
        "quantize fewer layers ('ignore'), or try other 'ranges' or int16 activations"
    )
    provides: ClassVar[tuple[str, ...]] = ("quantized",)
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered")

    method: Literal["quantize"] = "quantize"
    mode: Literal["auto", "static", "dynamic", "float16", "weight_only", "qat"] = Field(
        title="Kind of quantization",
        default="auto",
        description="How activations get their ranges, or half precision. 'auto' chooses for each"
        " layer what is measured to pay.",
        json_schema_extra=searched(
            choices=["auto", "static", "dynamic", "float16", "weight_only", "qat"]
        ),
    )
    prefer: Literal["balanced", "speed", "size"] = Field(
        title="What to seek",
        default="balanced",
        description="What auto seeks within the bound of the loss of quality.",
        json_schema_extra=searched(choices=["speed", "size"], when={"mode": ["auto"]}),
    )
    weights: Literal["int2", "int3", "int4", "int5", "int6", "int7", "int8", "uint8"] = Field(
        title="Type of weights",
        default="int8",
        description="The type that weights are stored in (not for float16).",
        json_schema_extra=searched(choices=["int4", "int8"], when={"mode": ["weight_only"]}),
    )
    activations: Literal["uint4", "uint5", "uint6", "uint7", "uint8", "int8", "int16", "none"] = (
        Field(
            title="Type of activations",
            default="uint8",
            description="Of activations in static and qat; 'none' quantizes weights alone.",
        )
    )
    symmetric: bool = Field(
        title="Ranges centred on zero",
        default=False,
        description="Ranges of activations are centred on zero (zero point 0).",
    )
    per_channel: bool = Field(
        title="One scale for each channel",
        default=True,
        description="One scale for each output channel of a weight.",
    )
    ranges: RangeRule | None = Field(
        title="How ranges are set",
        default=None,
        description="How calibration turns observed values into a range."
        " Default: percentile, minmax or mse, whichever brings the outputs nearest on data.",
    )
    percentile: float = Field(
        title="Percentile",
        default=99.99,
        gt=50,
        le=100,
        description="The share of observed magnitudes that 'percentile' ranges keep, in percent.",
    )
    smooth: bool | None = Field(
        title="Smooth outlier channels",
        default=None,
        description="Move outlier channels of what products read into their weights (SmoothQuant)."
        " Default: where data shows that it brings the outputs nearer.",
    )
    equalize: bool | None = Field(
        title="Equalize channels",
        default=None,
        description="Give channels between two static convolutions like ranges, by factors that"
        " move from one to the other (Nagel et al. 2019). Default: where data shows that it brings"
        " the outputs nearer.",
    )
    correct_bias: bool | None = Field(
        title="Correct biases",
        default=None,
        description="Move the biases of static layers by their mean error on data (Nagel et al."
        " 2019). Default: where data shows that it brings the outputs nearer.",
    )
    learn_rounding: bool | None = Field(
        title="Learn the rounding",
        default=None,
        description="Round weights up or down so that the errors of their layers' outputs cancel on"
        " data (AdaRound, Nagel et al. 2020), in static, and in weight_only where they are unpacked"
        " at load. Default: where data shows that it brings the outputs nearer.",
    )
    own_grids: bool = Field(
        title="Split outputs of unlike range",
        default=True,
        description="Split static convolutions at the end whose channels differ much in range,"
        " such as boxes beside scores, so that each part has a grid of its own.",
    )
    calibration_samples: int = Field(
        title="Samples to calibrate on",
        default=128,
        ge=1,
        le=10_000,
        description="Training samples that calibration looks at.",
    )
    operators: list[Annotated[str, Field(max_length=64)]] | None = Field(
        title="Operators to quantize",
        default=None,
        min_length=1,
        max_length=64,
        description="The operators to quantize. Default: Conv, ConvTranspose, Gemm and MatMul; all"
        " that have weights where these are unpacked at load.",
    )
    ignore: Ignored = Field(default=[])
    force: bool = Field(
        title="Also where it is slower",
        default=False,
        description="In static, dynamic and float16: also where it is measured to be slower, or"
        " makes the file larger.",
    )

    algorithm: Literal["rtn", "hqq", "gptq"] = Field(
        title="How weights are rounded",
        default="hqq",
        description="How weight_only rounds: to nearest, with zero points that bear outliers, or"
        " column by column so that errors cancel on data (GPTQ).",
    )
    block_size: Literal[16, 32, 64, 128, 256] = Field(
        title="Weights that share a scale",
        default=32,
        description="Weights of weight_only that share a scale.",
    )
    unpack: Literal["run", "load"] = Field(
        title="When weights are unpacked",
        default="run",
        description="When weights of weight_only become floats: blocks of products as they run, or"
        " those of every operator when the session opens, so that a run takes as long as in float.",
        json_schema_extra=searched(choices=["run", "load"], when={"mode": ["weight_only"]}),
    )
    ratio: Share | None = Field(
        title="Share of the bytes to remove",
        default=None,
        description="With 'unpack' 'load': the fraction of the weights' bytes that is to go. Each"
        " layer then has float, eight or four bits, as episodes on data learn (HAQ, Wang 2019), in"
        " place of 'weights'.",
    )
    learn_steps: bool = Field(
        title="Learn the distances between levels",
        default=True,
        description="qat trains the distances between levels too (LSQ).",
    )
    recover: Recover | None = Field(
        title="How it is trained",
        default=None,
        description="How qat trains. Default: five epochs of recovery.",
        json_schema_extra=searched(within=EPOCHS, when={"mode": ["qat"]}),
    )

    @model_validator(mode="after")
    def _fits_the_mode(self) -> Self:
        if self.recover is not None and self.mode != "qat":
            raise ValueError(f"mode '{self.mode}' does not train: use mode 'qat' with 'recover'")
        if self.mode != "auto" and self.prefer != "balanced":
            raise ValueError(f"mode '{self.mode}' has no choice: use 'auto' with 'prefer'")
        if self.mode in ("float16", "weight_only") and self.smooth:
            raise ValueError(f"mode '{self.mode}' keeps activations in float: leave out 'smooth'")
        if self.mode not in ("auto", "static") and self.correct_bias:
            raise ValueError(f"mode '{self.mode}' corrects no biases: leave out 'correct_bias'")
        if self.learn_rounding and not self.may_learn_rounding:
            chooser = f"mode '{self.mode}'" if self.ratio is None else "'ratio'"
            raise ValueError(f"{chooser} learns no rounding: leave out 'learn_rounding'")
        if self.mode not in ("auto", "static", "qat") and self.equalize:
            raise ValueError(f"mode '{self.mode}' equalizes no channels: leave out 'equalize'")
        if self.mode == "weight_only" and self.weights not in ("int4", "int8"):
            raise ValueError("mode 'weight_only' stores weights as int4 or int8")
        if self.mode != "weight_only" and self.unpack != "run":
            raise ValueError(f"mode '{self.mode}' unpacks nothing: leave out 'unpack'")
        if self.unpack != "load" and self.ratio is not None:
            raise ValueError("'ratio' is of weights that are only stored: use 'unpack' 'load'")
        return self

    @property
    def place(self) -> int:
        """Last: nothing that trains or reshapes may follow."""
        return 5

    @property
    def saves(self) -> frozenset[Saving]:
        """Integers are computed faster; what is only stored in fewer bits is computed as before."""
        stored = self.mode in ("float16", "weight_only")
        return frozenset({"size"}) if stored else frozenset({"size", "latency"})

    @property
    def may_learn_rounding(self) -> bool:
        """Whether each weight may be rounded up or down by what data shows.

        Weights that are stored in blocks have other algorithms. Where ``ratio`` is given, bits are
        learned for weights that are rounded to nearest.
        """
        stored = self.mode == "weight_only" and self.unpack == "load" and self.ratio is None
        return self.mode in ("auto", "static") or stored

    @property
    def layer_form(self) -> LayerForm | None:
        """What the mode makes of layers; half precision is written in every format."""
        match self.mode:
            case "static" | "qat":
                return "static"
            case "dynamic":
                return "dynamic"
            case "weight_only":
                return "blocks" if self.unpack == "run" else "stored"
            case "auto" | "float16":
                return None
            case mode:
                assert_never(mode)

    @property
    def own_bound(self) -> float | None:
        """``auto`` loses a point at most."""
        return _POINT if self.mode == "auto" else None

    @property
    def chooses_forms(self) -> bool:
        """Auto chooses for each layer."""
        return self.mode == "auto"

    @property
    def sized_by_parameters(self) -> bool:
        """What is stored in fewer bits is as large however it is rounded."""
        return self.mode == "float16" or (self.mode == "weight_only" and self.ratio is None)

    @property
    def reads_chart(self) -> bool:
        """What layers lose in int8 need not be measured again, where quality is bounded."""
        eight = self.weights == "int8" and self.activations == "uint8"
        return eight and self.mode in ("auto", "static")

    @property
    def priced(self) -> "Quantize | None":
        """What layers cost and save is the same whatever is preferred."""
        if self.mode != "auto":
            return None
        return self.model_copy(update={"prefer": "balanced"})

    @property
    def range_rules(self) -> tuple[RangeRule, ...]:
        """The ways that calibration may turn observed values into ranges; 16 bits clip nothing."""
        if self.activations == "int16":
            return ("minmax",)
        return (self.ranges,) if self.ranges else ("percentile", "minmax", "mse")

    @property
    def recovery(self) -> Recover:
        """How qat trains."""
        return self.recover or Recover(epochs=5)

    @property
    def needs(self) -> Needs:
        """Calibration needs inputs, training what it asks for; the other modes need no data."""
        if self.mode == "qat":
            return self.recovery.needs
        return Needs(data="inputs" if self._calibrates else "none")

    @property
    def _calibrates(self) -> bool:
        if self.smooth or self.equalize or self.learn_rounding:
            return True
        if self.mode == "weight_only":
            return self.ratio is not None or (self.algorithm == "gptq" and self.unpack == "run")
        return self.mode in ("static", "qat") and self.activations != "none"

    def skip(self, layer: str, operator: str) -> Skipped | None:
        """Return the node and why it is left alone; None if it is to be quantized."""
        named = matches(layer, self.ignore)
        reason = "named in 'ignore'" if named else self._unfit(operator)
        return None if reason is None else Skipped(node=layer, reason=reason)

    def _unfit(self, operator: str) -> str | None:
        """Say why nodes of an operator are left alone."""
        loaded = self.mode == "auto" or self.unpack == "load"
        chosen = self.operators or (None if loaded else MAIN_OPERATORS)
        if self.mode == "float16":
            return None
        if chosen is not None and operator not in chosen:
            return f"{operator} is not among the operators to quantize"
        if self.mode == "weight_only" and not loaded and operator not in DYNAMIC_OPERATORS:
            return f"there are no blocks of weights for {operator}"
        if self.mode == "dynamic" and operator not in DYNAMIC_OPERATORS:
            return f"onnxruntime's dynamic {operator} is slower than float: use mode 'static'"
        return None

    def _verdict(self, layer: Layer) -> Skipped | None:
        """Say why a layer is left alone, as far as its description tells."""
        skipped = self.skip(layer.name, layer.operator)
        if skipped is None and not layer.parameters and self.mode != "float16":
            return Skipped(node=layer.name, reason="it has no weights")
        return skipped

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate bytes from the layers that change type; MACs stay, cheaper."""
        verdicts = [(layer, self._verdict(layer)) for layer in graph.layers]
        changed = sum(layer.parameters for layer, skipped in verdicts if skipped is None)
        bits = 16 if self.mode == "float16" else 4 if self.weights in PACKED else 8
        saved = changed * (32 - bits) // 8 if self.ratio is None else int(4 * changed * self.ratio)
        smaller = graph.size_bytes - saved
        reads_samples = self._calibrates or self.mode == "auto"
        calibrated = min(graph.samples, self.calibration_samples) if reads_samples else 0
        recovery = self.recovery if self.mode == "qat" else None
        training = training_minutes(recovery, graph.macs, graph.samples)
        seconds = 3 + graph.size_bytes / 3e7 + calibrated * graph.macs / 2e9
        return Forecast(
            size_bytes=max(smaller, graph.size_bytes // 8),
            macs=graph.macs,
            minutes=round(training + seconds / 60, 3),
            skipped=[skipped for _, skipped in verdicts if skipped is not None],
        )
