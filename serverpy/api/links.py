"""The routes for signed links: `POST /links` issues a link, and `GET /s/{token}/{filename}` serves the media of a
link."""

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
from serverpy.api.query import PAGE, StreamQuery, request_of
from serverpy.api.routes import stream_response
from serverpy.delivery import Stream
from serverpy.errors import InvalidParameter, KeyForbids, LinkInvalid
from serverpy.plan import Capabilities, StreamRequest, plans
from serverpy.settings import Settings

KeyOf = Callable[[Request], Key | None]
"""Function that returns the API key with which a request was sent. Returns None if the request has no key."""
FindKey = Callable[[str, bytes], Awaitable[Key | None]]
"""Function that finds an API key by its name and the first bytes of its digest. Returns None if the server does not
have this key (any more), or if the key has expired."""
GrantFor = Callable[[Key], Grant]


async def _no_key(_name: str, _digest: bytes) -> Key | None:
    return None


class Links:
    """The object that signs and opens the links of one application, and counts their uses. The application stores it as
    `app.state.links`."""

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
        """Return the signed token of `link`. Raises `InvalidParameter` if the token would be too long."""
        return sign(link, (await self.secrets.keys())[0])

    async def admit(self, token: str, client: str, asking: Grant) -> tuple[Link, LinkGrant]:
        """Return the link that `token` contains, and the grant for a request that uses the link. `client` is the
        address of the client; `asking` is the grant that the client has without the link. Raises `LinkExpired` if the
        link has expired. Raises `LinkInvalid` if the token is invalid, the client is not in the network of the link, or
        the server no longer accepts the issuer of the link."""
        link = open_link(token, await self.secrets.keys(), time.time())
        if not link.admits(client):
            raise LinkInvalid("This link may only be used by clients in another network: get a new link.")
        return link, await self._grant(link, asking)

    async def _grant(self, link: Link, asking: Grant) -> LinkGrant:
        """Return the grant for a request that uses `link`: the rights of the key that issued the link or, if no key
        did, those of the client (`asking`). Raises `LinkInvalid` if the issuing key was revoked or has expired. Also
        raises `LinkInvalid` if a client without a key issued the link, but the server now requires keys."""
        account = account_of(link, asking)
        spend = None if link.max_bytes is None else functools.partial(self.uses.spend, link, account)
        if not link.key:
            if self._requires_key and not link.by_operator:
                raise LinkInvalid(
                    "This link was issued without a key, but the server now requires keys: get a new link."
                )
            return LinkGrant(asking, is_local=asking.is_local, spend=spend)
        key = await self._find_key(link.key, link.digest)
        if key is None:
            raise LinkInvalid("The key that issued this link was revoked or has expired: get a new link.")
        return LinkGrant(self._grant_for(key), key, is_local=asking.is_local, spend=spend)


def account_of(link: Link, asking: Grant) -> str:
    """Return the account under which `LinkUses` counts `link`: the key that issued the link or, if no key did, the
    client. `asking` is the grant of the request that uses the link."""
    return f"key {link.key}" if link.key else f"address {asking.account}"


class IssuedLink(BaseModel):
    model_config = ConfigDict(json_schema_extra={"description": "A new signed link."})

    url: str = Field(examples=["http://127.0.0.1:8000/s/v1YaL2…/media.mp4"])
    expires: datetime = Field(description="Time at which the link expires.")


