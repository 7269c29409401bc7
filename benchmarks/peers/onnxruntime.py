"""onnxruntime's own tools: static quantization with its pre-processing, and dynamic."""

from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.peers._order import Reader, read


def main() -> None:
    order = read()
    if order.settings.pop("dynamic", False):
        quantize_dynamic(order.model, order.result, per_channel=True, weight_type=QuantType.QInt8)
        return
    method = order.settings.pop("calibrate_method", CalibrationMethod.MinMax.name)
    prepared = order.result.with_suffix(".prepared.onnx")
    quant_pre_process(str(order.model), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(order.result),
        Reader(order),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod[method],
        **order.settings,
    )


if __name__ == "__main__":
    main()
