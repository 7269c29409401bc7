"""Branches and loops: subgraphs run by the same loop as the graph around them."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function, Plan, call


def if_(node: Node) -> Function:
    """If."""
    then, count = node.plan("then_branch")
    otherwise, _ = node.plan("else_branch")
    return partial(_if, then, otherwise, count)


def _if(then: Plan, otherwise: Plan, count: int, condition: Tensor, *captured: Any) -> Any:
    chosen, given = (then, captured[:count]) if condition.item() else (otherwise, captured[count:])
    return tuple(call(chosen, given))


def loop(node: Node) -> Function:
    """Loop: a trip count and a condition, either may be missing."""
    body, _ = node.plan("body")
    node.sizes |= {0, 1}
    return partial(_loop, body, len(node.inputs) - 2)


def _loop(
    body: Plan, carried: int, count: Tensor | None, condition: Tensor | None, *values: Any
) -> tuple[Any, ...]:
    state, captured = list(values[:carried]), values[carried:]
    collected: list[list[Tensor]] = [[] for _ in range(len(body.outputs) - 1 - carried)]
    limit = None if count is None else int(count)
    going, step = condition is None or bool(condition), 0
    while going and (limit is None or step < limit):
        given = [torch.tensor(step), torch.tensor(True), *state, *captured]
        going, *results = call(body, given)
        state = results[:carried]
        for rows, row in zip(collected, results[carried:], strict=True):
            rows.append(row)
        step += 1
    return (*state, *(_stacked(rows) for rows in collected))


def _stacked(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows) if rows else torch.zeros(0)


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
    collected: list[list[Tensor]] = [[] for _ in out_axes]
    for given in zip(*slices, strict=True):
        results = call(body, [*state, *given, *captured])
        state = results[:states]
        for rows, row in zip(collected, results[states:], strict=True):
            rows.append(row)
    stacked = [
        torch.stack(rows[:: -1 if backward else 1], axis)
        for rows, axis, backward in zip(collected, out_axes, out_directions, strict=True)
    ]
    return (*state, *stacked)
