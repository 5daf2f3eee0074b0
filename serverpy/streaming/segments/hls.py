"""The parser of HLS media playlists (RFC 8216 and its second edition). The parser does no I/O: the caller passes one
line at a time, and the parser returns the segments. It keeps only the state that the next line may need, so its memory
does not depend on the length of the playlist.

The parser resolves conflicting tags as yt-dlp does, with four exceptions, because the file that yt-dlp writes would not
play:
- Media sequence numbers, from which decryption derives the IV, also count segments that are left out, and do not count
  initialization sections.
- A byte range applies only to the next URL.
- An EXT-X-MAP that repeats the current initialization section does not add the section again.
- An EXT-X-MAP with a different initialization section adds that section before the first segment that needs it. A
  section that only segments marked as missing (EXT-X-GAP) would need is not added.

The parser accepts errors that players accept: a byte order mark, blank lines before EXTM3U and attributes after it,
missing or invalid durations, and invalid sequence numbers. It rejects invalid values that would change the bytes of the
media: byte ranges and keys, and a sequence number from which the IV of a segment derives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from serverpy.errors import DrmProtected, ServerPYError, TooLarge, UnsupportedConversion, UpstreamFailed
from serverpy.streaming.first_bytes import NoMedia
from serverpy.streaming.segments import attributes
from serverpy.streaming.segments.segment import (
    MAX_SEGMENTS,
    MAX_URL_LENGTH,
    Encryption,
    Rules,
    Segment,
    joined,
    with_query,
)
from serverpy.streaming.segments.variables import Variables

_DRM = re.compile(
    r'URI="skd://|KEYFORMAT="(?:com\.apple\.streamingkeydelivery|com\.microsoft\.playready'
    r'|urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed)"',
    re.IGNORECASE,
)
"""Pattern of an EXT-X-KEY attribute list for FairPlay, PlayReady or Widevine."""
MAX_TAG_LENGTH = MAX_URL_LENGTH + 1024
"""Maximum length of the value of a tag, in characters. A longer value is an error, because a long attribute list takes
long to parse."""
MAX_KEY_FORMATS = 8
"""Maximum number of keys with different KEYFORMATs that apply to one segment."""
_FORMAT_LENGTH = 100
"""Number of characters of a KEYFORMAT that are compared."""
_IDENTITY = "identity"
"""The KEYFORMAT of a key that a client requests as 16 bytes (RFC 8216 §4.3.2.4)."""
_METHOD = re.compile(r"[A-Z0-9-]{1,20}")


@dataclass(frozen=True, slots=True)
class _Key:
    """The key of an EXT-X-KEY tag with the method AES-128. If `iv` is None, the media sequence number of each segment
    is the IV of that segment."""

    uri: str
    key: bytes | None
    iv: bytes | None


class MediaPlaylist:
    """The parser of one media playlist. `url` is the playlist's URL after redirects."""

    def __init__(self, url: str, rules: Rules) -> None:
        self.url = url
        self._rules = rules
        self._keys: dict[str, _Key | ServerPYError] = {}
        """The keys that apply to the next segments, by KEYFORMAT. If a key cannot be used, the error is in its
        place."""
        self._has_session_key = False
        """Whether the parser has read an EXT-X-SESSION-KEY tag."""
        self._has_plain_session_key = False
        """Whether the parser has read an EXT-X-SESSION-KEY tag whose key is usable without DRM."""
        self._map: Segment | None = None
        """The initialization section that applies to the next segments."""
        self._map_given: tuple[str, int, int | None] | None = None
        """The URL and the byte range of the initialization section that was returned last."""
        self._variables: Variables | None = None
        self._in_advert = False
        self._discontinuity = 0
        self._range_end = 0
        self._clear()
        self._next_number = 0
        self.count = 0
        """Number of segments parsed so far, including initialization sections."""
        self.length: int | None = 0
        """Total length, in bytes, of the segments parsed so far, except those marked as missing (EXT-X-GAP). None if
        the length of any of them is unknown."""
        self.seconds = 0.0
        self.longest_seconds = 0.0
        self._has_durations = True
        self._end_seconds = 0.0
        self.first_number = 0
        self.has_sequence = False
        """Whether the parser has read a valid EXT-X-MEDIA-SEQUENCE tag."""
        self._are_numbers_known = True
        """Whether the media sequence numbers are known: the last EXT-X-MEDIA-SEQUENCE tag, if any, is valid."""
        self.last: Segment | None = None
        """The segment that was parsed last; None before the first segment."""
        self.target_seconds: float | None = None
        self.is_playlist = False
        """Whether the parser has read the EXTM3U tag."""
        self.is_master = False
        self.is_event = False
        """Whether the playlist type is EVENT: the media server only adds segments to such a playlist, and never removes
        any."""
        self.is_vod = False
        self.has_end = False
        """Whether the parser has read an EXT-X-ENDLIST tag. A playlist without this tag may have been truncated."""

    @property
    def is_complete(self) -> bool:
        """Whether the playlist is finished: it has EXT-X-ENDLIST or the playlist type VOD, so the media server adds no
        more segments."""
        return self.has_end or self.is_vod

    @property
    def needs_drm(self) -> bool:
        """Whether the playlist is a master playlist whose keys (EXT-X-SESSION-KEY) are all for DRM."""
        return self.is_master and self._has_session_key and not self._has_plain_session_key

    @property
    def duration(self) -> float | None:
        """The time, in seconds, at which the last segment that is not marked as missing ends; None if the playlist
        states no duration for a segment."""
        return self._end_seconds if self._has_durations else None

    @property
    def end_number(self) -> int:
        """The media sequence number after that of the last segment in the playlist."""
        return self._next_number

    def feed(self, line: str) -> Sequence[Segment]:
        """Parse the next line. Returns the segment that the line completes, preceded by its initialization section if
        that differs from the section of the segments before. Returns nothing if the line completes no segment. Raises
        `UpstreamFailed` if the line is invalid, `DrmProtected` if the media is encrypted with DRM, and `TooLarge` if
        the playlist has too many segments."""
        line = line.strip()
        if not self.is_playlist:
            self._take_header(line.lstrip("\ufeff \t"))
            return ()
        if not line:
            return ()
        if not line.startswith("#"):
            line = line.strip("\0")  # remove NUL characters, with which some servers pad a fixed-size buffer
            return self._take_address(self._resolved(line)) if line else ()
        name, _, value = line.partition(":")
        take = _TAGS.get(name)
        if take is not None:
            if len(value) > MAX_TAG_LENGTH:
                raise TooLarge("The media's playlist is too large.")
            take(self, self._resolved(value) if name in _WITH_VARIABLES else value)
        elif line.startswith(("#ANVATO-SEGMENT-INFO", "#UPLYNK-SEGMENT")):
            self._take_marker(line)
        return ()

    def _resolved(self, text: str) -> str:
        """Return `text` with each variable (`{$name}`) replaced by its value. Returns `text` unchanged in a master
        playlist, because `master.py` replaces only the variables in the URL of the variant that it chooses."""
        if self._variables is None or "{$" not in text or self.is_master:
            return text
        return self._variables.resolve(text)

    def _take_header(self, line: str) -> None:
        """Parse a line before the EXTM3U tag, or the EXTM3U tag itself. IPTV playlists add attributes to that tag
        (`#EXTM3U url-tvg="…"`)."""
        self.is_playlist = line.startswith("#EXTM3U")
        if line and not line.startswith("#"):
            raise NoMedia("The URL of the media's playlist did not return an HLS playlist.")

    # Methods for lines with URLs

    def _take_address(self, line: str) -> Sequence[Segment]:
        if self.is_master:
            return ()
        number, self._next_number = self._next_number, self._next_number + 1
        first, end = self._range or (0, None)
        if end is not None:
            self._range_end = end
        found: Sequence[Segment] = ()
        if self._is_wanted() and not self._in_advert:
            segment = Segment(
                url=self._address(line),
                number=number,
                first=first,
                end=end,
                encryption=None if self._gap else self._encryption(number),
                duration=self._duration,
                date=self._date,
                discontinuity=self._discontinuity,
                gap=self._gap,
            )
            found = (segment,) if self._gap else (*self._new_map(number), segment)
            for each in found:
                self._count(each)
        self._clear()
        return found

    def _new_map(self, number: int) -> Sequence[Segment]:
        """Return the initialization section of the segment `number`, or nothing if it was already returned for the
        segments before."""
        found = self._map
        if found is None or (place := (found.url, found.first, found.end)) == self._map_given:
            return ()
        self._map_given = place
        return (replace(found, number=number, discontinuity=self._discontinuity),)

    def _clear(self) -> None:
        """Reset the state that applies only to the segment that was just parsed."""
        self._range: tuple[int, int] | None = None
        self._duration: float | None = None
        self._date: datetime | None = None
        self._gap = False

    def _count(self, segment: Segment) -> None:
        self.count += 1
        if self.count > MAX_SEGMENTS:
            raise TooLarge("The media's playlist has too many segments.")
        self.last = segment
        self.seconds += segment.duration or 0.0
        self.longest_seconds = max(self.longest_seconds, segment.duration or 0.0)
        self._has_durations = self._has_durations and (segment.initial or segment.duration is not None)
        if not segment.gap:
            self._end_seconds = self.seconds
            self.length = None if self.length is None or segment.length is None else self.length + segment.length

    def _is_wanted(self) -> bool:
        return self._rules.discontinuity in (None, self._discontinuity)

    def _address(self, reference: str) -> str:
        return with_query(joined(self.url, reference), self._rules.segment_query)

    def _encryption(self, number: int) -> Encryption | None:
        if not self._keys:
            return None
        key = self._usable_key()
        if key is None:
            raise next(error for error in self._keys.values() if isinstance(error, ServerPYError))
        if key.iv is None and not self._are_numbers_known:
            raise UpstreamFailed(
                "The media's playlist has an invalid media sequence number, so it cannot be decrypted."
            )
        return Encryption(key.uri, key.key, key.iv or number.to_bytes(16, "big"))

    # Methods for tags

    def _take_variant(self, value: str) -> None:
        self.is_master = True

    def _take_variable(self, value: str) -> None:
        self._variables = self._variables or Variables(self.url)
        self._variables.define(value)

    def _take_map(self, value: str) -> None:
        if self._in_advert:
            return
        given = attributes.attributes(value)
        if not given.get("URI"):
            raise UpstreamFailed("The media's playlist has an EXT-X-MAP tag without a URI.")
        first, end = attributes.byte_range(given["BYTERANGE"], 0) if given.get("BYTERANGE") else (0, None)
        number = self._next_number
        self._map = Segment(
            url=self._address(given["URI"]),
            number=number,
            first=first,
            end=end,
            encryption=None if self._usable_key() is None else self._encryption(number),
            initial=True,
        )

    def _take_key(self, value: str) -> None:
        """Parse an EXT-X-KEY tag. Several tags with different KEYFORMATs may state the same key for the same segments,
        and a client chooses a format that it knows (RFC 8216 §4.3.2.4). Therefore an unusable key is an error only for
        a segment that has no usable one."""
        given = attributes.attributes(value)
        method = given.get("METHOD", "").upper()
        if method == "NONE":
            self._keys.clear()
            return
        key = self._key_of(given) if method == "AES-128" and not _DRM.search(value) else _unusable(value, method)
        self._keys[given.get("KEYFORMAT", _IDENTITY).lower()[:_FORMAT_LENGTH]] = key
        if len(self._keys) > MAX_KEY_FORMATS:
            raise TooLarge("The media's playlist has too many keys for one segment.")

    def _usable_key(self) -> _Key | None:
        usable = {format_: key for format_, key in self._keys.items() if isinstance(key, _Key)}
        return usable.get(_IDENTITY) or next(iter(usable.values()), None)

    def _key_of(self, given: dict[str, str]) -> _Key:
        """Return the key that an EXT-X-KEY tag with the attributes `given` states. Values in yt-dlp's `hls_aes`, which
        the extraction contains, replace the values of the tag."""
        aes = self._rules.aes
        iv_text = aes.iv if aes is not None and aes.iv else given.get("IV")
        iv = attributes.initialization_vector(iv_text) if iv_text else None
        if aes is not None and aes.key:
            return _Key("", attributes.key_bytes(aes.key), iv)
        if aes is not None and aes.uri:
            return _Key(aes.uri, None, iv)
        uri = given.get("URI") or ""
        if uri[:5].lower() == "data:" and len(uri) <= MAX_URL_LENGTH:
            return _Key(uri, None, iv)
        if not uri:
            raise UpstreamFailed("The media's playlist has an EXT-X-KEY tag without a URI.")
        return _Key(with_query(joined(self.url, uri), self._rules.key_query or self._rules.segment_query), None, iv)

    def _take_session_key(self, value: str) -> None:
        self._has_session_key = True
        self._has_plain_session_key = self._has_plain_session_key or _DRM.search(value) is None

    def _take_drm(self, value: str) -> None:
        raise DrmProtected("The media is encrypted with DRM.")

    def _take_range(self, value: str) -> None:
        self._range = attributes.byte_range(value, self._range_end) if value.strip() else None

    def _take_duration(self, value: str) -> None:
        self._duration = attributes.seconds(value)

    def _take_date(self, value: str) -> None:
        self._date = attributes.date(value)

    def _take_gap(self, value: str) -> None:
        self._gap = True

    def _take_sequence(self, value: str) -> None:
        number = attributes.sequence_number(value)
        self.has_sequence = self._are_numbers_known = number is not None
        if number is None:
            return
        if self._next_number == self.first_number:
            self.first_number = number
        self._next_number = number

    def _take_discontinuity(self, value: str) -> None:
        self._discontinuity += 1

    def _take_discontinuity_sequence(self, value: str) -> None:
        # EXT-X-DISCONTINUITY-SEQUENCE adds 1, like EXT-X-DISCONTINUITY, because yt-dlp counts both tags in
        # `format_index`, when it lists formats as well as when it downloads them. The number itself does not matter.
        self._discontinuity += 1

    def _take_target(self, value: str) -> None:
        self.target_seconds = attributes.seconds(value)

    def _take_type(self, value: str) -> None:
        kind = value.strip(' "\t').upper()
        self.is_vod = kind == "VOD"
        self.is_event = kind == "EVENT"

    def _take_end(self, value: str) -> None:
        self.has_end = True

    def _take_marker(self, line: str) -> None:
        """Parse a tag by which Anvato or Uplynk state whether the segments after the tag are adverts."""
        anvato = line.startswith("#ANVATO")
        if ("type=ad" in line) if anvato else line.endswith(",ad"):
            self._in_advert = True
        elif ("type=master" in line) if anvato else line.endswith(",segment"):
            self._in_advert = False


