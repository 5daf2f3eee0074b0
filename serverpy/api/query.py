"""The model of the parameters of `/stream`, and the functions that parse a query string and check its encoding."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serverpy.containers import Target
from serverpy.errors import InvalidParameter, InvalidUrl
from serverpy.net.guard import check_url
from serverpy.options import Codec, StreamMethod
from serverpy.plan import StreamRequest
from serverpy.settings.types import parse_size_of_media

URL_MEANS = "URL (http or https) of a page, or of the media itself."
LANGUAGE = r"^[A-Za-z0-9]{1,8}([-_][A-Za-z0-9]{1,8})*$"
PAGE = "https://example.com/watch?v=1"
_CACHED, _MAX_CACHED = 64, 2048
"""Number of query strings whose parameters are cached, and their maximum length in bytes. The limits bound the memory
of the cache, which the memory budget does not count. Players send the same query for each range."""


def _height(value: object) -> object:
    """Return `value` if it is None, a number or `max`. Raises ValueError otherwise. The error names both choices;
    pydantic would report one error for each type of the union."""
    if value is None or value == "max" or isinstance(value, int | float) or re.fullmatch("[0-9]{1,10}", str(value)):
        return value
    raise ValueError("must be a number of pixels, or `max`")


class StreamQuery(BaseModel):
    """The parameters of a request for `/stream`."""

    model_config = ConfigDict(frozen=True)  # requests with the same query share one object

    url: str = Field(description=URL_MEANS, examples=[PAGE])
    format: str | None = Field(None, description="yt-dlp format selector, or the id of a format that `/info` lists.")
    to: Target = Field("source", description="Format to convert the media to.")
    method: StreamMethod | None = Field(
        None,
        description="How the server delivers the media. `redirect` responds with 302 and the URL of the media if a "
        "client can fetch it without the headers, cookies and network address of this server, otherwise with 422.",
    )
    height: Annotated[Annotated[int, Field(ge=1, le=2**31)] | Literal["max"] | None, BeforeValidator(_height)] = Field(
        None,
        description="Without `format`: maximum height of the video in pixels, measured on the shorter side, or `max` "
        "for the best. If all formats are higher, the lowest of them is chosen. Default: DEFAULT_HEIGHT.",
    )
    codec: Codec | None = Field(
        None,
        description="Without `format`: preferred video codec among formats of equal height. Default: DEFAULT_CODEC.",
    )
    lang: str | None = Field(
        None,
        pattern=LANGUAGE,
        description="Without `format`: language of the audio, as a BCP 47 tag. Default: the original language.",
        examples=["en"],
    )
    max_size: Annotated[int, BeforeValidator(parse_size_of_media), Field(ge=1, le=2**53)] | None = Field(
        None,
        description="Without `format`: maximum size in bytes, or a size such as `50MB`. The best format that is known "
        "to fit is chosen.",
    )
    item: int | None = Field(
        None,
        ge=1,
        le=2**53,
        description="Number of an item in a playlist or image post, or of a part of a video, from 1.",
    )
    start: float | None = Field(
        None,
        description="Only for live streams: the position at which to begin, in seconds from the oldest available "
        "position or, if negative, back from the end. Default: the live edge.",
    )
    end: float | None = Field(
        None, description="Position at which to end, in seconds. This version does not support the parameter."
    )
    download: bool = Field(
        False, description="If `1`, the server sends the media as an attachment, which a browser saves."
    )
    filename: str | None = Field(
        None,
        description="Name of the file that a browser saves. Default: the title of the media. The server may change the "
        "extension to that of the media.",
    )


OF_HEAD = frozenset({"download", "filename"})
"""The parameters of `/stream` that only change the head of the response. All others belong to the `StreamRequest`."""


def request_of(query: StreamQuery, **more: Any) -> StreamRequest:
    """Return the request for the stream that `query` describes. `more` contains the fields of the request that are not
    parameters of `/stream`, such as the range. Raises TypeError if a parameter that is not in `OF_HEAD` is not a field
    of `StreamRequest`."""
    values = {name: getattr(query, name) for name in StreamQuery.model_fields if name not in OF_HEAD}
    values["format"] = query.format or None  # an empty `format` means the default choice
    return StreamRequest(**values, **more)


def parse_query(query: bytes) -> StreamQuery:
    """Parse the query string of `/stream`. Raises `InvalidUrl` if the parameter `url` is invalid, or `InvalidParameter`
    if only another parameter is invalid."""
    return _parse_and_cache(query) if len(query) <= _MAX_CACHED else _parse(query)


def _parse(query: bytes) -> StreamQuery:
    values = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    try:
        check_encoding(query)
        return StreamQuery.model_validate(values)
    except (InvalidParameter, ValidationError) as error:
        check_url(values.get("url", PAGE))
        if isinstance(error, InvalidParameter):
            raise
        raise invalid_parameter(error) from None


_parse_and_cache = functools.lru_cache(maxsize=_CACHED)(_parse)


def invalid_parameter(error: ValidationError) -> InvalidParameter:
    """Return the first error that pydantic found, as an `InvalidParameter`."""
    return fault_of(error.errors(include_url=False, include_context=False)[0])


def fault_of(details: Mapping[str, Any]) -> InvalidParameter:
    """Return an error of pydantic as an `InvalidParameter` that names the parameter."""
    location = details["loc"]
    if details["type"] == "json_invalid":
        return InvalidParameter("The body is not valid JSON.")
    if location in ((), ("body",)):
        return InvalidParameter("The body must be a JSON object, sent with `Content-Type: application/json`.")
    name = location[1] if location[0] in ("body", "query") else location[0]  # the name of a type of a union may follow
    return InvalidParameter(f"`{name}`: {details['msg'].removeprefix('Value error, ')}.")


def check_encoding(query: bytes) -> None:
    """Check that all values in `query` are UTF-8, because a URL with replacement characters would name another page.
    Raises `InvalidUrl` if the URL is not UTF-8, or `InvalidParameter` if only another value is not UTF-8."""
    bad = {name for name, _, value in (pair.partition(b"=") for pair in query.split(b"&")) if not _is_utf8(value)}
    if b"url" in bad:
        raise InvalidUrl("The URL is not UTF-8: percent-encode it as UTF-8.")
    if bad:
        raise InvalidParameter("A parameter is not UTF-8: percent-encode it as UTF-8.")


def _is_utf8(value: bytes) -> bool:
    try:
        unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return False
    return True
