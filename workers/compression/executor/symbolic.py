"""Shape arithmetic on the sizes of an export, some of which are symbols of torch.

A tensor of symbols has no values that a shape could be made of. So while a graph is exported, Shape
gives ``Sizes``, and the operators of shape arithmetic compute with those as they do with tensors in
host memory: torch hands each call on to ``Sizes`` by its protocol ``__torch_function__``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.compression.executor.node import Unsupported

_Array = NDArray[np.object_]
_SIZE_TYPES = {torch.int32, torch.int64, torch.float32, torch.bool}
_MOST_SIZES = 64
"""Elements of a constant that may be a part of shape arithmetic."""
_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


class Sizes:
    """An array of numbers and symbols, with the methods of a tensor that shape arithmetic uses."""

    def __init__(self, array: Any, dtype: torch.dtype = torch.int64) -> None:
        self._array: _Array = np.asarray(array, dtype=object)
        self.dtype = dtype

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        _types: Sequence[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute one of torch's functions.

        Raises:
            Unsupported: shapes are not computed with it.
        """
        name, named = getattr(function, "__name__", str(function)), dict(keywords or {})
        values = [each for each in _flat([*arguments, *named.values()]) if _has_type(each)]
        compute = None if any(map(_is_data, values)) else _FUNCTIONS.get(name)
        if compute is None and not any(isinstance(a, Sizes) and a.is_symbolic for a in values):
            tensors = {key: _as_tensor(value) for key, value in named.items()}
            return function(*map(_as_tensor, arguments), **tensors)
        if compute is None:
            raise Unsupported(f"shapes that {name} computes")
        plain = {_NAMES.get(key, key): _plain(value) for key, value in named.items()}
        result = compute(*[_plain(argument) for argument in arguments], **plain)
        return Sizes(result, _type_of(name, [each.dtype for each in values]))

    @property
    def is_symbolic(self) -> bool:
        """Whether a number is a symbol."""
        return any(isinstance(element, _SYMBOLS) for element in self._array.reshape(-1))

    @property
    def shape(self) -> torch.Size:
        """The shape of the array itself."""
        return torch.Size(self._array.shape)

    @property
    def ndim(self) -> int:
        """The rank of the array itself."""
        return self._array.ndim

    def numel(self) -> int:
        """Return the number of elements."""
        return int(self._array.size)

    def is_floating_point(self) -> bool:
        """Return whether the numbers stand for floats."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Return False."""
        return False

    def item(self) -> Any:
        """Return the only number or symbol."""
        return self._array.item()

    def __int__(self) -> int:
        """Return the only number; a symbol is fixed to what it stands for."""
        return int(self.item())

    def tolist(self) -> Any:
        """Return the numbers and symbols as nested lists."""
        return self._array.tolist()

    def reshape(self, *shape: Any) -> "Sizes":
        """Return the same elements in another shape."""
        return Sizes(self._array.reshape(*shape), self.dtype)

    def unsqueeze(self, axis: int) -> "Sizes":
        """Add an axis of size 1."""
        return Sizes(np.expand_dims(self._array, axis), self.dtype)

    def take(self, axis: int, indices: "Sizes | Tensor") -> "Sizes":
        """Pick elements along an axis, as Gather does."""
        return Sizes(self._array.take(_plain(indices).astype(np.int64), axis), self.dtype)

    def prod(self, axis: int, *, keepdim: bool, dtype: torch.dtype) -> "Sizes":
        """Multiply along an axis."""
        array: NDArray[Any] = self._array
        return Sizes(np.prod(array, axis=axis, keepdims=keepdim), dtype)

    def __getitem__(self, key: Any) -> "Sizes":
        """Return a slice."""
        return Sizes(self._array[key], self.dtype)

    def to(self, target: Any, *, non_blocking: bool = False) -> "Sizes | Tensor":
        """Return the numbers in another type; or, where a device is named, as a tensor of it."""
        del non_blocking
        if isinstance(target, torch.device):
            return self._tensor(target)
        convert: Any = torch.sym_float if target.is_floating_point else torch.sym_int
        if target == torch.bool:
            return Sizes(self._array != 0, target)
        if target == self.dtype:
            return self
        converted = [convert(element) for element in self._array.reshape(-1)]
        return Sizes(_array(converted, self._array.shape), target)

    def _tensor(self, device: torch.device) -> Tensor:
        if not self.is_symbolic:
            return torch.tensor(self.tolist(), dtype=self.dtype, device=device)
        elements = [
            torch.full((), element, dtype=self.dtype, device=device)
            for element in self._array.reshape(-1)
        ]
        return torch.stack(elements).reshape(self._array.shape)


