"""The routes of this server. Each reads its parameters, calls one part, and renders the result."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError
from starlette.types import Receive, Scope, Send

from serverpy import __version__, errors
from serverpy.api.filenames import content_disposition, file_name, own_name
from serverpy.api.health import Health, health_of
from serverpy.api.middleware import REQUEST_ID
from serverpy.api.problems import examples
from serverpy.api.responses import StreamResponse
from serverpy.containers import Target
from serverpy.delivery import Stream
from serverpy.info import Info, info_of
from serverpy.metrics import Sample
from serverpy.options import Method
from serverpy.plan import StreamRequest
from serverpy.ranges import ContentRange, parse_range
from serverpy.server import Server

URL_MEANS = "URL of a page, or of the media itself; http or https."
PAGE = "https://example.com/watch?v=1"
_PAGE_ERRORS = (
    errors.InvalidUrl, errors.InvalidParameter, errors.TargetForbidden, errors.SiteForbidden, errors.GeoRestricted,
    errors.LoginRequired, errors.DrmProtected, errors.MediaNotFound, errors.TooLarge, errors.ExtractionFailed,
    errors.UpstreamFailed, errors.Busy, errors.Draining, errors.ExtractionTimeout,
)  # fmt: skip
_STREAM_ERRORS = (
    *_PAGE_ERRORS, errors.FormatNotFound, errors.ItemNotFound, errors.NotMedia, errors.RangeNotSatisfiable,
    errors.UnsupportedConversion, errors.UpstreamTimeout,
)  # fmt: skip


class StreamQuery(BaseModel):
    """The parameters of `/stream`."""

    url: str = Field(description=URL_MEANS, examples=[PAGE])
    format: str | None = Field(None, description="yt-dlp format selector, or a format's id from `/info`.")
    to: Target = Field("source", description="Format to convert the media to.")
    method: Method | None = None
    item: int | None = Field(None, ge=1, description="1-based item of a playlist or image post.")
    start: float | None = Field(
        None,
        description="Only for live streams: the position at which to begin, in seconds from the oldest that is "
        "available or, if negative, back from the end. Default: the live edge.",
    )
    end: float | None = Field(None, description="Seconds. Not available in this version.")
    download: bool = Field(False, description="`1`: send as an attachment.")
    filename: str | None = Field(None, max_length=255, description="Name of the file, instead of the media's title.")


class StreamRoute(APIRoute):
    """FastAPI's route, without its dependency resolution, which takes a fifth of the CPU of a short stream. FastAPI
    still documents it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await stream(Request(scope), _query(scope))
        await response(scope, receive, send)


def _query(scope: Scope) -> StreamQuery:
    """Parse the query string. Raises `InvalidParameter`."""
    try:
        return StreamQuery.model_validate(
            dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise errors.InvalidParameter(f"`{first['loc'][-1]}`: {first['msg']}.") from None


streams = APIRouter(route_class=StreamRoute)


@streams.get(
    "/stream",
    summary="The media of a page, as a stream of bytes",
    response_class=Response,
    responses={
        200: {"description": "The bytes.", "content": {"video/mp4": {}, "audio/mp4": {}, "image/jpeg": {}}},
        206: {"description": "The requested range."},
        **examples(*_STREAM_ERRORS),
    },
)
async def stream(request: Request, query: Annotated[StreamQuery, Query()]) -> StreamResponse:
    server = _server(request)
    asked = StreamRequest(
        url=query.url,
        format=query.format or None,
        to=query.to,
        method=query.method,
        item=query.item,
        start=query.start,
        end=query.end,
        # RFC 9110 §14.2: ranges are defined for GET only.
        range=parse_range(request.headers.get("range")) if request.method == "GET" else None,
        if_range=request.headers.get("if-range"),
        head_only=request.method == "HEAD",
    )
    return StreamResponse(
        lambda record: server.delivery.open(asked, record),
        lambda opened: stream_head(opened, filename=query.filename, download=query.download),
        running=server.running,
        request_id=request.scope["state"][REQUEST_ID],
        stall_timeout=server.stall_timeout,
    )


streams.add_api_route(
    "/stream",
    stream,
    methods=["HEAD"],
    operation_id="head_stream",
    summary="The headers of the stream, without its bytes",
    response_class=Response,
    responses={200: {"description": "What `GET` would answer."}, **examples(*_STREAM_ERRORS)},
)


def stream_head(stream: Stream, *, filename: str | None, download: bool) -> tuple[int, dict[str, str]]:
    """Return status and headers of an open stream."""
    head = stream.head
    name = own_name(filename) if filename else file_name(head.title, head.ext)
    headers = {
        "Content-Type": head.content_type,
        "Content-Disposition": content_disposition(name, attachment=download),
        "Accept-Ranges": "bytes" if head.seekable else "none",
        "X-ServerPY-Method": stream.method,
        "Server-Timing": ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in head.timings.items()),
        "Content-Security-Policy": "sandbox",
    }
    if head.length is not None:
        headers["Content-Length"] = str(head.length)
    elif head.estimate is not None:
        headers["X-Estimated-Content-Length"] = str(head.estimate)
    if head.seekable:
        headers |= {"ETag": head.etag} if head.etag else {}
        headers |= {"Last-Modified": head.last_modified} if head.last_modified else {}
    if head.partial and head.length is not None:
        headers["Content-Range"] = str(ContentRange(head.start, head.start + head.length - 1, head.total))
    return 206 if head.partial else 200, headers


router = APIRouter()
router.include_router(streams)
UrlParameter = Annotated[str, Query(description=URL_MEANS, examples=[PAGE])]


@router.get("/info", summary="The metadata and formats of a page", responses=examples(*_PAGE_ERRORS))
async def info(request: Request, url: UrlParameter) -> Info:
    delivery = _server(request).delivery
    return info_of(await delivery.info(url), delivery.capabilities)


@router.get("/health", summary="The state of this process")
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


@router.get("/metrics", summary="The metrics of this process, for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    sample = await _server(request).sample()
    return await asyncio.to_thread(_exposed, sample)


for _path, _endpoint in (("/info", info), ("/health", health), ("/ready", ready), ("/metrics", metrics)):
    router.add_api_route(_path, _endpoint, methods=["HEAD"], include_in_schema=False)


def _exposed(sample: Sample) -> Response:
    """Render the metrics. Called in a thread, because the first call imports a library."""
    from serverpy.api.exposition import CONTENT_TYPE, prometheus_text

    return Response(prometheus_text(sample), media_type=CONTENT_TYPE)


def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    server.start()
    return server
