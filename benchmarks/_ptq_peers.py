"""Peers that quantize after training, each as a function from a graph and data to a graph.

onnxruntime's own tools are in every environment. A peer whose packages disagree with ours would be
a row of ``PEERS`` that runs the Python of its own virtual environment.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Feeds = dict[str, NDArray[Any]]
Peer = Callable[[Path, list[Feeds], Path], None]
"""Quantizes a graph, with what runs of it read, into a file."""

MAIN = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


class _Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    """Hands on what runs read, one after the other."""

    def __init__(self, feeds: list[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        """Return what the next run reads."""
        return next(self._feeds, None)


def _static(**settings: Any) -> Peer:
    """Return onnxruntime's static quantization with its pre-processing."""

    def quantized(model: Path, feeds: list[Feeds], result: Path) -> None:
        prepared = result.with_suffix(".prepared.onnx")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(result),
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                **settings,
            )
        prepared.unlink()

    return quantized


def _dynamic(model: Path, _feeds: list[Feeds], result: Path) -> None:
    quantize_dynamic(str(model), str(result), per_channel=True, weight_type=QuantType.QInt8)


PEERS: Mapping[str, Peer] = {
    "onnxruntime static": _static(),
    "onnxruntime static, main operators": _static(op_types_to_quantize=MAIN),
    "onnxruntime static, main operators, percentile": _static(
        op_types_to_quantize=MAIN, calibrate_method=CalibrationMethod.Percentile
    ),
    "onnxruntime dynamic": _dynamic,
}


def feeds_of(arrays: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> list[Feeds]:
    """Return what runs of one sample each read.

    Args:
        arrays: ``[samples, …]`` by the inputs' names.
        rows: the samples.
    """
    return [{name: array[row : row + 1] for name, array in arrays.items()} for row in rows.tolist()]
