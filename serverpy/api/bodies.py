"""Routes that read the body of their request."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from serverpy.errors import TooLarge

MAX_BODY_BYTES = 64 * 1024


class BodyRoute(APIRoute):
    """A route that reads at most `MAX_BODY_BYTES`. `StreamProtocol` has a limit, too, but other ASGI servers do not."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then handle the request. Raises `TooLarge` if the body is too large."""
        body = await _read(receive)
        if body is None:
            return  # the client has left

        async def replay() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        await super().handle(scope, replay, send)


async def _read(receive: Receive) -> bytes | None:
    """Return the body of a request. Returns None if the client leaves before it has sent the body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge("The body of the request is too large.")
        if not message.get("more_body", False):
            return body
    return None
