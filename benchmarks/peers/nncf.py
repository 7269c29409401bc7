"""NNCF's quantization after training of ONNX graphs."""

import nncf
import onnx

from benchmarks.peers._order import read


def main() -> None:
    order = read()
    named = {
        "preset": nncf.QuantizationPreset,
        "model_type": nncf.ModelType,
        "target_device": nncf.TargetDevice,
    }
    settings = {
        key: named[key](value) if key in named else value for key, value in order.settings.items()
    }
    quantized = nncf.quantize(
        onnx.load(order.model),
        nncf.Dataset(order.feeds),
        subset_size=len(order.feeds),
        **settings,
    )
    onnx.save(quantized, order.result)


if __name__ == "__main__":
    main()
