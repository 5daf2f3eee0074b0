"""The destinations of the bytes of a fragment. The bytes go into the stream or, if yt-dlp's code needs the whole
fragment at once, into memory. Bytes for the stream are decrypted if necessary, and the first bytes are checked."""

from __future__ import annotations

from collections.abc import Callable

from serverpy import containers
from serverpy.aes import Decryption
from serverpy.errors import TooLarge

FRAGMENT_BYTES = 32 * 1024 * 1024
_TELLING_BYTES = 64
"""Minimum number of first bytes by which `Plain` recognises a web page. Fewer bytes may look like text by chance, so
they are checked only if the fragment has no more."""


class Whole:
    """A fragment that is held in memory, up to FRAGMENT_BYTES."""

    def __init__(self) -> None:
        self.content = bytearray()

    def add(self, data: bytes) -> None:
        self.content += data
        if len(self.content) > FRAGMENT_BYTES:
            raise TooLarge("A fragment of the media is too large to hold in memory.")


class Plain:
    """A fragment whose bytes are passed to `give` as they arrive. If the fragment begins like a web page, or is a short
    text, `add` or `finish` raises NotMedia before any byte is passed to `give`."""

    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give = give
        self._held: bytes | None = b""
        """The first bytes of the fragment, while they are too few for the check. None after the check."""

    def add(self, data: bytes) -> None:
        if self._held is not None:
            data = self._held + data
            if len(data) < _TELLING_BYTES:
                self._held = data
                return
            self._judge(data)
        self._give(data)

    def finish(self) -> None:
        if held := self._held:
            self._judge(held)
            self._give(held)

    def _judge(self, data: bytes) -> None:
        containers.identify(data[: containers.SNIFF_BYTES])
        self._held = None


class Decrypted:
    """A fragment whose bytes are decrypted and passed to `plain` as they arrive."""

    def __init__(self, plain: Plain, key: bytes, iv: bytes) -> None:
        self._plain = plain
        self._decryption = Decryption(key, iv)

    def add(self, data: bytes) -> None:
        if decrypted := self._decryption.add(data):
            self._plain.add(decrypted)

    def finish(self) -> None:
        if decrypted := self._decryption.finish():
            self._plain.add(decrypted)
        self._plain.finish()
