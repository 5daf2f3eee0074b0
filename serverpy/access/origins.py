"""The detection of requests that a page of another origin sent. The functions are pure.

A browser adds cookies and remembered passwords to a request by itself. To prevent cross-site request forgery, the
server refuses a request that changes something if a page of another origin sent it.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from serverpy.access.clients import Fields

_OWN_SITES = (b"same-origin", b"none")
_OF_ORIGIN = (b"host", b"origin", b"sec-fetch-site", b"x-forwarded-host")


def is_of_other_origin(
    fields: Fields,
    own_hosts: Collection[str] = (),
    allowed: Collection[str] = (),
    *,
    by_trusted_proxy: bool = False,
) -> bool:
    """Return whether the header fields show that a page of another origin sent the request. Clients other than browsers
    send neither Sec-Fetch-Site nor Origin. Over plain HTTP, browsers send no Sec-Fetch-Site. `own_hosts` are the host
    names of this server, because a proxy may have replaced the Host field. Origins in `allowed` count as the origin of
    this server. `by_trusted_proxy` states that a trusted proxy sent the request; then X-Forwarded-Host also contains a
    host name of this server."""
    values = {name: value for name, value in fields if name in _OF_ORIGIN}
    origin = values.get(b"origin")
    if origin is not None and origin.decode("latin-1") in allowed:
        return False
    site = values.get(b"sec-fetch-site")
    if site is not None:
        return site not in _OWN_SITES
    if origin is None:
        return False
    own = {values.get(b"host", b"").lower()}
    if by_trusted_proxy:
        own.add(values.get(b"x-forwarded-host", b"").partition(b",")[0].strip().lower())
    try:
        parts = urlsplit(origin.decode("latin-1"))
        netloc = parts.netloc.lower()
        return (not netloc or netloc.encode("latin-1") not in own) and parts.hostname not in own_hosts
    except ValueError:
        return True
