"""The route class that limits the size of request bodies."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from serverpy.errors import TooLarge

MAX_BODY_BYTES = 64 * 1024


class BodyRoute(APIRoute):
    """A route that accepts request bodies of at most `MAX_BODY_BYTES` bytes. `StreamProtocol` limits bodies, too, but
    other ASGI servers do not."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then handle the request. Raises `TooLarge` if the body has more than `MAX_BODY_BYTES`
        bytes."""
        body = await _read(receive)
        if body is None:
            return  # no response is needed, because the client has disconnected

        async def replay() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        await super().handle(scope, replay, send)


async def _read(receive: Receive) -> bytes | None:
    """Return the body of a request. Returns None if the client disconnects before it has sent the whole body. Raises
    `TooLarge` if the body has more than `MAX_BODY_BYTES` bytes."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"The request body is too large: at most {MAX_BODY_BYTES} bytes are allowed.")
        if not message.get("more_body", False):
            return body
    return None
