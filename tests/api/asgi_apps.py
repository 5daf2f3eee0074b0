"""ASGI applications that the tests run under uvicorn, hypercorn and other ASGI servers. The applications read their
settings from the environment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from serverpy import create_app

alone = create_app()
_child = create_app()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await _child.aclose()


parent = FastAPI(lifespan=_lifespan)
parent.mount("/media", _child)


@parent.middleware("http")
@parent.middleware("http")
async def _pass_through(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Pass each request on unchanged. This middleware is there because Starlette replaces `receive` and `send` for it,
    and the mounted application must support the replacements."""
    response = await call_next(request)
    response.headers["X-Parent"] = "seen"
    return response
