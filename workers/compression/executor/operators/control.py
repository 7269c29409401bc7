"""Branches and loops: their subgraphs are plans, run like the plan of the main graph.

What a subgraph computes from constants alone lies in host memory. Its results are brought to the
device of its data, as the graph around it expects.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from workers.compression.executor.devices import bring, device_of
from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function, Plan, call


def if_(node: Node) -> Function:
    """If."""
    then, count = node.plan("then_branch")
    otherwise, _ = node.plan("else_branch")
    node.sizes.add(0)  # a condition in host memory is read there
    return partial(_if, then, otherwise, count)


def _if(then: Plan, otherwise: Plan, count: int, condition: Tensor, *captured: Any) -> Any:
    branch, arguments = (
        (then, captured[:count]) if condition.item() else (otherwise, captured[count:])
    )
    return bring(call(branch, arguments), device_of(captured))


def loop(node: Node) -> Function:
    """Loop, with a trip count and a condition, each of which may be missing."""
    body, _ = node.plan("body")
    node.sizes |= {0, 1}
    return partial(_loop, body, len(node.inputs) - 2)


def _loop(
    body: Plan, carried: int, count: Tensor | None, condition: Tensor | None, *values: Any
) -> tuple[Any, ...]:
    state, captured = list(values[:carried]), values[carried:]
    stacked_outputs: list[list[Tensor]] = [[] for _ in range(len(body.outputs) - 1 - carried)]
    limit = None if count is None else int(count)
    running, step, device = condition is None or bool(condition), 0, device_of(values)
    while running and (limit is None or step < limit):
        counters = torch.tensor(step, device=device), torch.tensor(True, device=device)
        arguments = [*counters, *state, *captured]
        running, *results = call(body, arguments)
        state = results[:carried]
        for outputs, output in zip(stacked_outputs, results[carried:], strict=True):
            outputs.append(output)
        step += 1
    return bring([*state, *(_stacked(outputs) for outputs in stacked_outputs)], device)


def _stacked(outputs: list[Tensor]) -> Tensor:
    return torch.stack(outputs) if outputs else torch.zeros(0)


def scan(node: Node) -> Function:
    """Scan: states carried over slices of its inputs."""
    body, _ = node.plan("body")
    inputs = node.integer("num_scan_inputs")
    states = len(node.inputs) - inputs
    outputs = len(node.outputs) - states
    return partial(
        _scan,
        body,
        states,
        node.integers("scan_input_axes") or (0,) * inputs,
        node.integers("scan_input_directions") or (0,) * inputs,
        node.integers("scan_output_axes") or (0,) * outputs,
        node.integers("scan_output_directions") or (0,) * outputs,
    )


def _scan(
    body: Plan,
    states: int,
    axes: tuple[int, ...],
    directions: tuple[int, ...],
    out_axes: tuple[int, ...],
    out_directions: tuple[int, ...],
    *values: Any,
) -> tuple[Any, ...]:
    state, captured = list(values[:states]), values[states + len(axes) :]
    slices = [
        list(x.unbind(axis))[:: -1 if backward else 1]
        for x, axis, backward in zip(values[states:], axes, directions, strict=False)
    ]
    stacked_outputs: list[list[Tensor]] = [[] for _ in out_axes]
    for elements in zip(*slices, strict=True):
        results = call(body, [*state, *elements, *captured])
        state = results[:states]
        for outputs, output in zip(stacked_outputs, results[states:], strict=True):
            outputs.append(output)
    stacked = [
        torch.stack(outputs[:: -1 if backward else 1], axis)
        for outputs, axis, backward in zip(stacked_outputs, out_axes, out_directions, strict=True)
    ]
    return bring([*state, *stacked], device_of(values))
