"""The routes of the HTTP API. The handler of each route reads the parameters of the request, calls one component, and
renders the result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from serverpy import __version__
from serverpy.access.grant import Grant
from serverpy.api import login, openapi
from serverpy.api.access import grant_of
from serverpy.api.conditional import Conditional, validators
from serverpy.api.filenames import content_disposition, file_name, own_name
from serverpy.api.health import Health, health_of
from serverpy.api.info_response import InfoResponse, cancelled_if_left
from serverpy.api.middleware import REQUEST_ID
from serverpy.api.query import PAGE, URL_MEANS, StreamQuery, check_encoding, parse_query, request_of
from serverpy.api.responses import StatusAndHeaders, StreamResponse
from serverpy.api.streams import router as running_streams
from serverpy.delivery import Stream
from serverpy.errors import PreconditionFailed
from serverpy.info import Info
from serverpy.metrics import Sample
from serverpy.preconditions import Outcome
from serverpy.ranges import ContentRange
from serverpy.server import Server

DOCS = Path(__file__).with_name("docs.html")
DOCS_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
MEDIA_POLICY = "script-src 'none'; object-src 'none'"
"""Content-Security-Policy of media responses: if the media is a web page or an SVG, the browser runs no scripts of that
page or SVG. The policy has no `sandbox`, because a sandboxed document has an opaque origin: the media player that a
browser shows in a tab could then not load the media."""
_OF_BYTES = frozenset({"Content-Type", "Content-Disposition", "Content-Length", "Content-Range"})
"""Headers that a 304 leaves out: the client already has the bytes that these headers describe (RFC 9110 §15.4.5)."""


class StreamRoute(APIRoute):
    """FastAPI's route without its dependency resolution, which takes a fifth of the CPU time of a short stream. The
    route still appears in FastAPI's OpenAPI schema."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await stream(Request(scope), parse_query(scope["query_string"]))
        await response(scope, receive, send)


streams = APIRouter(route_class=StreamRoute)


@streams.get(
    "/stream",
    summary="The media of a page, as a stream of bytes",
    response_class=Response,
    responses=openapi.STREAM_RESPONSES,
    openapi_extra={"parameters": [*openapi.RANGE_FIELDS, *openapi.CONDITIONAL_FIELDS]},
)
async def stream(request: Request, query: Annotated[StreamQuery, Query()]) -> StreamResponse:
    return stream_response(request, query, grant_of(request))


def stream_response(
    request: Request, query: StreamQuery, grant: Grant, begin: Callable[[Stream, int], None] | None = None
) -> StreamResponse:
    """Return the response that sends the stream of `query`. Just before its head, the response calls `begin` with the
    open stream and the status. If `begin` raises a `ServerPYError`, the response sends that error instead."""
    server = _server(request)
    conditional = Conditional.of(request.method, request.scope["headers"])
    asked = request_of(
        query,
        range=conditional.range,
        if_range=conditional.if_range,
        head_only=request.method == "HEAD",
    )

    def head(opened: Stream) -> StatusAndHeaders:
        status, headers = stream_head(opened, conditional, filename=query.filename, download=query.download)
        if begin is not None:
            begin(opened, status)
        return status, headers

    return StreamResponse(
        lambda record: conditional.open(server.delivery, asked, record, grant),
        head,
        running=server.running,
        request_id=request.scope["state"][REQUEST_ID],
        stall_timeout=server.stall_timeout,
        refusals=server.refusals,
        key=grant.key,
    )


streams.add_api_route(
    "/stream",
    stream,
    methods=["HEAD"],
    operation_id="head_stream",
    summary="The headers of the stream, without its bytes",
    response_class=Response,
    responses=openapi.HEAD_RESPONSES,
    openapi_extra={"parameters": openapi.CONDITIONAL_FIELDS},
)


