"""Functions that serialize yt-dlp's dictionary of a track, with its cookies, to send it from the extraction process to
the download process.

The serialized form is a pickle, because a dictionary may contain bytes and objects of yt-dlp. Both processes allow only
the classes in `_CLASSES`. No instance of these classes has side effects when it is unpickled. A dictionary with other
objects, such as a generator of fragments, cannot be serialized.
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
"""Fields of a page that no downloader reads. They are left out, because they may be long."""


class CannotCross(Exception):
    """Error: a dictionary cannot be serialized, because it contains values that are usable only in the extraction
    process."""


def part(initial: bytes, body: bytes | Templated, is_file: bool, begin_seconds: float) -> Part:
    """Return a part of a listing. The unpickler calls this function for each part. The fragments are JSON within the
    pickle, because a part may have 100,000 fragments, and pickling so many objects takes seconds."""
    fragments = _fragments.decode(body) if isinstance(body, bytes) else body
    return Part(next(iter(_fragments.decode(initial)), None), fragments, is_file, begin_seconds)


@dataclass(frozen=True, slots=True)
class RawTrack:
    """A track as yt-dlp returned it: the fields of the page, overridden by the fields of the format, and the cookies at
    the end of the extraction."""

    info: InfoDict = field(repr=False)
    cookies: CookieJar = field(repr=False)


def dump(track: RawTrack) -> bytes:
    """Return `track` as bytes. Raises `CannotCross` if `track` contains objects of other classes than those in
    `_CLASSES`, and `TooLarge` if the result has more than MAX_RAW_BYTES."""
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
    """Return the track that `dump` has converted to `data`. Raises `pickle.UnpicklingError` if `data` contains an
    object of a class that is not in `_CLASSES`."""
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
        """Refuse functions, and classes that are not in `_CLASSES`. An instance of a subclass of a plain type becomes
        an instance of the plain type."""
        if isinstance(value, type):
            if not _may_cross(value):
                raise pickle.PicklingError(f"the class {value.__qualname__} must not be pickled")
        elif value is part:
            return NotImplemented
        elif isinstance(value, Part):
            return part, _fields(value)
        elif isinstance(value, _PLAIN):
            if not _may_cross(type(value)):
                plain: Any = next(kind for kind in _PLAIN if isinstance(value, kind))
                return plain, (plain(value),)
        elif callable(value):
            raise pickle.PicklingError(f"the function {value!r} must not be pickled")
        return NotImplemented


def _fields(value: Part) -> tuple[bytes, bytes | Templated, bool, float]:
    """Return the arguments of a call of `part` that returns `value`."""
    body = value.body if isinstance(value.body, Templated) else _encoder.encode(value.body)
    initial = () if value.initial is None else (value.initial,)
    return _encoder.encode(initial), body, value.is_file, value.begin_seconds


def _may_cross(kind: type) -> bool:
    return (kind.__module__, kind.__qualname__) in _CLASSES


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CLASSES:
            raise pickle.UnpicklingError(f"the class {module}.{name} must not be unpickled")
        return super().find_class(module, name)
