"""The methods behind the steps, in one explicit table.

A method is a function from a graph whose nodes all have names, the parameters and the context to an
``Outcome``. It may change the graph in place. It never reads a clock, a global or a file that it
did not write.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from workers.compression.methods.cluster import cluster
from workers.compression.methods.distill import distill
from workers.compression.methods.elastic import subnet, supernet
from workers.compression.methods.low_rank import low_rank
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import prune
from workers.compression.methods.quantize import quantize
from workers.compression.samples.context import Context

Method = Callable[[ir.Model, Any, Context, Callable[[float], None]], Outcome]
"""Arguments: graph, parameters, context, and a function that is called with the progress (0-1)."""

METHODS: dict[str, Method] = {
    "cluster": cluster,
    "distill": distill,
    "low_rank": low_rank,
    "prune": prune,
    "quantize": quantize,
    "subnet": subnet,
    "supernet": supernet,
}