class LinkRoute(APIRoute):
    """A route that skips FastAPI's dependency resolution to save CPU time, as `routes.py::StreamRoute` does."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await linked(Request(scope), scope["path_params"]["token"], "")
        await response(scope, receive, send)


issuing = APIRouter(route_class=BodyRoute)
serving = APIRouter(route_class=LinkRoute)
_EXAMPLE = {"url": PAGE, "to": "mp4", "ttl": 3600, "uses": 3, "network": "client"}


@issuing.post(
    "/links",
    summary="Issue a signed link to media: it expires, and can be used without a key",
    responses=openapi.ISSUE_RESPONSES,
    openapi_extra={"requestBody": {"content": {"application/json": {"example": _EXAMPLE}}}},
)
async def issue(request: Request, query: LinkQuery) -> IssuedLink:
    links = _links(request)
    key = links.key_of(request)
    link = make_link(query, now=time.time(), ttl=links.ttl, client=_client(request), key=key)
    _check_rights(request_of(query), key, request.app.state.server.delivery.capabilities)
    # count the link now, because the extractions for requests that use it are not counted
    await grant_of(request).pay_extraction()
    path = link_path(link, await links.sign(link))
    base = base_of(request.scope, links.public_url, is_trusted=caller_of(request).client.is_trusted)
    return IssuedLink(url=base + path, expires=datetime.fromtimestamp(link.expires, UTC))


def _check_rights(asked: StreamRequest, key: Key | None, capabilities: Capabilities) -> None:
    """Check that a request for a link to `asked` can succeed for some media. Raises the error that every request for
    the link would get."""
    allowed = capabilities.allowed_for(asked).restricted_to(() if key is None else key.methods)
    if allowed.extracts:
        plans(None, asked, allowed)
        if key is not None and key.sites:
            raise KeyForbids(
                f"This API key allows only certain sites, and the method {allowed.methods[0]} cannot check the site: "
                "choose another method."
            )


@serving.get(
    "/s/{token}/{filename}",
    summary="The media of a signed link, as a stream of bytes",
    description="The token in the path contains the parameters of the stream. The server ignores the file name in the "
    "path, and all query parameters except `download`.",
    response_class=Response,
    responses=openapi.LINK_RESPONSES,
    openapi_extra={"parameters": [openapi.DOWNLOAD, *openapi.RANGE_FIELDS, *openapi.CONDITIONAL_FIELDS]},
)
async def linked(request: Request, token: str, filename: str) -> Response:
    links = _links(request)
    link, grant = await links.admit(token, _client(request), grant_of(request))
    answer = ANSWERS.get(link.route)
    if answer is None:  # another version of ServerPY has issued the link
        raise LinkInvalid(
            "This server does not support the route of this link, which another version of ServerPY has issued: get a "
            "new link."
        )
    return answer(request, link, grant, links.uses)


serving.add_api_route(
    "/s/{token}/{filename}",
    linked,
    methods=["HEAD"],
    operation_id="head_linked",
    summary="The headers of the stream of a signed link, without its bytes",
    response_class=Response,
    responses=openapi.LINK_HEAD_RESPONSES,
    openapi_extra={"parameters": [openapi.DOWNLOAD, *openapi.CONDITIONAL_FIELDS]},
)


# the server ignores the file name, so it may be empty or missing
for _path in ("/s/{token}/", "/s/{token}"):
    serving.add_api_route(_path, linked, methods=["GET", "HEAD"], include_in_schema=False)


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
"""Maps each route in `link_query.py::LINKABLE` to the function that makes the response to a request with a link to this
route."""


def add_link_routes(app: FastAPI) -> None:
    app.router.routes += [*issuing.routes, *serving.routes]


def _parameters(model: type[StreamQuery], link: Link, request: Request) -> StreamQuery:
    """Return the parameters that `link` contains. `download` in the query of `request` takes precedence over that of
    the link. Raises `InvalidParameter` if `download` in the query is invalid, or `LinkInvalid` if the link has
    parameters that this version of the server does not support."""
    values: dict[str, Any] = {"url": link.url, **link.params}
    own = dict(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)).get("download")
    try:
        query = model.model_validate(values)
    except ValidationError:
        raise LinkInvalid(
            "This server does not support the parameters of this link, which another version of ServerPY has issued: "
            "get a new link."
        ) from None
    if own is None:
        return query
    try:
        return model.model_validate({**values, "download": own})
    except ValidationError:
        raise InvalidParameter("`download`: must be 1 or 0.") from None


def _client(request: Request) -> str:
    """Return the address of the client. Returns "" if the server only knows the address of a proxy."""
    client = caller_of(request).client
    return client.address if client.is_known else ""


def _links(request: Request) -> Links:
    links: Links = request.app.state.links
    return links
