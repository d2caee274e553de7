"""Error replies of middleware and transport, which Litestar's exception handlers do not reach."""

from http import HTTPStatus

import msgspec
from litestar.types import Send

from server.http.problems import Problem


async def send_problem(problem: Problem, send: Send) -> None:
    """Send the problem as an ASGI response."""
    body = msgspec.json.encode(problem.body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(problem.retry_after).encode()))
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def problem_bytes(problem: Problem) -> bytes:
    """Return a whole HTTP/1.1 reply, for a connection that is closed after it."""
    body = msgspec.json.encode(problem.body)
    head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
