"""The lines of a playlist, compressed once and read many times: a playlist is long, repetitive, and held as long as its
stream. Each block is compressed by itself, so that a reader holds one decompressed block at a time."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

from serverpy.errors import TooLarge

BLOCK_BYTES = 16 * 1024
"""Bytes of text in one compressed block. The last line of a block may exceed this limit."""
MAX_LINE_BYTES = 32 * 1024
MAX_TEXT_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class PackedLines:
    """Text that arrives in chunks, as lines. Belongs to one stream, which reads one block of it at a time."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open = bytearray()
        self._text_bytes = 0
        self._rest = b""
        self._largest_bytes = BLOCK_BYTES
        self.packed_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the compressed blocks, one uncompressed block and an incomplete line."""
        return self.packed_bytes + self._largest_bytes + len(self._rest)

    def write(self, data: bytes) -> list[str]:
        """Add `data`, and return the lines that it completes. Raises `TooLarge` if the text, or a line, is too long."""
        if not self._text_bytes:
            data = data.removeprefix(_BOM)
        self._text_bytes += len(data)
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if self._text_bytes > MAX_TEXT_BYTES or len(self._rest) > MAX_LINE_BYTES:
            raise TooLarge("The media's playlist is too large.")
        return [self._keep(line) for line in lines if line]

    def finish(self, *, is_whole: bool = True) -> list[str]:
        """End the text, and return its last line if that had no line break. Drops that line if it is not a tag and
        `is_whole` is false: the line may then be a part of an address."""
        rest, self._rest = self._rest, b""
        lines = [self._keep(rest)] if rest and (is_whole or rest.startswith(b"#")) else []
        self._pack()
        return lines

    def lines(self) -> Iterator[str]:
        """Yield all lines that are not empty, from the first. May be called more than once."""
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
