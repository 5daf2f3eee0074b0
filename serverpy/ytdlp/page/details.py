"""The fields of yt-dlp's formats that only format selectors need, such as `abr`, `dynamic_range` or `quality`.

The server process keeps these fields as text together with each track, because a selector may arrive when the process
that extracted the page no longer runs. `selection.py` reads these fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from serverpy.extraction.messages import Format, format_of
from serverpy.extraction.values import Track
from serverpy.ytdlp.page.info_dict import InfoDict

MAX_DETAILS = 1000
"""Maximum length, in characters, of the text that contains the fields of one format."""
_MAX_VALUE = 200
_DOCUMENTED = (
    "tbr", "abr", "vbr", "asr", "fps", "width", "height", "audio_channels", "dynamic_range", "resolution",
    "aspect_ratio", "stretched_ratio", "filesize", "filesize_approx", "language", "language_preference", "quality",
    "preference", "source_preference", "format_note", "format", "audio_ext", "video_ext", "has_drm",
)  # fmt: skip
"""The fields that yt-dlp's documentation names for format selectors. If the text would be too long, these fields take
precedence over all others."""
_OURS = frozenset({"format_id", "url", "ext", "protocol", "container", "vcodec", "acodec", "kind", "details"})
"""Fields that the text never contains, because their values are always those of the track."""
_LEFT_OUT = frozenset(
    {
        "cookies", "manifest_url", "fragment_base_url", "player_url", "hls_media_playlist_data", "request_data",
        "extra_param_to_segment_url", "extra_param_to_key_url", "impersonate", "no_resume", "is_from_start",
        "format_index", "available_at",
    }
)  # fmt: skip
"""Fields that the text never contains, because they are long, contain secrets, or matter only for the requests for the
media."""


def details_of(fmt: InfoDict, track: Track) -> str | None:
    """Return the fields of `fmt` that a selector can test, but whose values do not follow from `track`, as a JSON
    object. Returns None if `fmt` has no such fields."""
    known = msgspec.structs.asdict(format_of(track))
    found = dict(_differences(fmt, known))
    text = _json(found)
    while len(text) > MAX_DETAILS:
        found.popitem()
        text = _json(found)
    return text if found else None


def fields_of(item: Format) -> dict[str, Any]:
    """Return the fields of a format that a selector tests, by yt-dlp's names. Leaves out fields whose value is
    unknown."""
    fields = msgspec.structs.asdict(item)
    details = fields.pop("details")
    if details is not None:
        fields |= msgspec.json.decode(details, type=dict[str, Any])
    return {key: value for key, value in fields.items() if value is not None}


def _differences(fmt: InfoDict, known: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in dict.fromkeys((*_DOCUMENTED, *fmt)):
        if not isinstance(key, str) or key in _OURS or key in _LEFT_OUT or key.startswith("_"):
            continue
        value, ours = _plain(fmt.get(key)), known.get(key)
        is_number_as_text = isinstance(value, str) and isinstance(ours, int | float)
        if value != ours and not is_number_as_text:
            yield key, value


def _plain(value: Any) -> str | int | float | None:
    """Return `value` if a selector can compare it, otherwise None."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()[:_MAX_VALUE]
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _json(fields: dict[str, Any]) -> str:
    return msgspec.json.encode(fields).decode()
