"""Whether a request was sent by a page of another site. Pure.

A browser sends cookies and remembered passwords on its own. So a request that changes something, and that a page of
another origin made, is refused (cross-site request forgery).
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from serverpy.access.clients import Fields

_OWN_SITES = (b"same-origin", b"none")
_OF_ORIGIN = (b"host", b"origin", b"sec-fetch-site")


def is_of_other_origin(fields: Fields, own_hosts: Collection[str] = ()) -> bool:
    """Return whether the fields say that a page of another origin made the request. Programs send neither
    Sec-Fetch-Site nor Origin; browsers leave the former out over plain HTTP. `own_hosts` are names of this server
    besides the one in Host, which a proxy may replace."""
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
