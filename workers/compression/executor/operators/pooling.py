"""Pools."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.operators.reduction import root
from workers.compression.executor.operators.windows import interleaved, same_padding
from workers.compression.executor.plan import Function

_MAX: dict[int, Callable[..., Tensor]] = {
    1: torch.max_pool1d,
    2: torch.max_pool2d,
    3: torch.max_pool3d,
}
_AVERAGE: dict[int, Callable[..., Tensor]] = {
    1: torch.nn.functional.avg_pool1d,
    2: torch.nn.functional.avg_pool2d,
    3: torch.nn.functional.avg_pool3d,
}


@dataclass(frozen=True)
class Window:
    """The attributes of a sliding window, with a number for each spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto: str
    ceil: bool

    @classmethod
    def of(cls, node: Node) -> "Window":
        """Read a pool's attributes."""
        kernel = node.integers("kernel_shape") or ()
        if len(kernel) not in _MAX:
            raise Unsupported(f"{node.op_type} over {len(kernel)} dimensions")
        ones = (1,) * len(kernel)
        return cls(
            kernel,
            node.integers("strides") or ones,
            node.integers("dilations") or ones,
            node.integers("pads") or (0,) * (2 * len(kernel)),
            node.text("auto_pad", "NOTSET"),
            bool(node.integer("ceil_mode")),
        )

    @property
    def simple(self) -> bool:
        """Whether torch's pools can do it: equal pads at both ends, at most half the window."""
        rank = len(self.kernel)
        begins, ends = self.pads[:rank], self.pads[rank:]
        small = all(2 * pad <= size for pad, size in zip(begins, self.kernel, strict=True))
        return self.auto in {"NOTSET", "VALID"} and begins == ends and small and not self.ceil

    def within(self, sizes: Sequence[int]) -> "Window":
        """Return a window that is nowhere larger than a picture of these sizes without padding."""
        if self.auto != "NOTSET" or any(self.pads) or any(each > 1 for each in self.dilations):
            return self
        return replace(self, kernel=tuple(map(min, self.kernel, sizes)))

    def padding(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the declared pads, and the extra padding at each axis's end, last axis first.

        With ``ceil`` the last window may reach beyond the padded input; a window that would begin
        in the padding at the end is left out.
        """
        rank = len(self.kernel)
        if self.auto.startswith("SAME"):
            upper = self.auto == "SAME_UPPER"
            padding = same_padding(sizes, self.kernel, self.strides, self.dilations, upper=upper)
            return padding, [0] * rank
        pads = self.pads if self.auto == "NOTSET" else (0,) * (2 * rank)
        begins, ends = pads[:rank], pads[rank:]
        extra = [0] * rank
        for axis in range(rank) if self.ceil else ():
            reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            slack = sizes[axis] + begins[axis] + ends[axis] - reach
            count = -(-slack // self.strides[axis]) + 1
            if (count - 1) * self.strides[axis] >= sizes[axis] + begins[axis]:
                count -= 1
            extra[axis] = max(0, (count - 1) * self.strides[axis] - slack)
        return list(interleaved(begins, ends)), extra[::-1]


def max_pool(node: Node) -> Function:
    """MaxPool, with the indices of the largest elements if they are read."""
    window = Window.of(node)
    if node.is_read(1):
        return partial(_max_pool_with_indices, window, bool(node.integer("storage_order")))
    kind = node.dtype(0)
    if window.simple and kind is not None and kind.is_floating_point():
        return partial(
            _MAX[len(window.kernel)],
            kernel_size=window.kernel,
            stride=window.strides,
            padding=window.pads[: len(window.kernel)],
            dilation=window.dilations,
        )
    return partial(_max_pool, window)


def _padded_for_max(window: Window, x: Tensor) -> tuple[Tensor, list[int]]:
    pads, extra = window.padding(x.shape[2:])
    padding = [pad + (extra[i // 2] if i % 2 else 0) for i, pad in enumerate(pads)]
    lowest = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    return F.pad(x, padding, value=lowest), padding


def _max_pool(window: Window, x: Tensor) -> Tensor:
    padded, _ = _padded_for_max(window, x)
    if not x.is_floating_point():
        return _max_pool_of_integers(window, padded)
    pool = _MAX[len(window.kernel)]
    return pool(padded, window.kernel, window.strides, 0, window.dilations)


def _max_pool_of_integers(window: Window, padded: Tensor) -> Tensor:
    pool = _MAX[len(window.kernel)]
    y = pool(padded.double(), window.kernel, window.strides, 0, window.dilations)
    return y.to(padded.dtype)


def _max_pool_with_indices(window: Window, columns: bool, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and indices, which count through the whole unpadded input.

    With ``columns`` the indices count column by column (``storage_order`` 1).
    """
    padded, padding = _padded_for_max(window, x)
    rank = len(window.kernel)
    pool = getattr(F, f"max_pool{rank}d")
    values, indices = pool(
        padded.double() if not x.is_floating_point() else padded,
        window.kernel,
        window.strides,
        0,
        window.dilations,
        return_indices=True,
    )
    begins = padding[::2][::-1]
    coordinates = []
    for axis in reversed(range(rank)):
        coordinates.append(indices % padded.shape[2 + axis] - begins[axis])
        indices = indices // padded.shape[2 + axis]
    spatial = coordinates[::-1]
    order = range(rank) if not columns else [*range(rank - 2), rank - 1, rank - 2]
    flat = torch.zeros_like(spatial[0])
    for axis in order:
        flat = flat * x.shape[2 + axis] + spatial[axis]
    images = torch.arange(prod(x.shape[:2]), device=x.device).reshape(*x.shape[:2], *(1,) * rank)
    return values.to(x.dtype), flat + images * prod(x.shape[2:])


def average_pool(node: Node) -> Function:
    """AveragePool. Padding counts by attribute; the extra padding of ``ceil_mode`` never does."""
    window, include_padding = Window.of(node), bool(node.integer("count_include_pad"))
    plain = all(dilation == 1 for dilation in window.dilations)
    if window.simple and plain:
        return partial(
            _AVERAGE[len(window.kernel)],
            kernel_size=window.kernel,
            stride=window.strides,
            padding=window.pads[: len(window.kernel)],
            count_include_pad=include_padding,
        )
    return partial(_average_pool, window, include_padding)


def _average_pool(window: Window, include_padding: bool, x: Tensor) -> Tensor:
    """Divide the sum of each window by the number of its elements that count."""
    fixed = all(type(size) is int for size in x.shape[2:])
    if fixed:
        window = window.within(x.shape[2:])
    pads, extra = window.padding(x.shape[2:])
    extra_padding = [amount for size in extra for amount in (0, size)]
    if fixed:
        padded = F.pad(F.pad(x, pads), extra_padding) if any(pads) or any(extra) else x
        counts = _counts(window, include_padding, tuple(x.shape[2:]))
        return _divided(_window_sum(window, padded), counts)
    sums = _window_sum(window, F.pad(F.pad(x, pads), extra_padding))
    ones = x.new_ones((1, 1, *x.shape[2:]))
    ones = F.pad(F.pad(ones, pads, value=1.0 if include_padding else 0.0), extra_padding)
    return sums / _window_sum(window, ones)


@lru_cache(maxsize=256)
def _counts(window: Window, include_padding: bool, sizes: tuple[int, ...]) -> list[list[int]]:
    """Return for each axis how many elements count at each place of the window."""
    pads, extra = window.padding(sizes)
    counts = []
    for axis, size in enumerate(sizes):
        begin, end = pads[::2][::-1][axis], pads[1::2][::-1][axis]
        counted = [include_padding] * begin + [True] * size + [include_padding] * end
        counted += [False] * extra[::-1][axis]
        reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        counts.append(
            [
                sum(counted[start : start + reach : window.dilations[axis]])
                for start in range(0, len(counted) - reach + 1, window.strides[axis])
            ]
        )
    return counts


def _divided(sums: Tensor, counts: list[list[int]]) -> Tensor:
    """Divide sums by the product of the counts of their places, by one number where all are one."""
    if all(len(set(axis)) == 1 for axis in counts):
        return sums / prod(axis[0] for axis in counts)
    for axis, each in enumerate(counts):
        shape = [len(each) if axis == place else 1 for place in range(len(counts))]
        sums = sums / sums.new_tensor(each).reshape(shape)
    return sums


def _window_sum(window: Window, x: Tensor) -> Tensor:
    """Sum over windows: by torch's own pool, or by a depthwise convolution where it has gaps."""
    rank = len(window.kernel)
    if all(dilation == 1 for dilation in window.dilations):
        # Multiplied before the pool: LiteRT would pool rounded values in integers, and round again.
        return _AVERAGE[rank](x * prod(window.kernel), window.kernel, window.strides)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    weight = x.new_ones((1, 1, *window.kernel))
    rows = x.reshape(-1, 1, *x.shape[2:])
    y = conv(rows, weight, None, window.strides, 0, window.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def lp_pool(node: Node) -> Function:
    """LpPool: the norm of each window."""
    return partial(_lp_pool, Window.of(node), node.integer("p", 2))


def _lp_pool(window: Window, power: int, x: Tensor) -> Tensor:
    pads, extra = window.padding(x.shape[2:])
    extra_padding = [amount for size in extra for amount in (0, size)]
    powers = F.pad(F.pad(x.abs() ** power, pads), extra_padding)
    return root(_window_sum(window, powers), power)


def global_average_pool(node: Node) -> Function:
    """GlobalAveragePool; for images by torch's adaptive pool, whose gradient is faster."""
    if node.rank(0) == 4:
        return partial(F.adaptive_avg_pool2d, output_size=1)
    return _global_average


def _global_average(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(_node: Node) -> Function:
    """GlobalMaxPool."""
    return _global_max


def _global_max(x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


def global_lp_pool(node: Node) -> Function:
    """GlobalLpPool."""
    return partial(_global_lp, node.integer("p", 2))


def _global_lp(power: int, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, power, tuple(range(2, x.ndim)), keepdim=True)
    return norm
