"""``python -m benchmarks._load URL SECONDS [HEADER…]``: how many GETs a second a server answers.

A process of its own, so that its work is not the measured program's; it prints the rate.
"""

import asyncio
import re
import sys
import time
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 16
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


async def rate(url: str, seconds: float, headers: list[str]) -> float:
    """Return the answers a second on connections that ask again as soon as they are answered."""
    parts = urlsplit(url)
    lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    request = "\r\n".join(lines).encode()
    until = time.perf_counter() + seconds
    each = (_ask(parts.port or 80, request, until) for _ in range(CONNECTIONS))
    return sum(await asyncio.gather(*each)) / seconds


async def _ask(port: int, request: bytes, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while time.perf_counter() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert length, head
        await reader.readexactly(int(length[1]))
        answered += 1
    writer.close()
    return answered


if __name__ == "__main__":
    print(uvloop.run(rate(sys.argv[1], float(sys.argv[2]), sys.argv[3:])))
