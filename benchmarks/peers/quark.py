"""AMD's Quark for ONNX graphs, with one of its named set-ups."""

from quark.onnx import ModelQuantizer
from quark.onnx.quantization.config import Config, get_default_config

from benchmarks.peers._order import Reader, read


def main() -> None:
    order = read()
    chosen = Config(global_quant_config=get_default_config(order.settings["config"]))
    ModelQuantizer(chosen).quantize_model(str(order.model), str(order.result), Reader(order))


if __name__ == "__main__":
    main()
