"""In-place activations: where it is safe, an activation overwrites its input."""

from functools import partial

import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.drafts import Draft
from workers.compression.executor.plan import Function

_FRESH = frozenset(
    {"Add", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "Gemm", "Mul", "Sub"}
)
"""Operators that return a newly allocated tensor, which their gradient does not need."""

_OVERWRITING: dict[Function, Function] = {
    torch.relu: torch.relu_,
    F.hardtanh: F.hardtanh_,
    F.leaky_relu: F.leaky_relu_,
}
"""The in-place form of functions whose gradients need only their output."""


def overwriting(drafts: list[Draft], outputs: list[int]) -> None:
    """Let an activation overwrite its input where no other step reads that input.

    Args:
        drafts: the steps; their functions are replaced by the in-place forms.
        outputs: slots that are returned and must keep their values.
    """
    readers: dict[int, int] = dict.fromkeys(outputs, 2)
    fresh = set()
    for draft in drafts:
        for slot in draft.inputs:
            readers[slot] = readers.get(slot, 0) + 1
        if draft.op_type in _FRESH:
            fresh.add(draft.outputs[0])
    for draft in drafts:
        if draft.inputs and draft.inputs[0] in fresh and readers[draft.inputs[0]] == 1:
            draft.function = _twin(draft.function)


def _twin(function: Function) -> Function:
    if isinstance(function, partial):
        return partial(_twin(function.func), *function.args, **function.keywords)
    return _OVERWRITING.get(function, function)
