"""The assembly of the application: `create_app` puts routes, middleware and handlers around a server, and manages its
lifespan."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from serverpy import SUMMARY, __version__
from serverpy.access.clients import parse_networks
from serverpy.access.gate import Gate
from serverpy.access.key_file import KeyFile
from serverpy.access.rules import Policy
from serverpy.access.sessions import session_secret
from serverpy.api.access import Access
from serverpy.api.errors import add_error_handlers
from serverpy.api.middleware import EXPOSED_HEADERS, Checks, Frame
from serverpy.api.openapi import openapi
from serverpy.api.routes import add_routes
from serverpy.engine import Engine, own_sockets
from serverpy.errors import ConfigurationError
from serverpy.server import Server
from serverpy.settings import Settings, load_settings

logger = logging.getLogger("serverpy")


class Application(FastAPI):
    """ServerPY as an ASGI application. Its lifespan starts and ends the server. Where no lifespan runs (mounted below
    another application, in a test client), the first request starts the server, and the owner of the application awaits
    `aclose`."""

    async def aclose(self) -> None:
        """End the worker and all running streams, whose connections are cut; later streams are refused. Idempotent."""
        server: Server = self.state.server
        await server.aclose()


def create_app(
    settings: Settings | None = None,
    *,
    on_refusal: Callable[[ConfigurationError], None] | None = None,
    checks_host: bool = False,
) -> Application:
    """Make the application. `settings` are by default those of `serverpy.toml` and the environment. The application
    calls `on_refusal` in the event loop if the worker finds that a setting cannot work; without `on_refusal`, it logs
    the error. If `checks_host` is true or ALLOWED_HOSTS is set, the application refuses requests for unknown hosts
    (`api/hosts.py`). Raises `ConfigurationError` if the settings cannot work together."""
    settings = settings or load_settings()
    own = own_sockets(settings)
    gate = make_gate(settings)
    make_server = functools.partial(Server, on_refusal=on_refusal or _log_refusal, gate=gate)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if app.state.server.is_closed:  # a second lifespan: test clients start one
            app.state.server = make_server(Engine(settings, own))
        app.state.server.start()
        try:
            yield
        finally:
            await app.state.server.aclose()

    app = Application(
        title="ServerPY",
        version=__version__,
        description=SUMMARY,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go to the request's unchecked Host
    )
    app.state.server = make_server(Engine(settings, own))
    app.state.gate = gate
    add_routes(app)
    app.openapi = functools.partial(openapi, app)  # type: ignore[method-assign]  # as FastAPI documents it
    add_error_handlers(app)
    app.add_middleware(Access, gate=gate)
    app.add_middleware(Checks, hosts=settings.served_hosts if checks_host or settings.allowed_hosts else None)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_credentials="*" not in settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(Frame, embeddable=bool(settings.cors_origins))
    return app


def make_gate(settings: Settings) -> Gate:
    """Make the gate before the routes. Raises `ConfigurationError` if the keys cannot be read."""
    return Gate(
        Policy(
            require_key=settings.require_key,
            open=settings.open,
            admin_networks=parse_networks(settings.admin_networks),
        ),
        None if settings.api_keys_file is None else KeyFile(settings.api_keys_file),
        trusted=parse_networks(settings.trusted_proxies),
        session_secrets=[session_secret(settings.link_secret.get_secret_value())],
        own_hosts=settings.own_hosts,
    )


def _log_refusal(error: ConfigurationError) -> None:
    logger.error("no stream can be opened: %s", error)
