"""Memory that goes back to the system as soon as it is free."""

import ctypes

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of glibc's ``mallopt``."""

_LARGE = 1 << 20


def return_large_blocks() -> None:
    """Let each block of 1 MiB or more be memory of its own, for the rest of the process.

    glibc raises that bound, up to 32 MiB, whenever a larger block is freed: weights that come and
    go then leave holes in its heap, which nobody gets back. A C library without the bound stays as
    it is.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is not None:
        setting(_MMAP_THRESHOLD, _LARGE)