def _unusable(value: str, method: str) -> ServerPYError:
    """Return the error for a key that cannot be used (RFC 8216bis §4.4.4.4). `value` is the attribute list."""
    if _DRM.search(value):
        return DrmProtected("The media is encrypted with DRM.")
    if not method:
        return UpstreamFailed("The media's playlist has an EXT-X-KEY tag without a METHOD.")
    name = method if _METHOD.fullmatch(method) else "an unknown method"
    if method.startswith("SAMPLE-AES"):
        return DrmProtected(f"The media is encrypted with {name}, as for DRM: only AES-128 can be decrypted.")
    return UnsupportedConversion(f"The media is encrypted with {name}: only AES-128 can be decrypted.")


_WITH_VARIABLES = ("#EXT-X-KEY", "#EXT-X-MAP")
"""The tags in whose values this parser replaces variables (RFC 8216bis §4.3)."""
_Take = Callable[[MediaPlaylist, str], None]

_TAGS: dict[str, _Take] = {
    "#EXTINF": MediaPlaylist._take_duration,
    "#EXT-X-BYTERANGE": MediaPlaylist._take_range,
    "#EXT-X-DEFINE": MediaPlaylist._take_variable,
    "#EXT-X-DISCONTINUITY": MediaPlaylist._take_discontinuity,
    "#EXT-X-DISCONTINUITY-SEQUENCE": MediaPlaylist._take_discontinuity_sequence,
    "#EXT-X-ENDLIST": MediaPlaylist._take_end,
    "#EXT-X-FAXS-CM": MediaPlaylist._take_drm,
    "#EXT-X-GAP": MediaPlaylist._take_gap,
    "#EXT-X-I-FRAME-STREAM-INF": MediaPlaylist._take_variant,
    "#EXT-X-KEY": MediaPlaylist._take_key,
    "#EXT-X-MAP": MediaPlaylist._take_map,
    "#EXT-X-MEDIA-SEQUENCE": MediaPlaylist._take_sequence,
    "#EXT-X-PLAYLIST-TYPE": MediaPlaylist._take_type,
    "#EXT-X-PROGRAM-DATE-TIME": MediaPlaylist._take_date,
    "#EXT-X-SESSION-KEY": MediaPlaylist._take_session_key,
    "#EXT-X-STREAM-INF": MediaPlaylist._take_variant,
    "#EXT-X-TARGETDURATION": MediaPlaylist._take_target,
}
"""Maps the name of a tag to the method that parses the tag. The parser ignores all other tags, because they matter only
to players."""
