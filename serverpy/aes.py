"""AES-128 as HLS has it (RFC 8216 §4.3.2.4): CBC over each segment from its own IV, with PKCS #7 padding at its end.
Decrypted as it comes: one block is held back, for it may be padding."""

from __future__ import annotations

from typing import Any

from serverpy.errors import UpstreamFailed

BLOCK = 16


class Decryption:
    """One segment. Raises `UpstreamFailed` for what cannot be a key."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        if len(key) not in (16, 24, 32) or len(iv) != BLOCK:
            raise UpstreamFailed("The media has an invalid decryption key.")
        self._cipher = _cbc(key, iv)
        self._held = b""

    def add(self, data: bytes) -> bytes:
        """What can be told of the plaintext so far."""
        data = self._held + data
        end = max(0, (len(data) - 1) // BLOCK * BLOCK)
        self._held = data[end:]
        return bytes(self._cipher.decrypt(data[:end])) if end else b""

    def finish(self) -> bytes:
        """What is left, without the padding. Raises `UpstreamFailed` for a segment that was cut, or another key's."""
        if len(self._held) != BLOCK:
            raise UpstreamFailed("An encrypted segment of the media is not made of whole blocks.")
        last = bytes(self._cipher.decrypt(self._held))
        padding = last[-1]
        if not 1 <= padding <= BLOCK or last[-padding:] != bytes([padding]) * padding:
            raise UpstreamFailed("An encrypted segment of the media does not open with its key.")
        return last[:-padding]


def _cbc(key: bytes, iv: bytes) -> Any:
    # 3.5 MB, which a server that never meets an encrypted segment does not need.
    from Cryptodome.Cipher import AES

    return AES.new(key, AES.MODE_CBC, iv)
