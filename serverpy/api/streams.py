"""The routes `GET /streams`, which lists the running streams, and `DELETE /streams/{id}`, which ends a stream. A client
can list and end the streams of its own account, an administrator all streams. The list contains no URLs, because a URL
may contain a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_json

from serverpy.access.grant import Grant
from serverpy.api.access import grant_of
from serverpy.api.problems import MEDIA_TYPE, example
from serverpy.running import Record
from serverpy.server import Server

STREAM_EXAMPLE: dict[str, JsonValue] = {
    "id": "2f0c6b1e9d",
    "account": "family",
    "client": "192.0.2.1",
    "state": "running",
    "host": "example.com",
    "site": "Example",
    "method": "relay",
    "format": "137+140",
    "status": 206,
    "bytes": 5290271,
    "seconds": 12.4,
}


class RunningStream(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "description": "A running stream of the server process that sends this response.",
            "examples": [STREAM_EXAMPLE],
        }
    )

    id: str = Field(description="The `X-Request-ID` of the stream's response.")
    account: str = Field(
        description="Account to which the stream counts: the name of the API key or, without a key, the network of the "
        "client."
    )
    client: str = Field(description="IP address of the client.")
    state: Literal["waiting", "opening", "running"] = Field(
        description="`waiting`: the request waits until another stream ends or memory is free. `opening`: the first "
        "byte of the media has not arrived. `running`: the response has begun."
    )
    host: str | None = Field(description="Host in the URL of the page, with the port if the URL has one.")
    site: str | None = Field(description="Name of yt-dlp's extractor; null until the page has been extracted.")
    method: str | None
    format: str | None = Field(description="Ids of the streamed formats, joined by `+`.")
    status: int | None = Field(description="Status code of the response; null until the response begins.")
    bytes: int = Field(description="Number of bytes of the response body that were sent.")
    seconds: float = Field(description="Seconds since the request began.")


router = APIRouter()


_TURN = 100
"""Number of streams that are rendered before the event loop runs other tasks."""


@router.get(
    "/streams",
    summary="The running streams of the client's account or, for an administrator, of all accounts",
    response_model=list[RunningStream],
)
async def list_streams(request: Request) -> Response:
    shown: list[bytes] = []
    for number, record in enumerate(list(_visible(request)), 1):
        shown.append(to_json(_shown(record)))
        if number % _TURN == 0:
            await asyncio.sleep(0)
    return Response(b"[%s]" % b",".join(shown), media_type="application/json")


router.add_api_route("/streams", list_streams, methods=["HEAD"], include_in_schema=False)


@router.delete(
    "/streams/{id}",
    summary="End a running stream by cutting its connection",
    status_code=204,
    response_class=Response,
    responses={
        404: {
            "description": "`not_found`: this process has no running stream with this id that the client may end.",
            "content": {MEDIA_TYPE: {"examples": example(404, "Not Found", "not_found")}},
        }
    },
)
async def end_stream(request: Request, id: str) -> Response:
    found = [record for record in _visible(request) if record.id == id]
    if not found:
        raise HTTPException(404, "No running stream has this id: GET /streams lists the ids")
    for record in found:  # clients may send several requests with the same X-Request-ID
        record.cancel("cancelled")
    return Response(status_code=204)


def _visible(request: Request) -> Iterator[Record]:
    server: Server = request.app.state.server
    grant = grant_of(request)
    return (record for record in server.running if _may_see(grant, record))


def _may_see(grant: Grant, record: Record) -> bool:
    return grant.is_admin or grant.account == record.account


def _shown(record: Record) -> RunningStream:
    plan = record.plan
    return RunningStream(
        id=record.id,
        account=record.account,
        client=record.client,
        state="waiting" if not record.is_admitted else "opening" if record.status is None else "running",
        host=record.host,
        site=record.site,
        method=record.method,
        format="+".join(track.id for track in plan.tracks) or None if plan is not None else None,
        status=record.status,
        bytes=record.sent_bytes,
        seconds=round(record.seconds, 3),
    )
