"""yt-dlp's downloaders of fragmented media (HLS, DASH and rarer protocols), changed to write into a stream.

The downloaders fetch a fragment as `FileDownloader` fetches a file, with the same retries. They decrypt its bytes if
necessary, and write them to the stream as they arrive. The downloaders hold a whole fragment, up to FRAGMENT_BYTES, in
memory only if yt-dlp's code needs the whole fragment at once (subtitles, Smooth Streaming, F4M, MHTML), or if the HTTP
client cannot wait for a slow reader (impersonation).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from yt_dlp.downloader.bunnycdn import BunnyCdnFD
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.f4m import F4mFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.ism import IsmFD
from yt_dlp.downloader.mhtml import MhtmlFD
from yt_dlp.downloader.soop import SoopVodFD
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import NO_DEFAULT, parse_m3u8_attributes

from serverpy.aes import InvalidKey
from serverpy.errors import DrmProtected, NotMedia, ServerPYError, TooLarge, UnsupportedConversion, UpstreamFailed
from serverpy.extraction.values import ABSENT
from serverpy.segment_kinds import Judge, WrongKind
from serverpy.ytdlp.children import Stopped
from serverpy.ytdlp.download.destinations import Decrypted, Plain, Whole
from serverpy.ytdlp.download.downloaders import STDOUT, FileDownloader, Quiet
from serverpy.ytdlp.download.numbering import Numbered, numbered
from serverpy.ytdlp.download.sink import OneFile, PipeWriter
from serverpy.ytdlp.download.upstream import BACK_OFF, MediaRequests, translate
from serverpy.ytdlp.mpd.formats import Fragments

MAX_SEGMENTS = 100_000
MAX_LINES = 4 * MAX_SEGMENTS
"""Maximum number of lines of a playlist. The maximum number of segments is MAX_SEGMENTS."""
_GIVEN = b"given"
"""Placeholder for the content of a fragment whose bytes are already in the pipe. The code recognises the placeholder by
`is`."""


class Fragmented(Quiet):
    """Mixin with the methods that all downloaders of fragmented media override. The mixin must precede yt-dlp's class
    in the list of base classes."""

    strict = False
    """Whether a fragment of unknown format after fragments of a known format is an error."""

    def __init__(self, requests: MediaRequests, options: dict[str, Any], out: PipeWriter) -> None:
        self._requests = requests
        self._options = options
        self._out = out
        self._judge = Judge(strict=self.strict)
        self._keys: dict[str, bytes] = {}
        super().__init__(requests, options)  # type: ignore[call-arg]  # `super` is yt-dlp's class

    def run(self, info: dict[str, Any]) -> None:
        """Download all fragments. Returns when the last byte of the last fragment has been written. Raises
        `UpstreamFailed` if yt-dlp gives up."""
        if self.real_download(STDOUT, info) is False:  # type: ignore[attr-defined]
            raise UpstreamFailed("Yt-dlp's downloader could not fetch the media.")

    def report_retry(
        self, err: Exception, count: int, retries: float, frag_index: Any = NO_DEFAULT, fatal: bool = True
    ) -> None:
        # The `FileDownloader` of the fragment has already made all useful retries.
        raise translate(err) from err

    def _prepare_frag_download(self, ctx: dict[str, Any]) -> None:
        ctx.setdefault("live", False)
        ctx.update(tmpfilename=STDOUT, fragment_index=0, dest_stream=_Destination(self._out))
        ctx["complete_frags_downloaded_bytes"] = 0

    def _start_frag_download(self, ctx: dict[str, Any], info_dict: Any) -> None: ...

    def _finish_frag_download(self, ctx: dict[str, Any], info_dict: Any) -> bool:
        return self._out.given > 0

    def download_and_append_fragments(
        self, ctx: dict[str, Any], fragments: Iterable[dict[str, Any]], info_dict: dict[str, Any], **how: Any
    ) -> Any:
        """Download the fragments by yt-dlp's method of the same name. Store each fragment in `ctx` before its download,
        because `_download_fragment` does not get the fragment as an argument. Store None instead if yt-dlp's code needs
        the whole fragment at once."""
        packed = how.get("pack_func") is not None

        def noted() -> Iterator[dict[str, Any]]:
            for fragment in fragments:
                if self._accept(fragment):
                    ctx["streamed"] = None if packed else fragment
                    yield fragment

        parent: Any = super()
        return parent.download_and_append_fragments(ctx, noted(), info_dict, **how)

    def _accept(self, fragment: dict[str, Any]) -> bool:
        """Correct the values of yt-dlp in `fragment`. Returns whether to download the fragment."""
        return True

    def _destination(self, fragment: dict[str, Any], info: dict[str, Any]) -> Plain | Decrypted:
        encryption = fragment.get("decrypt_info") or {}
        encrypted = encryption.get("METHOD") == "AES-128"
        plain = Plain(self._out.write, partial(self._judge.check, encrypted=encrypted))
        if not encrypted:
            return plain
        iv = encryption.get("IV") or struct.pack(">8xq", fragment["media_sequence"])
        return Decrypted(plain, self._key(encryption, info), iv)

    def _key(self, encryption: dict[str, Any], info: dict[str, Any]) -> bytes:
        if key := encryption.get("KEY"):
            return bytes(key)
        address = (info.get("hls_aes") or {}).get("uri") or encryption["URI"]
        if address not in self._keys:
            parent: Any = super()
            self._keys[address] = self._requests.urlopen(parent._prepare_url(info, address)).read()
        return self._keys[address]

    def decrypter(self, info_dict: Any) -> Callable[[Any, Any], Any]:
        parent: Any = super()
        decrypt = parent.decrypter(info_dict)
        return lambda fragment, content: content if content is _GIVEN else decrypt(fragment, content)

    def _download_fragment(
        self, ctx: dict[str, Any], frag_url: str, info_dict: Any, headers: Any = None, request_data: Any = None
    ) -> bool:
        """Download a fragment. If the response is not media or has another format than the earlier fragments, or if the
        key is invalid, request the fragment and its key again: no byte of the fragment has been written yet. After
        three attempts, raise the error of the last one."""
        fragment = ctx.pop("streamed", None)
        info = {
            "url": frag_url,
            "http_headers": headers or info_dict.get("http_headers"),
            "request_data": request_data,
        }
        for delay in (*BACK_OFF[:2], None):
            try:
                into = None if fragment is None else self._destination(fragment, info_dict)
                ctx["content"] = self._given(info, into)
                return True
            except (NotMedia, WrongKind, InvalidKey):
                if delay is None:
                    raise
                self._keys.clear()
                self._requests.stop.pause(delay)
        raise AssertionError("unreachable: the last try returns or raises")

    def _given(self, info: dict[str, Any], into: Plain | Decrypted | None) -> bytes:
        """Fetch a fragment, pass its bytes to `into`, and return _GIVEN. If `into` is None, return the bytes."""
        if into is None or self._requests.always_impersonates:
            return self._held(info, into)
        if self._fetch(info, into.add):
            into.finish()
        return _GIVEN

    def _held(self, info: dict[str, Any], stream_into: Plain | Decrypted | None) -> bytes:
        """Fetch a whole fragment. If `stream_into` is None, return the fragment for yt-dlp's code. Otherwise pass the
        fragment to `stream_into`, and return _GIVEN."""
        whole = Whole()
        if not self._fetch(info, whole.add):
            return _GIVEN
        content = bytes(whole.content)
        if stream_into is None or not content:  # yt-dlp's code raises an error for an empty fragment
            return content
        stream_into.add(content)
        stream_into.finish()
        return _GIVEN

    def _fetch(self, info: dict[str, Any], add: Callable[[bytes], None]) -> bool:
        """Pass the bytes of a fragment to `add`. Returns False if the fragment does not exist and its absence is
        allowed."""
        FileDownloader(self._requests, self._options, OneFile(add), info).run()
        return True

    def _read_fragment(self, ctx: dict[str, Any]) -> Any:
        return ctx.pop("content", None)

    def _append_fragment(self, ctx: dict[str, Any], frag_content: bytes) -> None:
        if frag_content is not _GIVEN:
            self._out.write(frag_content)


class _Destination:
    """The file to which yt-dlp's code writes headers. A call of `close` has no effect."""

    def __init__(self, out: PipeWriter) -> None:
        self.write = out.write

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Hls(Fragmented, HlsFD):  # type: ignore[misc]  # yt-dlp is untyped
    """Downloader of a finished HLS playlist. The downloader raises an error for a playlist that yt-dlp would pass to
    ffmpeg."""

    strict = True
    _numbered: list[Numbered]

    def can_download(self, manifest: str, info_dict: dict[str, Any], allow_unplayable_formats: bool = False) -> bool:
        """Raise an error if the playlist cannot be downloaded. yt-dlp calls this method once, with the whole
        playlist."""
        if self._has_drm(manifest):
            raise DrmProtected("The media is encrypted with DRM.")
        # a limit is necessary, because yt-dlp makes a dictionary for each segment, and all downloads share the memory
        # of this process
        if manifest.count("\n") + manifest.count("\r") > MAX_LINES:
            raise TooLarge("The media's playlist has too many segments.")
        lines = map(str.strip, manifest.splitlines())  # as yt-dlp reads them
        keys = [parse_m3u8_attributes(line[11:]) for line in lines if line.startswith("#EXT-X-KEY")]
        for key in keys:
            _refuse_method(key.get("METHOD", ""))
        if len({key.get("KEYFORMAT", "identity") for key in keys if key["METHOD"] != "NONE"}) > 1:
            # yt-dlp would use the last key, regardless of its KEYFORMAT
            raise UnsupportedConversion("This method supports only keys of one KEYFORMAT: choose another method.")
        if "#EXT-X-STREAM-INF" in manifest or "#EXTM3U" not in manifest:
            raise UpstreamFailed("The URL of the media does not lead to an HLS media playlist.")
        if "#EXT-X-ENDLIST" not in manifest and not self._is_whole_vod(manifest, info_dict):
            # yt-dlp would treat the segments that a live playlist lists now as the whole stream.
            raise UnsupportedConversion("This method cannot stream live media: choose another method.")
        self._numbered = numbered(manifest, info_dict.get("format_index"))
        if len(self._numbered) > MAX_SEGMENTS:
            raise TooLarge("The media's playlist has too many segments.")
        if any(each.is_map for each in self._numbered[1:]):
            raise UnsupportedConversion(
                "This method supports only one initialization section (EXT-X-MAP) per playlist: choose another method."
            )
        return True

    def _is_whole_vod(self, manifest: str, info: dict[str, Any]) -> bool:
        """Return whether the playlist states that no segment will be added (EXT-X-PLAYLIST-TYPE:VOD) and has certainly
        arrived completely."""
        given = bool(info.get("hls_media_playlist_data"))
        return "#EXT-X-PLAYLIST-TYPE:VOD" in manifest and (given or self._requests.small_was_framed)

    def _accept(self, fragment: dict[str, Any]) -> bool:
        right = self._numbered[fragment["frag_index"] - 1]
        fragment["media_sequence"] = right.number
        if not right.is_map:
            fragment["byte_range"] = _named(right.byte_range)
        return not right.is_gap


