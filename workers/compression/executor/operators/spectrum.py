"""Spectra of the frames of a signal."""

from functools import partial

import torch
from torch import Tensor

from workers.compression.executor.node import Node, Unsupported, listed
from workers.compression.executor.plan import Function


def stft(node: Node) -> Function:
    """STFT: the fast Fourier transform of each frame."""
    window = node.constant(2)
    sizes = node.bind(1, 3)
    if sizes is None:
        raise Unsupported("STFT whose frames have a computed size")
    (step,), lengths = listed(sizes[0]) or (1,), listed(sizes[1])
    if lengths is not None:
        (length,) = lengths
    elif window is not None:
        length = window.size
    else:
        raise Unsupported("STFT without a known frame length")
    return partial(_stft, step, length, bool(node.integer("onesided", 1)))


def _stft(
    step: int, length: int, onesided: bool, signal: Tensor, window: Tensor | None = None
) -> Tensor:
    """Return the spectrum ``[batch, frames, bins, 2]`` of a signal ``[batch, length, 1 or 2]``."""
    is_complex = signal.shape[-1] > 1
    samples = torch.view_as_complex(signal) if is_complex else signal.reshape(signal.shape[:2])
    frames = samples.unfold(1, length, step)
    if window is not None:
        frames = frames * window
    spectrum = torch.fft.rfft(frames) if onesided and not is_complex else torch.fft.fft(frames)
    return torch.view_as_real(spectrum)
