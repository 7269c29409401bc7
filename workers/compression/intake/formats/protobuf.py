"""Tells protobuf files apart, which have no magic bytes, by the keys that they begin with."""

_NUMBER, _MESSAGE = 0, 2
_MORE = 0x80
"""The bit of a number's byte that says that another one follows."""


def keys_of(head: bytes) -> bytes:
    """Return the keys of the first fields of a file, and of the first message in each message.

    Text is taken for a message, as nothing tells them apart: behind it the keys mean nothing. See
    https://protobuf.dev/programming-guides/encoding.
    """
    place, keys = 0, bytearray()
    while place < len(head) and head[place] & 7 in {_NUMBER, _MESSAGE}:
        keys.append(head[place])
        place += 1
        while place < len(head) and head[place] & _MORE:
            place += 1
        place += 1
    return bytes(keys)