def _named(byte_range: tuple[int, int] | None) -> dict[str, int]:
    """Return `byte_range` in the form in which yt-dlp's code expects the byte range of a fragment."""
    return {} if byte_range is None else {"start": byte_range[0], "end": byte_range[1]}


def _refuse_method(method: str) -> None:
    if method.startswith("SAMPLE-AES"):
        raise DrmProtected("The media is encrypted with SAMPLE-AES, as for DRM: only AES-128 can be decrypted.")
    if method not in ("NONE", "AES-128"):
        raise UnsupportedConversion("The encryption of the media is unsupported: only AES-128 can be decrypted.")


class Dash(Fragmented, DashSegmentsFD):  # type: ignore[misc]
    """Downloader of DASH that requests the byte ranges of segments, and accepts that a segment marked as
    `may_be_absent` does not exist. yt-dlp's own class ignores both."""

    _may_be_absent = False

    def _get_fragments(self, fmt: dict[str, Any], ctx: Any, extra_query: Any) -> Iterator[dict[str, Any]]:
        parent: Any = super()
        known = parent._get_fragments(fmt, ctx, extra_query)
        if not isinstance(listed := fmt["fragments"], Fragments):
            yield from known
            return
        for fragment, source in zip(known, listed, strict=True):
            yield {**fragment, **{name: source.get(name) for name in ("byte_range", "may_be_absent")}}

    def _accept(self, fragment: dict[str, Any]) -> bool:
        self._may_be_absent = bool(fragment.get("may_be_absent"))
        return True

    def _fetch(self, info: dict[str, Any], add: Callable[[bytes], None]) -> bool:
        if not self._may_be_absent:
            return super()._fetch(info, add)
        # request the segment twice, because a media server may fail to find a segment for a moment
        return self._fetch_if_present(info, add) or self._fetch_if_present(info, add, after=BACK_OFF[0])

    def _fetch_if_present(self, info: dict[str, Any], add: Callable[[bytes], None], after: float = 0) -> bool:
        """Pause for `after` seconds, and then pass the bytes of a fragment to `add`. Returns False if the response says
        that the fragment does not exist."""
        self._requests.stop.pause(after)
        count = 0

        def counted(data: bytes) -> None:
            nonlocal count
            count += len(data)
            add(data)

        try:
            return super()._fetch({**info, "may_be_absent": True}, counted)
        except HTTPError as error:
            if count or error.status not in ABSENT:
                raise
            return False


