"""Where the bytes of a fragment go: through a check of its first bytes, and through decryption if it is encrypted, into
the stream, or into memory if yt-dlp's code needs all of it at once."""

from __future__ import annotations

from collections.abc import Callable

from serverpy import containers
from serverpy.aes import Decryption
from serverpy.errors import TooLarge

FRAGMENT_BYTES = 32 * 1024 * 1024
_TELLING_BYTES = 64
"""Minimum number of bytes in which `Plain` looks for a web page, if more follow: fewer may look like text by chance."""


class Whole:
    """A fragment that is held in memory, up to FRAGMENT_BYTES."""

    def __init__(self) -> None:
        self.content = bytearray()

    def add(self, data: bytes) -> None:
        self.content += data
        if len(self.content) > FRAGMENT_BYTES:
            raise TooLarge("A fragment of the media is too large to hold in memory.")


class Plain:
    """A fragment whose bytes are passed to `give` as they arrive. `add` and `finish` raise NotMedia, before any byte is
    passed on, if the fragment begins like a web page or consists of a short text."""

    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give = give
        self._held: bytes | None = b""
        """The first bytes, as long as they are too few. None after they were judged."""

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
