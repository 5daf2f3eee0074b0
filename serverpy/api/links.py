"""Signed links: `POST /links` issues them, `GET /s/{token}/{filename}` serves what they allow."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Receive, Scope, Send

from serverpy.access.grant import UNLIMITED, Grant
from serverpy.access.key import Key
from serverpy.access.link_grant import LinkGrant
from serverpy.access.link_secrets import LinkSecrets
from serverpy.access.link_uses import LinkUses, asks_from_start
from serverpy.access.links import Link, open_link, sign
from serverpy.api import openapi
from serverpy.api.access import caller_of, grant_of
from serverpy.api.addresses import base_of
from serverpy.api.bodies import BodyRoute
from serverpy.api.conditional import Conditional
from serverpy.api.link_query import LinkQuery, link_path, make_link
from serverpy.api.query import PAGE, StreamQuery
from serverpy.api.routes import stream_response
from serverpy.delivery import Stream
from serverpy.errors import InvalidParameter, LinkInvalid
from serverpy.settings import Settings

KeyOf = Callable[[Request], Key | None]
"""Function that returns the API key of a request. Returns None if it has none."""
FindKey = Callable[[str, bytes], Awaitable[Key | None]]
"""Function that finds the API key with this name whose digest begins with these bytes. Returns None if there is no such
key (any more), or if it has expired."""
GrantFor = Callable[[Key], Grant]


async def _no_key(_name: str, _digest: bytes) -> Key | None:
    return None


class Links:
    """The links of one application, as `app.state.links`: it signs, opens and counts them."""

    def __init__(
        self,
        settings: Settings,
        secrets: LinkSecrets,
        *,
        key_of: KeyOf = lambda _request: None,
        find_key: FindKey = _no_key,
        grant_for: GrantFor = lambda _key: UNLIMITED,
    ) -> None:
        self.ttl = settings.link_ttl
        self.public_url = settings.public_url
        self.secrets = secrets
        self.uses = LinkUses()
        self.key_of = key_of
        self._requires_key = settings.require_key
        self._find_key = find_key
        self._grant_for = grant_for

    async def sign(self, link: Link) -> str:
        """Return the token of `link`. Raises `InvalidParameter` if it would be too long."""
        return sign(link, (await self.secrets.keys())[0])

    async def admit(self, token: str, client: str, asking: Grant) -> tuple[Link, LinkGrant]:
        """Return the link of `token`, and the grant of a request that comes by it. `client` is the address of the
        client, `asking` its own grant. Raises `LinkInvalid` or `LinkExpired` if the link may not be used."""
        link = open_link(token, await self.secrets.keys(), time.time())
        if not link.admits(client):
            raise LinkInvalid("This link is only for clients of another network.")
        return link, await self._grant(link, asking)

    async def _grant(self, link: Link, asking: Grant) -> LinkGrant:
        """Return the grant of the key that issued the link, or that of the client if no key did. Raises `LinkInvalid`
        if the key has been revoked or has expired, or if a client without a key issued the link, but the server now
        requires keys."""
        account = account_of(link, asking)
        spend = None if link.max_bytes is None else functools.partial(self.uses.spend, link, account)
        if not link.key:
            if self._requires_key and not link.by_operator:
                raise LinkInvalid("This link was issued without a key, but this server now requires keys.")
            return LinkGrant(asking, is_local=asking.is_local, spend=spend)
        key = await self._find_key(link.key, link.digest)
        if key is None:
            raise LinkInvalid("The key that issued this link has been revoked, or has expired.")
        return LinkGrant(self._grant_for(key), key, is_local=asking.is_local, spend=spend)


def account_of(link: Link, asking: Grant) -> str:
    """Return the account under which `LinkUses` counts a link that is used with the grant `asking`."""
    return f"key {link.key}" if link.key else f"address {asking.account}"


class IssuedLink(BaseModel):
    model_config = ConfigDict(json_schema_extra={"description": "A signed link."})

    url: str = Field(examples=["http://127.0.0.1:8000/s/v1YaL2…/media.mp4"])
    expires: datetime = Field(description="Time at which the link expires.")


class LinkRoute(APIRoute):
    """A route without FastAPI's dependency resolution, as `routes.py::StreamRoute`."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await linked(Request(scope), **scope["path_params"])
        await response(scope, receive, send)


