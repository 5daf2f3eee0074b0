"""The parameters of `POST /links` and `serverpy links sign`, and the function that makes a link from them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from serverpy.access.key import Key
from serverpy.access.links import DIGEST_BYTES, Link, pack_network
from serverpy.api.filenames import path_name
from serverpy.api.query import StreamQuery, invalid_parameter, request_of
from serverpy.errors import InvalidParameter
from serverpy.extraction.selectors import check_selector
from serverpy.net.guard import check_url
from serverpy.plan import check
from serverpy.settings.types import parse_size_of_media

LINKABLE: dict[str, type[BaseModel]] = {"stream": StreamQuery}
"""Maps each route for which links can be issued to the model of its parameters. `api/links.py` serves these routes."""
MAX_TTL = 366 * 24 * 3600
"""Maximum lifetime of a link, in seconds."""
MAX_COUNT = 2**53
"""Maximum value of the parameters `uses` and `bytes`: many JSON implementations cannot represent larger integers
exactly."""
OWN_NETWORK = "client"
_ID_BYTES = 8


class LinkQuery(StreamQuery):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "description": "The parameters of a signed link: those of its route, and the limits of the link."
        },
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object, info: ValidationInfo) -> object:
        """Check that the value is not a JSON boolean, which pydantic would take for the number 0 or 1. Raises
        ValueError if it is one."""
        if isinstance(value, bool) and info.field_name != "download":
            raise ValueError("must not be true or false")
        return value

    route: str = Field("stream", description=f"Route that the link gives access to: {', '.join(LINKABLE)}.")
    ttl: float | None = Field(None, ge=1, le=MAX_TTL, description="Lifetime of the link in seconds. Default: LINK_TTL.")
    uses: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="How often the media may be requested from its first byte. Default: no limit.",
    )
    bytes: Annotated[int, BeforeValidator(parse_size_of_media), Field(ge=1, le=MAX_COUNT)] | None = Field(
        None,
        description="Maximum number of bytes that the server sends for this link in total: a number, or a size such as "
        "`10GiB`. Default: no limit.",
    )
    network: str | None = Field(
        None,
        description="Network whose clients may use the link: an IP address (an IPv6 address stands for its /64), a "
        "network such as `10.0.0.0/8`, or `client` for the sender of this request. Default: all clients may use it.",
    )


def parse_link_query(values: Mapping[str, object]) -> LinkQuery:
    """Parse the parameters of a link. Raises `InvalidParameter` if one is invalid or unknown."""
    try:
        return LinkQuery.model_validate(values)
    except ValidationError as error:
        raise invalid_parameter(error) from None


def make_link(
    query: LinkQuery, *, now: float, ttl: float, client: str = "", key: Key | None = None, by_operator: bool = False
) -> Link:
    """Make the link that `query` describes. `ttl` is the lifetime in seconds if the query has none, `client` the
    address of the client that requests the link, and `key` the API key that issues the link. `by_operator` states that
    the operator signs the link on the command line. Raises `InvalidUrl`, `InvalidParameter` or `UnsupportedConversion`
    if a parameter is invalid, or if no request that uses the link could succeed."""
    if query.route not in LINKABLE:
        raise InvalidParameter(f"`route`: must be one of {', '.join(LINKABLE)}.")
    if query.method == "redirect" and (query.bytes is not None or query.uses is not None):
        raise InvalidParameter(
            "`method`: `redirect` cannot be combined with `uses` or `bytes`, because the client fetches the media from "
            "another server. Omit these limits, or choose another method."
        )
    url = check_url(query.url)
    check(request_of(query))
    if query.format:
        check_selector(query.format)
    names = LINKABLE[query.route].model_fields.keys() - {"url"}
    expires = now + min(query.ttl or ttl, MAX_TTL)
    if key is not None and key.expires is not None:
        expires = min(expires, key.expires.timestamp())
    return Link(
        url=url,
        expires=int(expires),
        id=secrets.token_bytes(_ID_BYTES),
        route=query.route,
        params=query.model_dump(include=set(names), exclude_defaults=True),
        key="" if key is None else key.name,
        digest=b"" if key is None else key.digest[:DIGEST_BYTES],
        by_operator=by_operator,
        packed_network=b"" if query.network is None else _network(query.network, client),
        uses=query.uses,
        max_bytes=query.bytes,
    )


def link_path(link: Link, token: str) -> str:
    """Return the URL path of `link`, whose token is `token`. The path ends in a file name for the media."""
    name = link.params.get("filename")
    segment = path_name(None if name is None else str(name), str(link.params.get("to", "")))
    return f"/s/{token}/{quote(segment, safe='')}"


def _network(text: str, client: str) -> bytes:
    """Encode the network `text` or, if `text` is OWN_NETWORK, the network of the IP address `client`. Raises
    `InvalidParameter` if the text or the address is invalid."""
    try:
        return pack_network(str(ip_address(client)) if text == OWN_NETWORK else text)
    except ValueError:
        raise InvalidParameter(
            "`network`: `client` stands for the sender of a request, whose address is not known here. Behind a "
            "reverse proxy, `client` requires TRUSTED_PROXIES; on the command line, name an IP address or a network."
            if text == OWN_NETWORK
            else "`network`: must be an IP address, a network such as 10.0.0.0/8, or `client`."
        ) from None
