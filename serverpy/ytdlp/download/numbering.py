"""The media sequence numbers and byte ranges of the fragments into which yt-dlp divides an HLS playlist. The module
does no I/O.

If the playlist states no IV, the media sequence number of a segment is its IV (RFC 8216 §5.2). yt-dlp also counts
initialization sections, which have no media sequence number, and does not count the segments that it leaves out. By
either error, all later segments would get a wrong IV. yt-dlp also applies the EXT-X-BYTERANGE of a segment that it
leaves out to the next segment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbered:
    """One of yt-dlp's fragments: its media sequence number, whether the playlist marks it as missing (EXT-X-GAP),
    whether it is an initialization section, and the offset of its first byte and the offset after its last byte (None
    if it is a whole file, or an initialization section)."""

    number: int
    is_gap: bool = False
    is_map: bool = False
    byte_range: tuple[int, int] | None = None


def numbered(manifest: str, discontinuity: int | None) -> list[Numbered]:
    """Return the fragments of the playlist `manifest` in yt-dlp's order. If `discontinuity` (yt-dlp's `format_index`)
    is not None, returns only the fragments before which exactly this number of EXT-X-DISCONTINUITY tags occurs. Raises
    ValueError if a number in the playlist is invalid."""
    found: list[Numbered] = []
    number = discontinuities = 0
    in_advert = is_gap = False
    byte_range: tuple[int, int] | None = None
    range_end = 0
    for line in map(str.strip, manifest.splitlines()):
        is_wanted = discontinuity in (None, discontinuities)
        if line and not line.startswith("#"):
            if is_wanted and not in_advert:
                is_padding = not line.strip("\0")  # NUL bytes of a fixed-size buffer, which yt-dlp treats as a URL
                found.append(Numbered(number, is_gap or is_padding, byte_range=byte_range))
            number, is_gap, byte_range = number + 1, False, None
        elif line.startswith("#EXT-X-MAP") and is_wanted:
            found.append(Numbered(number, is_map=True))
        elif line.startswith("#EXT-X-MEDIA-SEQUENCE"):
            number = int(line[22:])
        elif line.startswith("#EXT-X-GAP"):
            is_gap = True
        elif line.startswith("#EXT-X-BYTERANGE"):
            length, at, offset = line[17:].partition("@")
            first = int(offset) if at else range_end
            range_end = first + int(length)
            byte_range = first, range_end
        elif line.startswith("#EXT-X-DISCONTINUITY"):
            discontinuities += 1
        else:
            in_advert = _advert(line, in_advert)
    return found


def _advert(line: str, in_advert: bool) -> bool:
    """Return whether the fragments after `line` are advertisements, according to the tags of the services Anvato and
    Uplynk."""
    if line.startswith("#ANVATO-SEGMENT-INFO"):
        return "type=ad" in line or (in_advert and "type=master" not in line)
    if line.startswith("#UPLYNK-SEGMENT"):
        return line.endswith(",ad") or (in_advert and not line.endswith(",segment"))
    return in_advert
