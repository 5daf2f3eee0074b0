"""The routes `POST /login`, which exchanges an API key for a session cookie, and `POST /logout`, which removes the
cookie."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serverpy.access.credentials import COOKIE
from serverpy.api.access import caller_of, gate_of
from serverpy.api.bodies import BodyRoute
from serverpy.api.problems import examples
from serverpy.errors import InvalidParameter, KeyForbids, KeyInvalid, RateLimited, TooLarge

BODY_BYTES = 4096
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
_BODY = {
    "schema": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string", "format": "password"}}},
    "example": {"key": "the key"},
}
_SESSION = {
    "description": "The session has begun.",
    "headers": {"Set-Cookie": {"description": "The session cookie.", "schema": {"type": "string"}}},
}

router = APIRouter(route_class=BodyRoute)


@router.post(
    "/login",
    summary="Exchange an API key for a session cookie",
    status_code=204,
    response_class=Response,
    responses={204: _SESSION, **examples(InvalidParameter, KeyInvalid, KeyForbids, TooLarge, RateLimited)},
    openapi_extra={"requestBody": {"required": True, "content": {JSON: _BODY, FORM: _BODY}}},
)
async def login(request: Request) -> Response:
    secret = _key_in(await _body(request), request.headers.get("content-type", ""))
    value, seconds = await gate_of(request).log_in(secret, caller_of(request).client, request.scope["headers"])
    return _cookie(request, value, seconds)


@router.post(
    "/logout",
    summary="End the session of this browser",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "The response removes the session cookie."}, **examples(KeyForbids)},
)
async def logout(request: Request) -> Response:
    gate_of(request).check_origin(caller_of(request).client, request.scope["headers"])
    return _cookie(request, "", 0)


async def _body(request: Request) -> bytes:
    body = await request.body()
    if len(body) > BODY_BYTES:
        raise TooLarge(f"The request body is too large: at most {BODY_BYTES} bytes are allowed.")
    return body


def _key_in(body: bytes, content_type: str) -> bytes:
    """Return the API key in the body of a login request. Raises `InvalidParameter` if the body does not contain exactly
    one key, or is neither JSON nor a form. A page of another site can send other types, such as `text/plain`, without a
    CORS preflight."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == JSON:
            content = json.loads(body)
            keys = [content.get("key")] if isinstance(content, dict) else []
        elif kind == FORM:
            keys = list(parse_qs(body.decode(), max_num_fields=8).get("key", []))
        else:
            raise InvalidParameter(f"Unsupported Content-Type: send the key as {JSON} or {FORM}.")
        # `encode` raises ValueError for lone surrogates, which JSON can contain
        found = [key.encode() for key in keys if isinstance(key, str)]
    except (ValueError, RecursionError):
        found = []
    match found:
        case [bytes(key)]:
            return key
    raise InvalidParameter("The body must contain exactly one `key`, as a string.")


def _cookie(request: Request, value: str, seconds: int) -> Response:
    """Make the response that sets the session cookie with a lifetime of `seconds`, or removes the cookie if `seconds`
    is 0. A browser sends the cookie only to this application, and only for pages of the same site; scripts cannot read
    it."""
    answer = Response(status_code=204)
    answer.set_cookie(
        COOKIE,
        value,
        max_age=seconds,
        path=request.scope.get("root_path") or "/",
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )
    return answer


def _is_secure(request: Request) -> bool:
    """Return whether the browser uses https. Behind a TLS proxy that is not trusted, only the field Origin shows this;
    without that field, the scheme of PUBLIC_URL decides."""
    origin = request.headers.get("origin", "")
    public_url: str | None = request.app.state.links.public_url
    is_public = not origin.startswith("http:") and (public_url or "").startswith("https:")
    return request.url.scheme == "https" or origin.startswith("https:") or is_public