def sizes_of(shape: Sequence[Any]) -> "Tensor | Sizes":
    """Return the sizes of a tensor, as a tensor in host memory; in an export, as ``Sizes``."""
    if not torch.compiler.is_exporting():
        return torch.tensor(shape, dtype=torch.int64)
    return Sizes(_array(list(shape), (len(shape),)))


def sizes_or_weight(tensor: Tensor) -> "Tensor | Sizes":
    """Return a constant of shape arithmetic as ``Sizes``; larger ones are data, and stay."""
    if tensor.dtype not in _SIZE_TYPES or tensor.numel() > _MOST_SIZES:
        return tensor
    return Sizes(tensor.numpy().astype(object), tensor.dtype)


def _has_type(value: Any) -> bool:
    return isinstance(value, Sizes | Tensor)


def _is_data(value: Any) -> bool:
    """Return whether a value is what the export traces, and no number that is known."""
    return isinstance(value, Tensor) and type(value) not in {Tensor, torch.nn.Parameter}


def _type_of(name: str, types: list[torch.dtype]) -> torch.dtype:
    """Return the type of what a function of torch computes from values of some types."""
    if name in _COMPARISONS:
        return torch.bool
    chosen = types[1:] if name == "where" and len(types) > 1 else types
    return next((each for each in chosen if each.is_floating_point), chosen[0])


def _as_tensor(value: Any) -> Any:
    """Return numbers as a tensor again."""
    if isinstance(value, list | tuple):
        return type(value)(map(_as_tensor, value))
    return value.to(torch.device("cpu")) if isinstance(value, Sizes) else value


def _array(elements: list[Any], shape: Sequence[int]) -> _Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def _plain(value: Any) -> Any:
    """Return sizes and tensors as arrays of objects."""
    if isinstance(value, Sizes):
        return value._array  # noqa: SLF001
    if isinstance(value, Tensor):
        return value.numpy().astype(object)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _flat(arguments: Sequence[Any]) -> list[Any]:
    return [
        item
        for argument in arguments
        for item in (argument if isinstance(argument, list | tuple) else [argument])
    ]


def _squeeze(x: _Array, axis: Any = None) -> _Array:
    axes = [axis] if isinstance(axis, int) else axis
    return x.squeeze(None if axes is None else tuple(a for a in axes if x.shape[a] == 1))


def _div(x: _Array, other: Any, rounding_mode: str | None = None) -> Any:
    """Divide; sizes are not negative, so that rounding to zero is rounding down."""
    return x / other if rounding_mode is None else x // other


def _flatten(x: _Array, start: int = 0) -> _Array:
    return x.reshape(*x.shape[:start], -1)


_COMPARISONS = frozenset({"eq", "gt", "lt"})
_NAMES = {"dim": "axis", "start_dim": "start"}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, other: x + other,
    "sub": lambda x, other: x - other,
    "rsub": lambda x, other: other - x,
    "mul": lambda x, other: x * other,
    "div": _div,
    "remainder": lambda x, other: x % other,
    "neg": lambda x: -x,
    "eq": lambda x, other: x == other,
    "gt": lambda x, other: x > other,
    "lt": lambda x, other: x < other,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": lambda condition, x, other: np.where(condition.astype(bool), x, other),
    "cat": lambda tensors, axis=0: np.concatenate(tensors, axis),
    "select": lambda x, axis, index: x.take(index, axis),
    "unsqueeze": np.expand_dims,
    "squeeze": _squeeze,
    "reshape": lambda x, shape: x.reshape(shape),
    "flatten": _flatten,
    "ones_like": np.ones_like,
    "zeros_like": np.zeros_like,
}
"""What shapes are computed with, by the names of torch's functions."""
