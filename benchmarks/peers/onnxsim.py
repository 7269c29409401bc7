"""onnxsim's quantization."""

import onnx
import onnxsim

from benchmarks.peers._order import read


def main() -> None:
    order = read()
    model = onnx.load(order.model)
    automatic = order.settings.pop("auto", False)
    quantize = onnxsim.quantize_auto if automatic else onnxsim.quantize_static
    onnx.save(quantize(model, calibration_data=order.feeds, **order.settings), order.result)


if __name__ == "__main__":
    main()
