"""Assembly only: `create_app` puts routes, middleware and error handlers around an engine, with a lifespan."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

import serverpy
from serverpy import __version__
from serverpy.api.errors import add_error_handlers, openapi
from serverpy.api.middleware import EXPOSED_HEADERS, RequestMiddleware
from serverpy.api.routes import router
from serverpy.engine import Engine, own_sockets
from serverpy.server import Server
from serverpy.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Create the application. Raises `ConfigurationError` if the settings cannot work together."""
    engine = Engine(settings, own_sockets(settings))  # settings that cannot work fail here, not in the lifespan

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server = Server(engine)
        app.state.server = server
        await server.start()
        try:
            yield
        finally:
            await server.aclose()

    app = FastAPI(title="ServerPY", version=__version__, description=serverpy.__doc__ or "", lifespan=lifespan)
    app.include_router(router)
    app.openapi = functools.partial(openapi, app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    add_error_handlers(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_credentials="*" not in settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestMiddleware)
    return app
