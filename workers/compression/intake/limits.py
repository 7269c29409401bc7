"""The limits on an upload, which are checked first, on the bytes themselves."""

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits on unpacking one archive. Sizes are bytes."""

    entries: int = 10_000
    total: int = 32 * GIB
    """Bytes of all unpacked files together, counted while they are written."""
    ratio: int = 250
    """Unpacked bytes for each byte of the archive; checked only past ``ratio_from``."""
    ratio_from: int = 16 * MIB
    path_length: int = 512
    path_depth: int = 16


@dataclass(frozen=True)
class ModelLimits:
    """Limits on one ONNX graph."""

    file: int = 2 * GIB - 1
    """Bytes of the protobuf; no implementation reads more. Larger weights come as external
    data."""
    fields: int = 20_000_000
    """Protobuf fields outside of tensor contents: bounds the parsed message's memory. Forty for
    each node: exporters write the shape of every value."""
    messages: int = 95
    """Nesting of protobuf messages; the parsers stop at 100."""
    subgraphs: int = 31
    """Nesting of graphs in attributes."""
    nodes: int = 500_000
    """The number of nodes after all local functions are inlined."""
    elements: int = 1 << 40
    """The number of elements of one tensor."""
    name: int = 4 * KIB
    """The number of characters of one name."""
    inputs: int = 1_000
    """The number of inputs, and of outputs."""


@dataclass(frozen=True)
class DatasetLimits:
    """Limits on one dataset. Sizes are bytes."""

    arrays: int = 1_000
    header: int = 64 * KIB
    """Bytes of the header of one ``.npy`` member."""
    rank: int = 16
    samples: int = 100_000_000
    pixels: int = 64_000_000
    """The number of pixels of one image, before it is resized."""
    classes: int = 100_000
    total: int = 64 * GIB
    """Bytes of all arrays after they are fitted to a model."""
