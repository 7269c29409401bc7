"""Operators that sample images at computed coordinates, or assemble images from patches."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported, listed
from workers.compression.executor.plan import Function

_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "cubic": "bicubic",
    "bicubic": "bicubic",
    "nearest": "nearest",
}


def grid_sample(node: Node) -> Function:
    """GridSample of images or volumes."""
    mode = _MODES[node.text("mode", "linear")]
    if node.rank(0) not in {4, 5} or (node.rank(0) == 5 and mode == "bicubic"):
        raise Unsupported(f"{mode} GridSample of {node.rank(0)} axes")
    padding = node.text("padding_mode", "zeros")
    return partial(_grid_sample, mode, padding, bool(node.integer("align_corners")))


def _grid_sample(mode: str, padding: str, corners: bool, x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, mode, padding, corners)


def affine_grid(node: Node) -> Function:
    """AffineGrid."""
    node.sizes.add(1)
    return partial(_affine_grid, bool(node.integer("align_corners")))


def _affine_grid(corners: bool, theta: Tensor, size: Tensor) -> Tensor:
    return F.affine_grid(theta, size.tolist(), corners)


def col2im(node: Node) -> Function:
    """Col2Im of images: overlapping patches are summed into an image."""
    constants = node.bind(1, 2)
    pads = node.integers("pads") or (0, 0, 0, 0)
    if constants is None or pads[:2] != pads[2:] or len(listed(constants[0]) or ()) != 2:
        raise Unsupported("Col2Im with computed or uneven sizes, or not of images")
    return partial(
        F.fold,
        output_size=listed(constants[0]) or (),
        kernel_size=listed(constants[1]) or (),
        dilation=node.integers("dilations") or (1, 1),
        padding=pads[:2],
        stride=node.integers("strides") or (1, 1),
    )


def max_unpool(node: Node) -> Function:
    """MaxUnpool of images: each value goes to its index, all other elements are zero."""
    constants = node.bind(2)
    if constants is None:
        raise Unsupported("MaxUnpool to a computed shape")
    kernel = node.integers("kernel_shape") or ()
    strides, pads = node.integers("strides") or (1,) * len(kernel), node.integers("pads")
    return partial(
        _max_unpool, kernel, strides, pads or (0,) * 2 * len(kernel), listed(constants[0])
    )


def _max_unpool(
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    shape: tuple[int, ...] | None,
    x: Tensor,
    indices: Tensor,
) -> Tensor:
    rank = len(kernel)
    sizes = [
        (size - 1) * strides[axis] - pads[axis] - pads[rank + axis] + kernel[axis]
        for axis, size in enumerate(x.shape[2:])
    ]
    natural_shape = torch.Size([*x.shape[:2], *sizes])
    flat = x.new_zeros(natural_shape.numel()).scatter(0, indices.reshape(-1), x.reshape(-1))
    y = flat.reshape(natural_shape)
    if shape is None:
        return y
    padding = [
        amount
        for a, b in zip(shape[::-1], natural_shape[::-1], strict=True)
        for amount in (0, a - b)
    ]
    return F.pad(y, padding)
