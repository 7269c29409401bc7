"""Which samples of one dataset are also in another."""

import hashlib

from workers.compression.samples.context import Samples


def rows_apart(samples: Samples, others: Samples) -> list[int]:
    """Return the rows of samples whose inputs are those of none of the others.

    Args:
        samples: of the same inputs as ``others``, with the same dtypes.
        others: each is read once.
    """
    known = {_digest(others, row) for row in others.indices}
    return [row for row in samples.indices if _digest(samples, row) not in known]


def _digest(samples: Samples, row: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(samples.arrays):
        array = samples.arrays[name][row]
        digest.update(f"{name} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.digest()
