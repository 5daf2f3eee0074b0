"""The media sequence numbers of the fragments that yt-dlp makes of an HLS playlist. Pure. If the playlist states no IV,
a segment's number is its IV (RFC 8216 §5.2). yt-dlp counts initialization sections, which have no number, and does not
count the segments that it leaves out; either error would give a wrong IV to all later segments.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbered:
    """One of yt-dlp's fragments: its media sequence number, whether the playlist marks it as missing (EXT-X-GAP), and
    whether it is an initialization section."""

    number: int
    is_gap: bool = False
    is_map: bool = False


def numbered(manifest: str, discontinuity: int | None) -> list[Numbered]:
    """Return the fragments of `manifest` in yt-dlp's order. `discontinuity` is yt-dlp's `format_index`: only the
    fragments of that discontinuity are listed. Raises ValueError if a number is invalid."""
    found: list[Numbered] = []
    number = discontinuities = 0
    in_advert = is_gap = False
    for line in map(str.strip, manifest.splitlines()):
        is_wanted = discontinuity in (None, discontinuities)
        if line and not line.startswith("#"):
            if is_wanted and not in_advert:
                found.append(Numbered(number, is_gap))
            number, is_gap = number + 1, False
        elif line.startswith("#EXT-X-MAP") and is_wanted:
            found.append(Numbered(number, is_map=True))
        elif line.startswith("#EXT-X-MEDIA-SEQUENCE"):
            number = int(line[22:])
        elif line.startswith("#EXT-X-GAP"):
            is_gap = True
        elif line.startswith("#EXT-X-DISCONTINUITY"):
            discontinuities += 1
        else:
            in_advert = _advert(line, in_advert)
    return found


def _advert(line: str, in_advert: bool) -> bool:
    """Return whether the fragments after `line` are adverts, according to the tags of Anvato and Uplynk."""
    if line.startswith("#ANVATO-SEGMENT-INFO"):
        return "type=ad" in line or (in_advert and "type=master" not in line)
    if line.startswith("#UPLYNK-SEGMENT"):
        return line.endswith(",ad") or (in_advert and not line.endswith(",segment"))
    return in_advert
