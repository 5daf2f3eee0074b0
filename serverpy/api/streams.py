"""The running streams over HTTP: a list of them, and the end of one. A client sees its own streams, an administrator
those of all clients. URLs are not shown, because they may be secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from serverpy.access.grant import Grant
from serverpy.api.access import grant_of
from serverpy.api.problems import MEDIA_TYPE
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
        json_schema_extra={"description": "One stream of the process that answers.", "examples": [STREAM_EXAMPLE]}
    )

    id: str = Field(description="The `X-Request-ID` of the stream's response.")
    account: str = Field(description="Name of the key, or network of the client: whose streams are counted together.")
    client: str = Field(description="Address of the client.")
    state: Literal["waiting", "opening", "running"] = Field(
        description="`waiting`: for a place. `opening`: the first byte has not come."
    )
    host: str | None = Field(description="Host of the page.")
    site: str | None = Field(description="Name of the extractor; null until the page has been read.")
    method: str | None
    format: str | None = Field(description="Ids of the formats.")
    status: int | None = Field(description="Status of the response; null before the response.")
    bytes: int = Field(description="Bytes of the body that were sent.")
    seconds: float = Field(description="Seconds since the request.")


router = APIRouter()


@router.get("/streams", summary="The running streams: one's own, or for an administrator those of all clients")
async def list_streams(request: Request) -> list[RunningStream]:
    return [_shown(record) for record in _visible(request)]


router.add_api_route("/streams", list_streams, methods=["HEAD"], include_in_schema=False)


@router.delete(
    "/streams/{id}",
    summary="End a running stream: its connection is cut",
    status_code=204,
    response_class=Response,
    responses={
        404: {"description": "`not_found`: no such stream runs here, or not one's own.", "content": {MEDIA_TYPE: {}}}
    },
)
async def end_stream(request: Request, id: str) -> Response:
    found = [record for record in _visible(request) if record.id == id]
    if not found:
        raise HTTPException(404, "No such stream")
    for record in found:  # several requests may have had the same X-Request-ID
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
