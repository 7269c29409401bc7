"""Makes the C library return freed memory to the system at once."""

import ctypes

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of glibc's ``mallopt``."""

_LARGE = 1 << 20


def return_large_blocks() -> None:
    """Allocate each block of 1 MiB or more by ``mmap``, for the rest of the process.

    glibc raises that bound, up to 32 MiB, whenever a larger block is freed: freed weights then
    leave holes in its heap that are not returned. A C library without this setting is left alone.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is not None:
        setting(_MMAP_THRESHOLD, _LARGE)
