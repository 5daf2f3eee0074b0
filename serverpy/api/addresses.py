"""The address at which clients reach this server, for absolute links."""

from __future__ import annotations

from starlette.types import Scope

from serverpy.api.hosts import host_of


def base_of(scope: Scope, public_url: str | None, *, is_trusted: bool) -> str:
    """Return what absolute links begin with: PUBLIC_URL, or else the scheme, the host and the root path of the request.
    X-Forwarded-Proto and X-Forwarded-Host count only if `is_trusted`, which says that a trusted proxy has sent
    them."""
    if public_url is not None:
        return public_url.rstrip("/")
    scheme, host = str(scope.get("scheme", "http")), _valid(_field(scope, b"host")) or _own(scope)
    if is_trusted:
        forwarded = _field(scope, b"x-forwarded-proto").lower()
        scheme = forwarded if forwarded in ("http", "https") else scheme
        host = _valid(_field(scope, b"x-forwarded-host")) or host
    return f"{scheme}://{host}{scope.get('root_path', '').rstrip('/')}"


def _field(scope: Scope, name: bytes) -> str:
    """Return the value of a header field. Proxies append to lists: the first item is that of the client's request."""
    value = next((value for field, value in scope["headers"] if field == name), b"")
    return str(value.decode("latin-1")).partition(",")[0].strip()


def _valid(host: str) -> str | None:
    return host if host_of(host.encode("latin-1")) is not None else None


def _own(scope: Scope) -> str:
    """Return the socket's address, for a request without Host (HTTP/1.0)."""
    address, port = scope.get("server") or ("localhost", None)
    name = f"[{address}]" if ":" in address else address
    return name if port is None else f"{name}:{port}"
