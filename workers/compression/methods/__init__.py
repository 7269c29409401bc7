"""The methods behind the steps, in one explicit table.

A method is a function from a graph, whose nodes all have names, its parameters and the context to
an ``Outcome``. It may change the graph that it is given; it never reads a clock, a global or a file
that it did not make.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from workers.compression.methods.cluster import cluster
from workers.compression.methods.distill import distill
from workers.compression.methods.low_rank import low_rank
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import prune
from workers.compression.methods.quantize import quantize
from workers.compression.samples.context import Context

Method = Callable[[ir.Model, Any, Context, Callable[[float], None]], Outcome]
"""From graph, parameters, context and a progress function (0-1) to the outcome."""

METHODS: dict[str, Method] = {
    "cluster": cluster,
    "distill": distill,
    "low_rank": low_rank,
    "prune": prune,
    "quantize": quantize,
}
