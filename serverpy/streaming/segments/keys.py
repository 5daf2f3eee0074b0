"""The decryption keys of encrypted segments. A key is part of the extraction, is part of the playlist (as a `data:`
URL), or must be requested from a URL."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

from serverpy.errors import UpstreamFailed
from serverpy.streaming.segments.segment import Encryption

MAX_KEYS = 8
"""Maximum number of keys in the cache of a stream. Most playlists use one key after another, and some alternate between
keys."""
KEY_BYTES = (16, 24, 32)
"""Lengths of AES keys, in bytes. HLS allows only 16 bytes; some sites use 24 or 32 bytes."""
_STANDARD = bytes.maketrans(b"-_", b"+/")
"""Translation of the base64url alphabet into the base64 alphabet (RFC 4648 §4, §5)."""


class Keys:
    """The cache of the latest decryption keys of one stream. It maps a digest of the URL of a key to the key."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, bytes] = OrderedDict()

    async def get(self, encryption: Encryption, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the decryption key for `encryption`. If the key is at a URL and not in the cache, awaits `fetch`,
        which requests the key. Raises `UpstreamFailed` if the key is invalid."""
        if encryption.key is not None:
            return encryption.key
        if encryption.uri[:5].lower() == "data:":
            return _inline(encryption.uri)
        place = _digest(encryption.uri)
        key = self._keys.get(place)
        if key is None:
            key = await fetch()
            self._keys[place] = key
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        return key

    def forget(self, encryption: Encryption | None) -> None:
        """Remove the key for `encryption` from the cache, so that the key is requested again before its next use.
        Called before a segment is requested again, because the media server may have sent a wrong key."""
        if encryption is not None:
            self._keys.pop(_digest(encryption.uri), None)


def _digest(uri: str) -> bytes:
    """Return a digest of `uri`. The cache holds digests instead of URLs, because a URL in a playlist may be long."""
    return hashlib.blake2b(uri.encode("utf-8", "replace"), digest_size=16).digest()


def _inline(uri: str) -> bytes:
    """Return the bytes in the `data:` URL `uri` (RFC 2397). Accepts base64 as players do: with or without padding and
    white space, and in either alphabet (RFC 4648 §4, §5). Raises `UpstreamFailed` if the URL declares base64 and its
    data is not valid base64."""
    head, _, data = uri.partition(",")
    content = unquote_to_bytes(data)
    if "base64" not in (parameter.strip().lower() for parameter in head.split(";")[1:]):
        return content
    digits = b"".join(content.split()).rstrip(b"=").translate(_STANDARD)
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error as error:
        raise UpstreamFailed("The media has an invalid decryption key.") from error
