"""The arithmetic of sliding windows, shared by convolutions and pools."""

from collections.abc import Sequence


def split_padding(pads: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Divide ONNX pads ``[begins..., ends...]``.

    Returns:
        If both ends of each axis have the same padding: that padding for torch's operators, and
        None. Else: zeros, and the padding for ``torch.nn.functional.pad`` (last axis first).
    """
    rank = len(pads) // 2
    begins, ends = tuple(pads[:rank]), tuple(pads[rank:])
    if begins == ends and min(begins, default=0) >= 0:
        return begins, None
    return (0,) * rank, interleaved(begins, ends)


def interleaved(begins: Sequence[int], ends: Sequence[int]) -> tuple[int, ...]:
    """Return pads in the order of ``torch.nn.functional.pad``: last axis first."""
    pairs = zip(reversed(begins), reversed(ends), strict=True)
    return tuple(amount for pair in pairs for amount in pair)


def same_padding(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    upper: bool,
) -> list[int]:
    """Return pads, last axis first, with which a window gives ``ceil(size / stride)`` outputs.

    Args:
        sizes: the sizes of the data's spatial axes.
        kernel: the sizes of the window.
        strides: the strides of the window.
        dilations: the dilations of the window.
        upper: whether the end gets the larger part of an odd padding.
    """
    begins, ends = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (width - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        small, large = total // 2, total - total // 2
        begins.append(small if upper else large)
        ends.append(large if upper else small)
    return list(interleaved(begins, ends))
