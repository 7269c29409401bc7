"""HTTP/1.1 as uvicorn reads it, where what cannot be read is refused as all else is."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.domain.problems import MalformedRequest
from app.web.problems import respond


class Protocol(HttpToolsProtocol):
    """A connection. Of itself, uvicorn answers in plain text where it cannot parse a request."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (it was logged)
        """Answer with a problem, and close the connection."""
        problem = MalformedRequest(
            "The request is no valid HTTP/1.1, or its address is longer than 65,535 bytes.",
            headers={"Connection": "close"},
        )
        answer = respond(problem)
        headers = b"".join(b"%s: %s\r\n" % header for header in answer.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + headers + b"\r\n" + answer.body)
        self.transport.close()
