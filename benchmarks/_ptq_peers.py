"""Peers that quantize after training: which there are, and how one is run.

Each is a module of ``benchmarks.peers``, run by a Python of its own, because the packages of one
disagree with those of another. ``python -m benchmarks.peers`` makes the environments.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._cache import CACHE
from benchmarks._engine import limited

ENVIRONMENTS = Path(os.environ.get("PLANISH_BENCH_PEERS", CACHE / "peers"))
"""Where the peers' virtual environments are."""

SECONDS = 360
"""Of processor time, the most that a way may take with a model."""
_BYTES = 14 << 30
"""The most memory that a peer may ask for."""

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).parents[1]),
}

_MAIN = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Peer:
    """A set-up of a peer."""

    module: str
    """Of ``benchmarks.peers``; an environment has its name."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def quantize(self, model: Path, runs: Path, result: Path) -> None:
        """Quantize a graph into a file.

        Args:
            model: as ONNX.
            runs: what runs of one sample each read, ``[runs, …]`` by input.
            result: is written.

        Raises:
            ValueError: it gave no file.
        """
        command = [self._python(), "-m", f"benchmarks.peers.{self.module}"]
        ended = subprocess.run(
            [*command, model, runs, result, json.dumps(self.settings)],
            cwd=result.parent,  # some leave files there
            env=os.environ | _ENVIRONMENT,
            check=False,
            capture_output=True,
            text=True,
            preexec_fn=_within_limits,
        )
        if ended.returncode or not result.exists():
            lines = [line for line in ended.stderr.splitlines() if line.strip()]
            raise ValueError(lines[-1] if lines else f"it ended with {ended.returncode}")

    def _python(self) -> str:
        if self.module == "onnxruntime":
            return sys.executable
        return str(ENVIRONMENTS / self.module / "bin/python")

    @property
    def is_there(self) -> bool:
        """Whether its environment was made."""
        return Path(self._python()).exists()


def _within_limits() -> None:
    limited(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))


PEERS: Mapping[str, Peer] = {
    "onnxruntime static": Peer("onnxruntime"),
    "onnxruntime static, main operators": Peer("onnxruntime", {"op_types_to_quantize": _MAIN}),
    "onnxruntime static, main operators, percentile": Peer(
        "onnxruntime", {"op_types_to_quantize": _MAIN, "calibrate_method": "Percentile"}
    ),
    "onnxruntime dynamic": Peer("onnxruntime", {"dynamic": True}),
    "NNCF": Peer("nncf"),
    "NNCF, mixed": Peer("nncf", {"preset": "mixed"}),
    "NNCF, mixed, slow bias correction": Peer(
        "nncf", {"preset": "mixed", "fast_bias_correction": False}
    ),
    "Neural Compressor": Peer("onnx_neural_compressor"),
    "Neural Compressor, QDQ, per channel": Peer(
        "onnx_neural_compressor", {"quant_format": "QDQ", "per_channel": True}
    ),
    "Neural Compressor, smoothed": Peer(
        "onnx_neural_compressor", {"per_channel": True, "extra_options": {"SmoothQuant": True}}
    ),
    "ModelOpt": Peer("modelopt"),
    "ModelOpt, extremes": Peer("modelopt", {"calibration_method": "max"}),
    "ModelOpt, main operators": Peer("modelopt", {"op_types_to_quantize": _MAIN}),
    "Quark, INT8_CNN_DEFAULT": Peer("quark", {"config": "INT8_CNN_DEFAULT"}),
    "Quark, A8W8": Peer("quark", {"config": "A8W8"}),
    "Quark, XINT8": Peer("quark", {"config": "XINT8"}),
    "onnxsim": Peer("onnxsim"),
    "onnxsim, full graph": Peer("onnxsim", {"full_graph": True}),
    "onnxsim, auto": Peer("onnxsim", {"auto": True}),
}
"""The first set-up of a module is what its makers give by default."""
