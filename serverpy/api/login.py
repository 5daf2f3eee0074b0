"""`POST /login` and `/logout`: the session of the web page, a cookie instead of a key."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serverpy.access.credentials import COOKIE
from serverpy.api.access import caller_of, gate_of
from serverpy.api.problems import examples
from serverpy.errors import InvalidParameter, KeyForbids, KeyInvalid, RateLimited, TooLarge

BODY_BYTES = 4096
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
_BODY = {
    "schema": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string", "format": "password"}}},
    "example": {"key": "the key"},
}
_SESSION = {
    "description": "The session begins.",
    "headers": {"Set-Cookie": {"description": "The session.", "schema": {"type": "string"}}},
}

router = APIRouter()


@router.post(
    "/login",
    summary="Exchange a key for a session in this browser",
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
    summary="End the session in this browser",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "The browser forgets the session."}, **examples(KeyForbids)},
)
async def logout(request: Request) -> Response:
    gate_of(request).check_origin(request.scope["headers"])
    return _cookie(request, "", 0)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise TooLarge(f"The body of this request may have {BODY_BYTES} bytes.")
    return body


def _key_in(body: bytes, content_type: str) -> bytes:
    """Return the key in the body of a login. Pages of other sites can send other types, such as `text/plain`, without
    asking the server. Raises `InvalidParameter` if there is not exactly one key."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == JSON:
            content = json.loads(body)
            keys = [content.get("key")] if isinstance(content, dict) else []
        elif kind == FORM:
            keys = list(parse_qs(body.decode(), max_num_fields=8).get("key", []))
        else:
            raise InvalidParameter(f"Send the key as {JSON} or {FORM}.")
        found = [key.encode() for key in keys if isinstance(key, str)]  # JSON can contain lone surrogates
    except (ValueError, RecursionError):
        found = []
    match found:
        case [bytes(key)]:
            return key
    raise InvalidParameter("`key`: exactly one is required.")


def _cookie(request: Request, value: str, seconds: int) -> Response:
    """Make the response that sets the cookie, or removes it if `seconds` is 0. The cookie is only for this application,
    no script can read it, and no other site can make a browser send it."""
    answer = Response(status_code=204)
    is_secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")
    answer.set_cookie(
        COOKIE,
        value,
        max_age=seconds,
        path=request.scope.get("root_path") or "/",
        secure=is_secure,  # a proxy that speaks TLS may not be trusted, but the browser names its page's origin
        httponly=True,
        samesite="strict",
    )
    return answer