def stream_head(stream: Stream, conditional: Conditional, *, filename: str | None, download: bool) -> StatusAndHeaders:
    """Return status and headers of an open stream. Raises `PreconditionFailed` if a precondition is false."""
    head = stream.head
    if head.location is not None:
        return 302, _redirect(stream, head.location)
    outcome = conditional.outcome(head)
    if outcome is Outcome.FAILED:
        raise PreconditionFailed("The media does not match If-Match or If-Unmodified-Since.")
    name = own_name(filename, head.ext) if filename else file_name(head.title, head.ext)
    headers = {
        "Content-Type": head.content_type,
        "Content-Disposition": content_disposition(name, attachment=download),
        "Accept-Ranges": "bytes" if head.seekable else "none",
        "Cache-Control": "no-store" if head.is_live else "private, no-cache",
        "Content-Security-Policy": MEDIA_POLICY,
        "X-ServerPY-Method": stream.method,
        "Server-Timing": _timing(stream),
    }
    if head.length is not None:
        headers["Content-Length"] = str(head.length)
    elif head.estimate is not None:
        headers["X-Estimated-Content-Length"] = str(head.estimate)
    if head.duration is not None:
        headers["X-Duration"] = f"{head.duration:.3f}".rstrip("0").rstrip(".")
    etag, last_modified = validators(head)
    headers |= {"ETag": etag} if etag else {}
    headers |= {"Last-Modified": last_modified} if last_modified else {}
    if outcome is Outcome.NOT_MODIFIED:
        return 304, {name: value for name, value in headers.items() if name not in _OF_BYTES}
    if head.partial and head.length is not None:
        headers["Content-Range"] = str(ContentRange(head.start, head.start + head.length - 1, head.total))
    return 206 if head.partial else 200, headers


def _redirect(stream: Stream, location: str) -> dict[str, str]:
    """Return the headers of a redirect. Caches must not store the redirect, because its address expires."""
    return {
        "Location": location,
        "Content-Length": "0",
        "Cache-Control": "no-store",
        "X-ServerPY-Method": stream.method,
        "Server-Timing": _timing(stream),
    }


def _timing(stream: Stream) -> str:
    return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in stream.timings.items())


router = APIRouter()
UrlParameter = Annotated[str, Query(description=URL_MEANS, examples=[PAGE])]


async def _check_encoding(request: Request) -> None:
    check_encoding(request.scope["query_string"])


@router.get(
    "/info",
    summary="The metadata and formats of a page",
    response_model=Info,
    responses=openapi.INFO_RESPONSES,
    dependencies=[Depends(_check_encoding)],
)
async def info(request: Request, url: UrlParameter) -> Response:
    server, grant = _server(request), grant_of(request)
    delivery = server.delivery
    with cancelled_if_left(request.scope):
        media = await delivery.info(url, grant)
        default = await delivery.default(url, media, grant)
    return await delivery.by_tracks(media, partial(InfoResponse, media, delivery.capabilities, default, server.budget))


@router.get("/health", summary="The state of the server process that sends the response")
async def health(request: Request) -> Health:
    server = _server(request)
    sample = await server.sample()
    return health_of(sample, server.status, __version__, server.ytdlp_version)


@router.get(
    "/ready",
    summary="Whether the server accepts new streams",
    responses={503: {"description": "The server is starting, or about to stop."}},
)
async def ready(request: Request) -> Response:
    status = _server(request).status
    return JSONResponse({"status": status}, 200 if status == "ok" else 503)


@router.get(
    "/metrics",
    summary="The metrics of the server process that sends the response, for Prometheus",
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    sample = await _server(request).sample()
    return await asyncio.to_thread(_exposed, sample)


@router.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
async def docs() -> Response:
    """Return an HTML page that shows `/openapi.json` and loads nothing from other servers."""
    return HTMLResponse(await asyncio.to_thread(DOCS.read_bytes), headers={"Content-Security-Policy": DOCS_POLICY})


@router.api_route("/robots.txt", methods=["GET", "HEAD"], include_in_schema=False)
async def robots() -> Response:
    """Return a robots.txt that asks crawlers to stay away, because each URL that they request could start an
    extraction."""
    return PlainTextResponse("User-agent: *\nDisallow: /\n")


for _path, _endpoint in (("/info", info), ("/health", health), ("/ready", ready), ("/metrics", metrics)):
    router.add_api_route(_path, _endpoint, methods=["HEAD"], include_in_schema=False)


def add_routes(app: FastAPI) -> None:
    """Add the routes themselves to `app`. `include_router` would wrap each of them in another layer of routing, which
    costs CPU time while a stream runs."""
    app.add_route("/openapi.json", _schema_route(app), include_in_schema=False)
    app.router.routes += [*streams.routes, *router.routes, *running_streams.routes, *login.router.routes]


def _schema_route(app: FastAPI) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of the OpenAPI schema."""
    document = openapi.Document(app)

    async def schema(request: Request) -> Response:
        content = await document.json(request.scope.get("root_path", "").rstrip("/"))
        return Response(content, media_type="application/json")

    return schema


def _exposed(sample: Sample) -> Response:
    """Render the metrics for Prometheus. The caller runs this function in a thread, because its first call imports a
    library."""
    from serverpy.api.exposition import CONTENT_TYPE, prometheus_text

    return Response(prometheus_text(sample), media_type=CONTENT_TYPE)


def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    server.start()
    return server
