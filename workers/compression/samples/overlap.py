"""Finds samples that two datasets share."""

import hashlib

from workers.compression.samples.context import Samples


def rows_not_in(samples: Samples, others: Samples) -> list[int]:
    """Return the rows of samples whose inputs equal none of the other samples.

    Args:
        samples: samples of the same inputs and dtypes as ``others``.
        others: the samples to compare with; each is read once.
    """
    digests = {_digest(others, row) for row in others.indices}
    return [row for row in samples.indices if _digest(samples, row) not in digests]


def _digest(samples: Samples, row: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(samples.arrays):
        array = samples.arrays[name][row]
        digest.update(f"{name} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.digest()