issuing = APIRouter(route_class=BodyRoute)
serving = APIRouter(route_class=LinkRoute)
_EXAMPLE = {"url": PAGE, "to": "mp4", "ttl": 3600, "uses": 3, "network": "client"}


@issuing.post(
    "/links",
    summary="A signed link to media, which expires and needs no key",
    responses=openapi.ISSUE_RESPONSES,
    openapi_extra={"requestBody": {"content": {"application/json": {"example": _EXAMPLE}}}},
)
async def issue(request: Request, query: LinkQuery) -> IssuedLink:
    links = _links(request)
    link = make_link(query, now=time.time(), ttl=links.ttl, client=_client(request), key=links.key_of(request))
    await grant_of(request).pay_extraction()  # requests by the link are not counted, but extract its page, too
    path = link_path(link, await links.sign(link))
    base = base_of(request.scope, links.public_url, is_trusted=caller_of(request).client.is_trusted)
    return IssuedLink(url=base + path, expires=datetime.fromtimestamp(link.expires, UTC))


@serving.get(
    "/s/{token}/{filename}",
    summary="The stream of a signed link",
    description="The link has the parameters of the stream; of the request's query, only `download` counts. The file "
    "name in the path has no meaning.",
    response_class=Response,
    responses=openapi.LINK_RESPONSES,
    openapi_extra={"parameters": [*openapi.RANGE_FIELDS, *openapi.CONDITIONAL_FIELDS]},
)
async def linked(request: Request, token: str, filename: str) -> Response:
    links = _links(request)
    link, grant = await links.admit(token, _client(request), grant_of(request))
    answer = ANSWERS.get(link.route)
    if answer is None:  # another version of this server has issued the link
        raise LinkInvalid("This link leads to a route that this server does not have.")
    return answer(request, link, grant, links.uses)


serving.add_api_route(
    "/s/{token}/{filename}",
    linked,
    methods=["HEAD"],
    operation_id="head_linked",
    summary="The headers of the stream of a signed link",
    response_class=Response,
    responses=openapi.LINK_HEAD_RESPONSES,
    openapi_extra={"parameters": openapi.CONDITIONAL_FIELDS},
)


def _stream(request: Request, link: Link, grant: Grant, uses: LinkUses) -> Response:
    query = _parameters(StreamQuery, link, request)
    if request.method == "HEAD":
        return stream_response(request, query, grant)
    conditional = Conditional.of(request.method, request.scope["headers"])
    uses.check(link, from_start=asks_from_start(conditional.range))

    def begin(opened: Stream, status: int) -> None:
        if status != 304:
            uses.begin(
                link, account_of(link, grant), opened.head.start, opened.head.length if opened.head.partial else None
            )

    return stream_response(request, query, grant, begin)


ANSWERS: dict[str, Callable[[Request, Link, Grant, LinkUses], Response]] = {"stream": _stream}
"""The routes of `link_query.py::LINKABLE`, each with the function that answers a request for its link."""


def add_link_routes(app: FastAPI) -> None:
    app.router.routes += [*issuing.routes, *serving.routes]


def _parameters(model: type[StreamQuery], link: Link, request: Request) -> StreamQuery:
    """Return the parameters of the link's route. Raises `InvalidParameter` if the request's own `download` is invalid,
    `LinkInvalid` if another version of this server has issued the link with parameters that this one does not know."""
    values: dict[str, Any] = {"url": link.url, **link.params}
    own = dict(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)).get("download")
    try:
        query = model.model_validate(values)
    except ValidationError:
        raise LinkInvalid("This link has parameters that this server does not know.") from None
    if own is None:
        return query
    try:
        return model.model_validate({**values, "download": own})
    except ValidationError:
        raise InvalidParameter("`download`: must be 1 or 0.") from None


def _client(request: Request) -> str:
    """Return the address of the client. Returns "" if only that of a proxy is known."""
    client = caller_of(request).client
    return client.address if client.is_known else ""


def _links(request: Request) -> Links:
    links: Links = request.app.state.links
    return links
