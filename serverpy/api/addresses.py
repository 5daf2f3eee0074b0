"""The base URL at which clients reach this server, for absolute links."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import Scope

from serverpy.api.hosts import host_of


def base_of(scope: Scope, public_url: str | None, *, is_trusted: bool) -> str:
    """Return the URL with which absolute links begin: `public_base` of PUBLIC_URL or, without this setting, the scheme,
    host and root path of the request. X-Forwarded-Proto and X-Forwarded-Host are evaluated only if `is_trusted`, which
    states that a trusted proxy sent the request."""
    root_path = scope.get("root_path", "").rstrip("/")
    if public_url is not None:
        return public_base(public_url, root_path)
    scheme, host = str(scope.get("scheme", "http")), _valid(_field(scope, b"host")) or _own(scope)
    if is_trusted:
        forwarded = _field(scope, b"x-forwarded-proto").lower()
        scheme = forwarded if forwarded in ("http", "https") else scheme
        host = _valid(_field(scope, b"x-forwarded-host")) or host
    return f"{scheme}://{host}{root_path}"


def public_base(public_url: str, root_path: str) -> str:
    """Return PUBLIC_URL without a slash at its end. If it has no path, appends `root_path`. Otherwise its path is
    already the whole path below which clients reach the server."""
    url = public_url.rstrip("/")
    return url if urlsplit(url).path else url + root_path


def _field(scope: Scope, name: bytes) -> str:
    """Return the first item of a header field that contains a list, or "" if the field is missing. Proxies append
    items, so the first item describes the request of the client."""
    value = next((value for field, value in scope["headers"] if field == name), b"")
    return str(value.decode("latin-1")).partition(",")[0].strip()


def _valid(host: str) -> str | None:
    return host if host_of(host.encode("latin-1")) is not None else None


def _own(scope: Scope) -> str:
    """Return the address and port of the server's socket, for a request without a Host field (HTTP/1.0)."""
    address, port = scope.get("server") or ("localhost", None)
    name = f"[{address}]" if ":" in address else address
    return name if port is None else f"{name}:{port}"
