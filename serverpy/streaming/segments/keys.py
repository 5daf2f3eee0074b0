"""The keys of encrypted segments: given by the extraction, inline in the playlist, or at a URL."""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

from serverpy.errors import UpstreamFailed
from serverpy.streaming.segments.segment import Encryption

MAX_KEYS = 8
"""Number of keys that are kept: playlists go from one key to the next, and some alternate between keys."""
KEY_BYTES = (16, 24, 32)
"""Lengths of AES keys. HLS allows only the first; some sites use the others."""


class Keys:
    """The latest keys of one stream, by URL."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, bytes] = OrderedDict()

    async def get(self, encryption: Encryption, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the key of `encryption`; `fetch` gets the bytes at its URL. Raises `UpstreamFailed` if the key is
        invalid."""
        if encryption.key is not None:
            return encryption.key
        if encryption.uri[:5].lower() == "data:":
            return _inline(encryption.uri)
        key = self._keys.get(encryption.uri)
        if key is None:
            key = await fetch()
            self._keys[encryption.uri] = key
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        return key

    def forget(self, encryption: Encryption | None) -> None:
        """Forget the key, so that the next use fetches it again, because a failing server may have sent a wrong key."""
        if encryption is not None:
            self._keys.pop(encryption.uri, None)


def _inline(uri: str) -> bytes:
    """Return the bytes of a `data:` URL (RFC 2397)."""
    head, _, data = uri.partition(",")
    content = unquote_to_bytes(data)
    if not head.lower().endswith(";base64"):
        return content
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise UpstreamFailed("The media has an invalid decryption key.") from error
