"""The parameters of a signed link: what `POST /links` and `serverpy links sign` accept, and the link that they make."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serverpy.access.key import Key
from serverpy.access.links import DIGEST_BYTES, Link, pack_network
from serverpy.api.filenames import path_name
from serverpy.api.query import StreamQuery, invalid_parameter
from serverpy.errors import InvalidParameter
from serverpy.net.guard import check_url
from serverpy.plan import StreamRequest, check
from serverpy.settings.types import parse_size

LINKABLE: dict[str, type[BaseModel]] = {"stream": StreamQuery}
"""The routes that a link may lead to, each with the model of its parameters. `api/links.py` answers them."""
MAX_TTL = 366 * 24 * 3600
"""Longest lifetime of a link, in seconds."""
MAX_COUNT = 2**53
"""Largest number in a link: JSON and MessagePack carry larger integers not everywhere."""
OWN_NETWORK = "client"
_ID_BYTES = 8


def _size(value: object) -> object:
    """Parse a size, as `parse_size` does. Raises ValueError if it is invalid; `true` is not 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, or a size such as 10GiB")
    return parse_size(value)


class LinkQuery(StreamQuery):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"description": "The parameters of a link: those of its route, and its limits."},
    )

    route: str = Field("stream", description=f"Route that the link leads to: {', '.join(LINKABLE)}.")
    ttl: float | None = Field(None, ge=1, le=MAX_TTL, description="Seconds until the link expires. Default: LINK_TTL.")
    uses: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="How often the media may be requested from its beginning. Default: no limit.",
    )
    bytes: Annotated[int, BeforeValidator(_size), Field(ge=1, le=MAX_COUNT)] | None = Field(
        None, description="Bytes that may be sent in all: a number, or a size such as `10GiB`. Default: no limit."
    )
    network: str | None = Field(
        None,
        description="Only clients of this network may use the link: an address (of IPv6, its /64), a network such as "
        "`10.0.0.0/8`, or `client` for the sender of this request. Default: all clients.",
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
    """Return the link that `query` asks for. `ttl` is its lifetime in seconds if the query names none, `client` the
    address of the sender, `key` the key that issues the link, `by_operator` whether the operator signs it. Raises
    `InvalidUrl`, `InvalidParameter` or `UnsupportedConversion` if no request with these parameters could succeed."""
    if query.route not in LINKABLE:
        raise InvalidParameter(f"`route`: must be one of {', '.join(LINKABLE)}.")
    if query.method == "redirect" and (query.bytes is not None or query.uses is not None):
        raise InvalidParameter(
            "`method`: a redirect shows the media's own address, which no limit on uses or bytes binds."
        )
    url = check_url(query.url)
    check(StreamRequest(url=url, to=query.to, item=query.item, start=query.start, end=query.end))
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
    """Return the path of a link, which ends in a name for the file."""
    name = link.params.get("filename")
    segment = path_name(None if name is None else str(name), str(link.params.get("to", "")))
    return f"/s/{token}/{quote(segment, safe='')}"


def _network(text: str, client: str) -> bytes:
    try:
        return pack_network(str(ip_address(client)) if text == OWN_NETWORK else text)
    except ValueError:
        raise InvalidParameter("`network`: must be an IP address, a network such as 10.0.0.0/8, or client.") from None
