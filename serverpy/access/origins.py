"""The detection of requests that a page of another origin sent. Pure.

A browser adds cookies and remembered passwords to a request by itself. To prevent cross-site request forgery, the
server refuses a request that changes something if a page of another origin sent it.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from serverpy.access.clients import Fields

_OWN_SITES = (b"same-origin", b"none")
_OF_ORIGIN = (b"host", b"origin", b"sec-fetch-site")


def is_of_other_origin(fields: Fields, own_hosts: Collection[str] = ()) -> bool:
    """Return whether the header fields show that a page of another origin sent the request. Clients other than browsers
    send neither Sec-Fetch-Site nor Origin. Over plain HTTP, browsers send no Sec-Fetch-Site. `own_hosts` are the host
    names of this server, because a proxy may have replaced the Host field."""
    values = {name: value for name, value in fields if name in _OF_ORIGIN}
    site = values.get(b"sec-fetch-site")
    if site is not None:
        return site not in _OWN_SITES
    origin = values.get(b"origin")
    if origin is None:
        return False
    try:
        parts = urlsplit(origin.decode("latin-1"))
        return parts.netloc.lower() != values.get(b"host", b"").decode("latin-1").lower() and (
            parts.hostname not in own_hosts
        )
    except ValueError:
        return True
