"""The destinations of the bytes of a fragment. The bytes go into the stream or, if yt-dlp's code needs the whole
fragment at once, into memory. Bytes for the stream are decrypted if necessary, and the first bytes are checked."""

from __future__ import annotations

from collections.abc import Callable

from serverpy.aes import Decryption
from serverpy.errors import TooLarge
from serverpy.segment_kinds import JUDGED_BYTES, refuse_markup

FRAGMENT_BYTES = 32 * 1024 * 1024


class Whole:
    """A fragment that is held in memory, up to FRAGMENT_BYTES."""

    def __init__(self) -> None:
        self.content = bytearray()

    def add(self, data: bytes) -> None:
        self.content += data
        if len(self.content) > FRAGMENT_BYTES:
            raise TooLarge("A fragment of the media is too large to hold in memory.")


class Plain:
    """A fragment whose bytes are passed to `give` as they arrive. Before the first of them, `judge` is called with the
    first JUDGED_BYTES bytes, or with all bytes if the fragment has fewer. If `judge` raises an error, no byte is passed
    to `give`."""

    def __init__(self, give: Callable[[bytes], None], judge: Callable[[bytes], None]) -> None:
        self._give = give
        self._judge = judge
        self._held: bytes | None = b""
        """The first bytes of the fragment, while they are too few for the check. None after the check."""

    def add(self, data: bytes) -> None:
        if self._held is not None:
            data = self._held + data
            if len(data) < JUDGED_BYTES:
                self._held = data
                return
            self._judge(data[:JUDGED_BYTES])
            self._held = None
        self._give(data)

    def finish(self) -> None:
        if held := self._held:
            self._judge(held)
            self._held = None
            self._give(held)


class Decrypted:
    """A fragment whose bytes are decrypted and passed to `plain` as they arrive. Raises NotMedia if the encrypted bytes
    are markup."""

    def __init__(self, plain: Plain, key: bytes, iv: bytes) -> None:
        self._plain = plain
        self._decryption = Decryption(key, iv)
        # check before decryption, because decrypting a web page would result in random bytes
        self._encrypted = Plain(self._decrypt, refuse_markup)

    def add(self, data: bytes) -> None:
        self._encrypted.add(data)

    def finish(self) -> None:
        self._encrypted.finish()
        if decrypted := self._decryption.finish():
            self._plain.add(decrypted)
        self._plain.finish()

    def _decrypt(self, data: bytes) -> None:
        if decrypted := self._decryption.add(data):
            self._plain.add(decrypted)
