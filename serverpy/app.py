"""The assembly of the application: `create_app` puts routes, middleware and exception handlers around a `Server`, and
manages its lifespan."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from serverpy import SUMMARY, __version__
from serverpy.access.clients import parse_networks
from serverpy.access.connections import CONNECTIONS
from serverpy.access.gate import Gate
from serverpy.access.key_file import KeyFile
from serverpy.access.link_secrets import LinkSecrets
from serverpy.access.rules import Policy
from serverpy.access.sessions import session_secret
from serverpy.api.access import Access, caller_of
from serverpy.api.errors import add_error_handlers
from serverpy.api.links import Links, add_link_routes
from serverpy.api.middleware import EXPOSED_HEADERS, Checks, Frame, RootPath
from serverpy.api.openapi import openapi
from serverpy.api.routes import add_routes
from serverpy.engine import Engine, own_sockets
from serverpy.errors import ConfigurationError
from serverpy.server import Server
from serverpy.settings import Settings, load_settings

logger = logging.getLogger("serverpy")


class Application(FastAPI):
    """ServerPY as an ASGI application. Its lifespan starts and ends the server. Without a lifespan (mounted below
    another application, or in a test client that starts none), the first request starts the server, and the owner of
    the application must await `aclose`."""

    async def aclose(self) -> None:
        """Stop the worker, and cut the connections of all running streams. The application then refuses further
        streams. Idempotent."""
        server: Server = self.state.server
        await server.aclose()


def create_app(
    settings: Settings | None = None,
    *,
    on_refusal: Callable[[ConfigurationError], None] | None = None,
    checks_host: bool = False,
) -> Application:
    """Make the ASGI application. If `settings` is None, the function reads `serverpy.toml` and the environment. The
    application calls `on_refusal` in the event loop if the worker finds that a setting cannot work; without
    `on_refusal`, it logs the error. If `checks_host` is true or ALLOWED_HOSTS is set, the application refuses requests
    for unknown hosts (`api/hosts.py`). Raises `ConfigurationError` if the settings cannot work together."""
    settings = settings or load_settings()
    own = own_sockets(settings)
    secrets = LinkSecrets([each.get_secret_value() for each in settings.link_secret], settings.state_dir)
    gate = make_gate(settings, secrets)
    make_server = functools.partial(Server, on_refusal=on_refusal or _log_refusal, gate=gate)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        # an earlier lifespan may have closed the server: a test client starts a new lifespan for each `with` block
        if app.state.server.is_closed:
            app.state.server = make_server(Engine(settings, own))
        app.state.server.start()
        try:
            yield {CONNECTIONS: app.state.server.connections}
        finally:
            await app.state.server.aclose()

    app = Application(
        title="ServerPY",
        version=__version__,
        description=SUMMARY,
        lifespan=lifespan,
        openapi_url=None,  # `add_routes` adds the route: that of FastAPI builds the schema in the event loop
        docs_url=None,
        redoc_url=None,
        # The spans that FastAPI traces would contain the URLs of pages, which may be secret. Even without a tracer,
        # FastAPI would spend CPU time on each request to look for one.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Starlette would build the address of a redirect from the Host field, before the field is checked
        redirect_slashes=False,
    )
    app.state.server = make_server(Engine(settings, own))
    app.state.links = Links(
        settings,
        secrets,
        key_of=lambda request: caller_of(request).key,
        find_key=gate.living,
        grant_for=lambda key: app.state.server.limits.grant_for("", key),
    )
    app.state.gate = gate
    add_routes(app)
    add_link_routes(app)
    app.openapi = functools.partial(openapi, app)  # type: ignore[method-assign]  # FastAPI's documentation shows this way to replace the schema
    add_error_handlers(app)
    app.add_middleware(Access, gate=gate)
    app.add_middleware(Checks, hosts=settings.served_hosts if checks_host or settings.allowed_hosts else None)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_credentials="*" not in settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            allow_private_network=True,  # otherwise a page from the internet could not use a server in a home network
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(Frame, embeddable=bool(settings.cors_origins))
    if settings.root_path:
        app.add_middleware(RootPath, root_path=settings.root_path)
    return app


def make_gate(settings: Settings, secrets: LinkSecrets) -> Gate:
    """Make the gate, which checks each request before the routes handle it, and signs session cookies with secrets that
    are derived from `secrets`. Raises `ConfigurationError` if the file of API keys cannot be read or is invalid."""

    derived: list[bytes] = []

    async def session_secrets() -> Sequence[bytes]:
        if not derived:
            derived[:] = [session_secret(each) for each in await asyncio.to_thread(secrets.secrets)]
        return derived

    return Gate(
        Policy(
            require_key=settings.require_key,
            open=settings.open,
            admin_networks=parse_networks(settings.admin_networks),
        ),
        None if settings.api_keys_file is None else KeyFile(settings.api_keys_file),
        trusted=parse_networks(settings.trusted_proxies),
        session_secrets=session_secrets,
        own_hosts=settings.own_hosts,
        origins=frozenset(settings.cors_origins) - {"*"},  # with `*`, requests have no credentials
    )


def _log_refusal(error: ConfigurationError) -> None:
    logger.error("the server cannot open streams until this setting is corrected: %s", error)
