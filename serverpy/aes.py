"""AES-128 decryption of HLS segments (RFC 8216 §4.3.2.4): CBC with an IV for each segment, and PKCS #7 padding at the
segment's end. The decryptor decrypts data as it arrives, and holds one block back because it may be padding."""

from __future__ import annotations

from typing import Any

from serverpy.errors import UpstreamFailed

BLOCK = 16


class InvalidKey(UpstreamFailed):
    """Error: the length of a response to a request for a decryption key is not that of an AES key."""

    def __init__(self) -> None:
        super().__init__("The media has an invalid decryption key.")


class Decryption:
    """The decryption of one segment. Raises `InvalidKey` if the length of the key is invalid, and `UpstreamFailed` if
    the length of the IV is invalid."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        if len(key) not in (16, 24, 32):
            raise InvalidKey
        if len(iv) != BLOCK:
            raise UpstreamFailed("The media has an invalid IV for its decryption key.")
        self._cipher = _cbc(key, iv)
        self._held = b""

    def add(self, data: bytes) -> bytes:
        """Decrypt `data`, the next bytes of the segment. Returns the plaintext of all complete blocks so far, except
        the last block, which may be padding."""
        data = self._held + data
        end = max(0, (len(data) - 1) // BLOCK * BLOCK)
        self._held = data[end:]
        return bytes(self._cipher.decrypt(data[:end])) if end else b""

    def finish(self) -> bytes:
        """Decrypt the last block of the segment, and return its plaintext without the padding. Raises `Undecryptable`
        if the segment is truncated, or was encrypted with another key."""
        if len(self._held) != BLOCK:
            raise Undecryptable(
                "An encrypted segment of the media is empty, or its length is not a multiple of the AES block size."
            )
        last = bytes(self._cipher.decrypt(self._held))
        padding = last[-1]
        if not 1 <= padding <= BLOCK or last[-padding:] != bytes([padding]) * padding:
            raise Undecryptable("An encrypted segment of the media cannot be decrypted with its key.")
        return last[:-padding]


class Undecryptable(UpstreamFailed):
    """Error: the length or the padding of an encrypted segment shows that the segment is truncated, or that it was not
    encrypted with the key. If the segment is requested again, the media server may send the right bytes."""


def _cbc(key: bytes, iv: bytes) -> Any:
    # Importing `Cryptodome` takes 3.5 MB of memory, so the import waits for the first encrypted segment.
    from Cryptodome.Cipher import AES

    return AES.new(key, AES.MODE_CBC, iv)
