"""The parameters of ``quantize``: fewer bits for weights and activations."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.domain.steps.base import Forecast, Needs, Outlook, Skipped, Step, matches

MAIN_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Where the time and the bytes are; other operators lose more quality than they save time."""

DYNAMIC_OPERATORS = ("Gemm", "MatMul")
"""onnxruntime's dynamic kernels pay off here; its dynamic convolutions are slower than float."""


class Quantize(Step):
    """Store weights, and compute activations, in fewer bits.

    ``static`` calibrates activation ranges on data and writes QuantizeLinear/DequantizeLinear
    pairs; ``dynamic`` finds ranges at run time and needs no data; ``float16`` halves the file and
    keeps float32 inputs and outputs.
    """

    title: ClassVar[str] = "Quantization"
    provides: ClassVar[tuple[str, ...]] = ("quantized",)
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered")

    method: Literal["quantize"] = "quantize"
    mode: Literal["static", "dynamic", "float16"] = Field(
        default="static", description="How activations get their ranges, or half precision."
    )
    weights: Literal["int8", "uint8"] = Field(
        default="int8", description="The type that weights are stored in (not for float16)."
    )
    activations: Literal["int8", "uint8", "int16", "none"] = Field(
        default="uint8",
        description="The type of activations in static mode; 'none' quantizes weights alone.",
    )
    symmetric: bool = Field(
        default=False, description="Ranges of activations are centred on zero (zero point 0)."
    )
    per_channel: bool = Field(
        default=True, description="One scale for each output channel of a weight."
    )
    ranges: Literal["minmax", "percentile", "mse", "entropy"] = Field(
        default="percentile", description="How calibration turns observed values into a range."
    )
    percentile: float = Field(
        default=99.99,
        gt=50,
        le=100,
        description="The share of observed magnitudes that 'percentile' ranges keep, in percent.",
    )
    calibration_samples: int = Field(
        default=128, ge=1, le=10_000, description="Training samples that calibration looks at."
    )
    operators: list[Annotated[str, Field(max_length=64)]] = Field(
        default=list(MAIN_OPERATORS),
        min_length=1,
        max_length=64,
        description="The operators to quantize.",
    )
    ignore: list[Annotated[str, Field(min_length=1, max_length=512)]] = Field(
        default=[],
        max_length=1000,
        description="Nodes to leave alone: names or patterns such as '/encoder/*'.",
    )

    @property
    def needs(self) -> Needs:
        """Calibration needs inputs; the other modes need no data."""
        calibrates = self.mode == "static" and self.activations != "none"
        return Needs(data="inputs" if calibrates else "none")

    def skip(self, layer: str, operator: str) -> Skipped | None:
        """Say why this node is left alone, or None if it is to be quantized."""
        if matches(layer, self.ignore):
            return Skipped(node=layer, reason="named in 'ignore'")
        if self.mode == "float16":
            return None
        if operator not in self.operators:
            return Skipped(node=layer, reason=f"{operator} is not among the operators to quantize")
        if self.mode == "dynamic" and operator not in DYNAMIC_OPERATORS:
            return Skipped(
                node=layer,
                reason=f"onnxruntime's dynamic {operator} is slower than float: use mode 'static'",
            )
        return None

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate bytes from the layers that change type; MACs stay, cheaper."""
        verdicts = [(layer, self.skip(layer.name, layer.operator)) for layer in graph.layers]
        saved_per_parameter = 2 if self.mode == "float16" else 3
        changed = sum(layer.parameters for layer, skipped in verdicts if skipped is None)
        calibrated = (
            min(graph.samples, self.calibration_samples) if self.needs.data == "inputs" else 0
        )
        return Forecast(
            size_bytes=max(graph.size_bytes - saved_per_parameter * changed, graph.size_bytes // 8),
            macs=graph.macs,
            minutes=round(0.05 + graph.size_bytes / 2e9 + calibrated * graph.macs / 2e9 / 60, 3),
            skipped=[skipped for _, skipped in verdicts if skipped is not None],
        )
