"""Replies from outside the routes, where there is no Litestar to make them."""

import msgspec
from litestar.types import Send

from server.exceptions import Problem


async def send_problem(problem: Problem, send: Send) -> None:
    body = msgspec.json.encode(problem.body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(problem.retry_after).encode()))
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
