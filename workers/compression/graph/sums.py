"""Dynamic dimensions that are sums of others, such as ``past_length + length``.

Exporters of decoders name the length of the attention mask so.
"""

from collections.abc import Mapping

_PLUS = " + "


def terms(name: str) -> list[str]:
    """Return the terms of a dimension that is a sum, and none for any other."""
    parts = name.split(_PLUS)
    are_terms = all(part.isidentifier() or part.isdecimal() for part in parts)
    return parts if len(parts) > 1 and are_terms else []


def size_of(size: int | str, sizes: Mapping[str, int]) -> int:
    """Return the size of a dimension: a number, a name, or a sum of both.

    Raises:
        KeyError: a name has no size.
    """
    if isinstance(size, int):
        return size
    if size in sizes:
        return sizes[size]
    parts = terms(size)
    if not parts:
        raise KeyError(size)
    return sum(int(part) if part.isdecimal() else sizes[part] for part in parts)


def substituted(name: str, sizes: Mapping[str, int | str]) -> int | str:
    """Return the new name or size of a dimension; without one, a sum gets those of its terms.

    Args:
        name: the name of the dimension.
        sizes: new names and sizes of dimensions; the others stay as they are.
    """
    new = sizes.get(name, name)
    parts = [str(sizes.get(part, part)) for part in terms(name)]
    if new != name or not parts:
        return new
    return sum(map(int, parts)) if all(map(str.isdecimal, parts)) else _PLUS.join(parts)


def with_sums(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return sizes in which each sum has the size of its terms, where those have sizes."""
    settled = dict(sizes)
    for name in sizes:
        parts = terms(name)
        if parts and all(part.isdecimal() or part in sizes for part in parts):
            settled[name] = sum(int(part) if part.isdecimal() else sizes[part] for part in parts)
    return settled
