"""Neural Compressor's successor for ONNX."""

import onnx
from onnx_neural_compressor.quantization import config, quantize
from onnxruntime.quantization import CalibrationMethod, QuantFormat

from benchmarks.peers._order import Reader, read


def main() -> None:
    order = read()
    named = {"quant_format": QuantFormat, "calibrate_method": CalibrationMethod}
    settings = {
        key: named[key][value] if key in named else value for key, value in order.settings.items()
    }
    chosen = config.StaticQuantConfig(
        calibration_data_reader=Reader(order),
        calibration_sampling_size=len(order.feeds),
        execution_provider="CPUExecutionProvider",
        **settings,
    )
    quantize(str(order.model), str(order.result), chosen)
    onnx.save(onnx.load(order.result), order.result)  # its weights are files beside it


if __name__ == "__main__":
    main()
