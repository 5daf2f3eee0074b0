"""yt-dlp's dictionary of a track, with its cookies, as bytes: the form in which it crosses from the extraction process
to the download process.

The bytes are a pickle, because a dictionary may have bytes and objects of yt-dlp. Both sides allow the classes in
`_CLASSES` only, none of which does anything when it is unpickled. A dictionary with other objects, such as generators
of fragments, does not cross.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from http.cookiejar import Cookie, CookieJar
from typing import Any

import msgspec

from serverpy.errors import TooLarge
from serverpy.extraction.messages import MAX_RAW_BYTES
from serverpy.extraction.values import Fragment
from serverpy.ytdlp.mpd.listing import Part, Templated
from serverpy.ytdlp.page.info_dict import InfoDict

_encoder = msgspec.json.Encoder()
_fragments = msgspec.json.Decoder(tuple[Fragment, ...])

_CLASSES = frozenset(
    {
        *(("builtins", name) for name in ("dict", "list", "tuple", "str", "int", "float", "set", "frozenset")),
        ("fractions", "Fraction"),
        ("http.cookiejar", "Cookie"),
        ("serverpy.ytdlp.page.crossing", "part"),
        ("serverpy.ytdlp.mpd.addresses", "Pattern"),
        ("serverpy.ytdlp.mpd.formats", "Fragments"),
        *(("serverpy.ytdlp.mpd.listing", name) for name in ("Listing", "Templated")),
        ("serverpy.ytdlp.mpd.timelines", "Run"),
        ("yt_dlp.networking.impersonate", "ImpersonateTarget"),
        ("yt_dlp.utils.networking", "HTTPHeaderDict"),
    }
)
_PLAIN = (dict, list, tuple, str, int, float, set, frozenset)
_NOT_FOR_DOWNLOADS = frozenset(
    ("subtitles", "automatic_captions", "requested_subtitles", "thumbnails", "chapters", "heatmap", "comments")
) | {"description", "tags", "categories", "requested_downloads", "formats", "requested_formats", "entries"}
"""Fields of a page that are long, and that no downloader reads."""


class CannotCross(Exception):
    """Error if a dictionary has values that exist in one process only."""


def part(initial: bytes, body: bytes | Templated, is_file: bool, begin_seconds: float) -> Part:
    """Return a part of a listing. This is the function that makes parts when they are unpickled. Fragments cross as
    JSON, because a part may have 100,000 of them, and a pickle of so many objects takes seconds."""
    fragments = _fragments.decode(body) if isinstance(body, bytes) else body
    return Part(next(iter(_fragments.decode(initial)), None), fragments, is_file, begin_seconds)


@dataclass(frozen=True, slots=True)
class RawTrack:
    """A track as yt-dlp returned it: the fields of its page, overridden by those of its format, and the cookies at the
    end of the extraction."""

    info: InfoDict = field(repr=False)
    cookies: CookieJar = field(repr=False)


def dump(track: RawTrack) -> bytes:
    """Return `track` as bytes. Raises `CannotCross`, and `TooLarge` if there are more than MAX_RAW_BYTES."""
    info = {name: value for name, value in track.info.items() if name not in _NOT_FOR_DOWNLOADS}
    out = _Limited()
    try:
        _Pickler(out, protocol=5).dump((info, list(track.cookies)))
    except TooLarge:
        raise
    except Exception as error:  # an object may raise any exception when it is pickled
        raise CannotCross(f"{type(error).__name__}: {error}") from error
    return out.getvalue()


def load(data: bytes) -> RawTrack:
    """Return the track that `dump` has returned as `data`. Raises `pickle.UnpicklingError` if there is an object of
    another class in it."""
    info, cookies = _Unpickler(io.BytesIO(data)).load()
    jar = CookieJar()
    for cookie in cookies:
        assert isinstance(cookie, Cookie)
        jar.set_cookie(cookie)
    return RawTrack(info, jar)


class _Limited(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_RAW_BYTES:
            raise TooLarge("The page has too much data for a download by yt-dlp.")
        return super().write(data)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Allow the classes in `_CLASSES`. yt-dlp's subclasses of plain types become plain."""
        if isinstance(value, type):
            if not _may_cross(value):
                raise pickle.PicklingError(f"a class: {value.__qualname__}")
        elif value is part:
            return NotImplemented
        elif isinstance(value, Part):
            return part, _fields(value)
        elif isinstance(value, _PLAIN):
            if not _may_cross(type(value)):
                plain: Any = next(kind for kind in _PLAIN if isinstance(value, kind))
                return plain, (plain(value),)
        elif callable(value):
            raise pickle.PicklingError(f"a function: {value!r}")
        return NotImplemented


def _fields(value: Part) -> tuple[bytes, bytes | Templated, bool, float]:
    """Return the arguments with which `part` returns `value`."""
    body = value.body if isinstance(value.body, Templated) else _encoder.encode(value.body)
    initial = () if value.initial is None else (value.initial,)
    return _encoder.encode(initial), body, value.is_file, value.begin_seconds


def _may_cross(kind: type) -> bool:
    return (kind.__module__, kind.__qualname__) in _CLASSES


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CLASSES:
            raise pickle.UnpicklingError(f"a class that may not cross: {module}.{name}")
        return super().find_class(module, name)
