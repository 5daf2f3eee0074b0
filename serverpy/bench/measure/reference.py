"""The expected bytes of the sample site's media, with which every client of the bench compares each byte that it
receives.

The module keeps a bounded number of blocks, so that the bench does not hold 180 MB in memory beside the servers that it
measures.
"""

from __future__ import annotations

from functools import cache, lru_cache

from serverpy.errors import ConfigurationError
from serverpy.sample.content import Content, FileContent, large_content
from serverpy.sample.make import ensure_media

BLOCK_BYTES = 1 << 20
BLOCKS_KEPT = 24
HLS_VARIANT = "high"
"""The variant of the HLS playlist with the highest bandwidth, which every measured server chooses by default."""


class Reference:
    """The expected bytes of one media file or playlist. `size` is their number."""

    def __init__(self, parts: tuple[Content, ...]) -> None:
        self._parts = parts
        self.size = sum(part.size for part in parts)
        self._block = lru_cache(BLOCKS_KEPT)(self._make_block)

    def matches(self, start: int, data: bytes) -> bool:
        """Return whether the media contains `data` at offset `start`. Bytes past the end never match."""
        if start + len(data) > self.size:
            return False
        view, at = memoryview(data), 0
        while at < len(data):
            number, place = divmod(start + at, BLOCK_BYTES)
            stop = min(at + BLOCK_BYTES - place, len(data))
            if self._block(number)[place : place + stop - at] != view[at:stop]:
                return False
            at = stop
        return True

    def _make_block(self, number: int) -> memoryview:
        start, stop = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, self.size)
        block = bytearray()
        begin = 0
        for part in self._parts:
            low, high = max(start - begin, 0), min(stop - begin, part.size)
            if low < high:
                block += b"".join(part.pieces(low, high))
            begin += part.size
        return memoryview(bytes(block))


@cache
def reference(media: str) -> Reference:
    """Return the expected bytes of a media file or playlist. `media` is `large-<MiB>.mp4`, a file of the sample site,
    or `hls/<kind>` (the concatenated segments of its best variant). Raises ConfigurationError if the sample site has no
    such media."""
    directory = ensure_media()
    size = media.removeprefix("large-").removesuffix(".mp4")
    if media == f"large-{size}.mp4" and size.isdecimal():
        content = large_content(int(size), directory / "prog.mp4")
        if content is not None:
            return Reference((content,))
    path = directory / media
    playlist = path / f"{HLS_VARIANT}.m3u8"
    if playlist.is_file():
        lines = playlist.read_text(encoding="utf-8").splitlines()
        return Reference(tuple(FileContent(path / line) for line in lines if line and not line.startswith("#")))
    if path.is_file():
        return Reference((FileContent(path),))
    raise ConfigurationError(
        f"the sample site has no media {media!r}: name one of its files, large-<MiB>.mp4, or hls/<kind>"
    )
