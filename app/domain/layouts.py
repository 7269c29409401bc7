"""The layouts of compact networks for the shapes of their inputs.

The engine builds networks by these rules, and a plan describes them.
"""

from collections.abc import Sequence

from app.domain.models import TensorSpec

HALVINGS = {"mobilenet_v2": 5, "mobilenet_v3": 5, "shufflenet_v2": 5, "resnet_cifar": 4}
"""How often the original network for 224 × 224 pixels halves a picture."""

_LEAST_SIDE = {"resnet_cifar": 7}
_USUAL_LEAST_SIDE = 4
"""The least side, in pixels, after the last halving, as in layouts for MNIST and CIFAR."""
_USUAL_SIDE = 32
"""A smaller picture gets fewer blocks as well."""
_PATCHES, _LARGEST_PATCH = 8, 16
"""Patches of a picture a side, and pixels of a patch, as in ViT/16 (Dosovitskiy et al. 2021)."""
_TOKENS = 256
"""The most tokens of a sequence; the cost of attention grows with their square."""


def halvings(architecture: str, side: int) -> int:
    """Return how often a network halves pictures, whose shorter side has ``side`` pixels."""
    least, count = _LEAST_SIDE.get(architecture, _USUAL_LEAST_SIDE), 0
    while count < HALVINGS[architecture] and -(-side // 2 ** (count + 1)) >= least:
        count += 1
    return count


def blocks(usual: int, side: int) -> int:
    """Return the number of blocks of a stage: ``usual``, or half of it for small pictures."""
    return usual if side >= _USUAL_SIDE else -(-usual // 2)


def picture_patch(side: int) -> int:
    """Return the side, in pixels, of the patches that a transformer reads as tokens."""
    return max(1, min(_LARGEST_PATCH, side // _PATCHES))


def sequence_patch(length: int) -> int:
    """Return the number of positions of a sequence that a transformer reads as one token."""
    return -(-length // _TOKENS)


def describe(architecture: str, width: float | None, inputs: Sequence[TensorSpec]) -> str:
    """Return a description, in words, of a network for given inputs.

    Args:
        architecture: the name of the architecture.
        width: the factor of its channels; None if it is still to be found.
        inputs: its inputs; a dynamic dimension is a string.
    """
    channels = "of the width that meets 'ratio'" if width is None else f"of width {width:g}"
    network = f"a {architecture} {channels}"
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) == 4:
        return f"{network} {_for_pictures(architecture, shape)}"
    if architecture == "transformer" and len(shape) == 3 and isinstance(shape[1], int):
        patch = sequence_patch(shape[1])
        together = f", which it reads {patch} at a time" if patch > 1 else ""
        return f"{network} for sequences of {shape[1]} places{together}"
    return f"{network} for {', '.join(tensor.name for tensor in inputs)}"


def _for_pictures(architecture: str, shape: Sequence[int | str]) -> str:
    last = isinstance(shape[3], int) and isinstance(shape[1], int) and shape[3] < shape[1]
    sides = [size for size in (shape[1:3] if last else shape[2:4]) if isinstance(size, int)]
    if len(sides) < 2:
        return "for pictures, laid out for the size that the dataset's have"
    size = f"for pictures of {sides[0]} × {sides[1]} pixels"
    if architecture == "transformer":
        patch = picture_patch(min(sides))
        return f"{size}, which it reads in patches of {patch} × {patch}"
    if architecture in HALVINGS:
        count = halvings(architecture, min(sides))
        ends = " × ".join(str(-(-side // 2**count)) for side in sides)
        return f"{size}, which it halves {count} of {HALVINGS[architecture]} times, to {ends}"
    return size
