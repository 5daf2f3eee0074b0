"""Storage for the lines of a playlist, which are compressed once and read several times. Compression saves memory,
because a playlist is long and repetitive, and is kept until its stream ends. Each block of lines is compressed
separately, so that a reader needs memory for only one decompressed block."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

from serverpy.errors import TooLarge

BLOCK_BYTES = 16 * 1024
"""Number of bytes of text in one compressed block. The last line of a block may extend beyond this limit."""
MAX_LINE_BYTES = 32 * 1024
MAX_TEXT_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class PackedLines:
    """A text that is written in chunks and read as lines. The text belongs to one stream, which decompresses one block
    at a time."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open = bytearray()
        self._text_bytes = 0
        self._rest = b""
        self._largest_bytes = BLOCK_BYTES
        self.packed_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Number of bytes that the text takes in memory: the compressed blocks, one uncompressed block and an
        incomplete line."""
        return self.packed_bytes + self._largest_bytes + len(self._rest)

    def write(self, data: bytes) -> list[str]:
        """Add `data` to the text, and return the lines that `data` completes. Raises `TooLarge` if the text or a line
        is too long."""
        if not self._text_bytes:
            data = data.removeprefix(_BOM)
        self._text_bytes += len(data)
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if self._text_bytes > MAX_TEXT_BYTES or len(self._rest) > MAX_LINE_BYTES:
            raise TooLarge("The media's playlist is too large.")
        return [self._keep(line) for line in lines if line]

    def finish(self, *, is_whole: bool = True) -> list[str]:
        """End the text. Returns the last line if it has no line break. If `is_whole` is false, the text may have been
        truncated. In this case, drops that line unless it begins with `#`, because the line may be only the beginning
        of a URL."""
        rest, self._rest = self._rest, b""
        lines = [self._keep(rest)] if rest and (is_whole or rest.startswith(b"#")) else []
        self._pack()
        return lines

    def lines(self) -> Iterator[str]:
        """Yield all lines that are not empty, from the first line. The caller may call this method more than once."""
        for block in self._blocks:
            yield from (_text(line.removesuffix(b"\n")) for line in io.BytesIO(zlib.decompress(block)))

    def _keep(self, line: bytes) -> str:
        if len(line) > MAX_LINE_BYTES:
            raise TooLarge("The media's playlist is too large.")
        self._open += line
        self._open += b"\n"
        if len(self._open) >= BLOCK_BYTES:
            self._pack()
        return _text(line)

    def _pack(self) -> None:
        if self._open:
            block = zlib.compress(self._open, level=6)
            self._blocks.append(block)
            self.packed_bytes += len(block)
            self._largest_bytes = max(self._largest_bytes, len(self._open))
            self._open = bytearray()


def _text(line: bytes) -> str:
    return line.decode("utf-8", "ignore")
