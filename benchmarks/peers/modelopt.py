"""NVIDIA's ModelOpt for ONNX graphs, calibrated on the processor; what stays float is float32."""

from modelopt.onnx.quantization import quantize

from benchmarks.peers._order import Reader, read


def main() -> None:
    order = read()
    quantize(
        str(order.model),
        quantize_mode="int8",
        calibration_data_reader=Reader(order),
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(order.result),
        **order.settings,
    )


if __name__ == "__main__":
    main()