class SmoothStreaming(Fragmented, IsmFD):  # type: ignore[misc]
    pass


class Mhtml(Fragmented, MhtmlFD):  # type: ignore[misc]
    pass


class AdobeHds(Fragmented, F4mFD):  # type: ignore[misc]
    pass


class _Accompanied(Quiet):
    """Downloader of HLS for sites that require additional requests during the download.

    In `real_download`, yt-dlp's own classes make a plain HlsFD, which would write to the standard output of this
    process. Therefore `run` replaces `real_download`, and yt-dlp's code makes only the additional requests."""

    def __init__(self, requests: MediaRequests, options: dict[str, Any], out: PipeWriter) -> None:
        self._requests = requests
        self._hls = Hls(requests, options, out)
        super().__init__(requests, options)  # type: ignore[call-arg]

    def run(self, info: dict[str, Any]) -> None:
        done = threading.Event()
        thread = threading.Thread(target=self._beside, args=(done, info), name="download-beside", daemon=True)
        thread.start()
        try:
            self._hls.run(info)
        finally:
            done.set()
            thread.join()

    def _beside(self, done: threading.Event, info: dict[str, Any]) -> None:
        try:
            self.accompany(done, info)
        except (ServerPYError, Stopped):
            # Either the download was stopped, or the site refused the additional request. In the second case the site
            # also refuses the requests for the media, so the download itself raises the error.
            return

    def accompany(self, done: threading.Event, info: dict[str, Any]) -> None:
        raise NotImplementedError


class BunnyCdn(_Accompanied, BunnyCdnFD):  # type: ignore[misc]
    def accompany(self, done: threading.Event, info: dict[str, Any]) -> None:
        self.ping_thread(done, **info["_bunnycdn_ping_data"])


class SoopVod(_Accompanied, SoopVodFD):  # type: ignore[misc]
    def accompany(self, done: threading.Event, info: dict[str, Any]) -> None:
        self._cookie_refresh_thread(done, info["_cookie_refresh_params"], info["webpage_url"])


BY_PROTOCOL: dict[str, Callable[[MediaRequests, dict[str, Any], PipeWriter], Fragmented | _Accompanied]] = {
    "m3u8": Hls,
    "m3u8_native": Hls,
    "http_dash_segments": Dash,
    "http_dash_segments_generator": Dash,
    "ism": SmoothStreaming,
    "mhtml": Mhtml,
    "f4m": AdobeHds,
    "bunnycdn": BunnyCdn,
    "soopvod": SoopVod,
}
"""Maps each protocol that yt-dlp downloads without another program, except http, to its downloader. The dictionary
lacks rtmp (needs rtmpdump), web sockets, niconico_live and fc2_live (need ffmpeg), and live chats (not media)."""
