"""Sequences of tensors. Here they are lists, which no operator changes in place."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from workers.compression.executor.devices import bring, device_of
from workers.compression.executor.node import Node, listed
from workers.compression.executor.plan import Function, Plan, call

Tensors = list[Tensor]


def construct(_: Node) -> Function:
    """SequenceConstruct."""
    return _construct


def _construct(*tensors: Tensor) -> Tensors:
    return list(tensors)


def empty(_: Node) -> Function:
    """SequenceEmpty."""
    return _construct


def insert(node: Node) -> Function:
    """SequenceInsert: puts a tensor before a position, or at the end if there is none."""
    node.sizes.add(2)
    return _insert


def _insert(tensors: Tensors, tensor: Tensor, position: Tensor | None = None) -> Tensors:
    place = len(tensors) if position is None else int(position)
    return [*tensors[:place], tensor, *tensors[place:]]


def erase(node: Node) -> Function:
    """SequenceErase: takes out the tensor at a position, or the last one if there is none."""
    node.sizes.add(1)
    return _erase


def _erase(tensors: Tensors, position: Tensor | None = None) -> Tensors:
    place = -1 if position is None else int(position)
    return [tensor for index, tensor in enumerate(tensors) if index != place % len(tensors)]


def at(node: Node) -> Function:
    """SequenceAt."""
    node.sizes.add(1)
    return _at


def _at(tensors: Tensors, position: Tensor) -> Tensor:
    return tensors[int(position)]


def length(_: Node) -> Function:
    """SequenceLength."""
    return _length


def _length(tensors: Tensors) -> Tensor:
    return torch.tensor(len(tensors), device=device_of([tensors]))


def split(node: Node) -> Function:
    """SplitToSequence: into parts of given sizes, of one size, or into slices along an axis."""
    axis = node.integer("axis")
    if not node.has(1):
        return partial(_slices, axis, bool(node.integer("keepdims", 1)))
    if (constants := node.bind(1)) is None:
        return partial(_split_at, axis)
    return partial(_split, axis, _sizes(constants[0]))


def _sizes(split_: Any) -> int | list[int]:
    """Return the size of all parts, which a single number is, or the size of each."""
    return list(listed(split_) or ()) if split_.ndim else int(split_)


def _split(axis: int, sizes: int | list[int], x: Tensor) -> Tensors:
    return list(torch.split(x, sizes, axis))


def _split_at(axis: int, x: Tensor, sizes: Tensor) -> Tensors:
    return _split(axis, sizes.tolist(), x)


def _slices(axis: int, keeps_axis: bool, x: Tensor) -> Tensors:
    return _split(axis, 1, x) if keeps_axis else list(x.unbind(axis))


def concat(node: Node) -> Function:
    """ConcatFromSequence: along an axis, or along a new one."""
    join = torch.stack if node.integer("new_axis") else torch.cat
    return partial(join, dim=node.integer("axis"))


def map_(node: Node) -> Function:
    """SequenceMap: a subgraph of each element, and of whatever else it reads."""
    body, _ = node.plan("body")
    return partial(_map, body, len(node.inputs))


def _map(body: Plan, inputs: int, tensors: Tensors, *others: Any) -> tuple[Tensors, ...]:
    """Run the body for each element; further sequences give it theirs, tensors are given whole."""
    further, captured = others[: inputs - 1], others[inputs - 1 :]
    results: Sequence[list[Any]] = [[] for _ in body.outputs]
    for index, tensor in enumerate(tensors):
        elements = [other[index] if isinstance(other, list) else other for other in further]
        for result, output in zip(results, call(body, [tensor, *elements, *captured]), strict=True):
            result.append(output)
    return bring(results, device_of((tensors, *others)))
