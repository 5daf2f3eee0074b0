"""The requests whose answers tests/record/answers.json contains: every sample of the sample site whose response ends,
by every method.

Addresses whose response does not end are left out (`/live/on-air`, `/tube/watch/slow`, `endless.*`), and so are hostile
media that cost the worker so much memory or time that the answer depends on the machine (`COSTLY`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from serverpy.sample.catalogue import ERRORS, TRAPS, WATCH
from serverpy.sample.dash import SHAPES as DASH
from serverpy.sample.hls import SHAPES as HLS
from serverpy.sample.hostile import HOSTILE
from serverpy.sample.pages import PAGES

FIRST_BYTES, LAST_BYTES = "bytes=1000-4999", "bytes=-1000"
RANGES = (None, FIRST_BYTES, LAST_BYTES)
IN_PROCESS = ("auto", "relay", "embedded")
SUBPROCESS = "subprocess"
INFO, HEAD = "info", "head"
SECURE = "SECURE"
"""Placeholder for the site's https origin in the address of a sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A page of the sample site, with further parameters of the request to the server."""

    page: str
    params: tuple[tuple[str, str], ...] = ()
    child: bool = False
    """Whether the sample is also requested by `subprocess`. These requests have no range, except for the pages in
    CHILD_RANGES."""

    def __str__(self) -> str:
        return "&".join([self.page, *(f"{name}={quote(value)}" for name, value in self.params)])


@dataclass(frozen=True, slots=True)
class Case:
    """One request to the server. `method` is None for `/info` and for HEAD of `/stream`."""

    sample: Sample
    verb: str = "GET"
    path: str = "/stream"
    method: str | None = None
    range: str | None = None

    @property
    def kind(self) -> str:
        """The name that distinguishes the request from the other requests for its sample."""
        if self.method is None:
            return INFO if self.path == "/info" else HEAD
        return self.method if self.range is None else f"{self.method} {self.range}"

    def __str__(self) -> str:
        return f"{self.sample} {self.kind}"

    def target(self, http: str, https: str) -> str:
        """Return the request target for a sample site with the origins `http` and `https`."""
        page = self.sample.page
        url = f"{http}{page}" if page.startswith("/") else page.replace(SECURE, https)
        query = {"url": url, **dict(self.sample.params)}
        if self.method is not None:
            query["method"] = self.method
        return f"{self.path}?{urlencode(query, quote_via=quote)}"


def cases(sample: Sample) -> Iterator[Case]:
    """Yield all requests for one sample. Requests whose answers later requests often repeat come early, so that the
    record can refer to their answers."""
    yield from (Case(sample, method="relay", range=span) for span in RANGES)
    yield from (Case(sample, method=method, range=span) for method in ("auto", "embedded") for span in RANGES)
    yield Case(sample, verb="HEAD")
    yield Case(sample, path="/info")
    if sample.child:
        spans = RANGES if sample.page in CHILD_RANGES else RANGES[:1]
        yield from (Case(sample, method=SUBPROCESS, range=span) for span in spans)


CHILD_RANGES = frozenset({"/page/prog", "/page/hls-byterange", "/tube/watch/pair"})
"""Pages that are also requested by `subprocess` with ranges. The set is small, because each child process takes seconds
of CPU time."""

COSTLY = frozenset({"endless.m3u8", "endless.mp4", "million.m3u8", "long-line.m3u8", "bomb.mpd", "laughs.mpd"})
"""Hostile media for which the answers depend on how much memory and time the machine has."""

_MEDIA = (
    *("prog.mp4", "prog-180.mp4", "moov-last.mp4", "long.mp4", "clip.mp4", "vp9.webm", "audio.mp3", "audio.m4a"),
    *(f"photo-{number}.jpg" for number in range(1, 6)),
    *("subs.en.vtt", "subs.de.vtt", "empty.mp4", "not-media.mp4", "large-6.mp4", "nothing.mp4"),
    *(f"{kind}-{layout}.mp4" for kind in ("video", "audio") for layout in ("only", "last", "chunks", "wide")),
    *(f"{kind}-{layout}.mp4" for kind in ("video", "audio") for layout in ("sidx", "based", "runs", "fragments")),
    *(f"{kind}-{layout}.mp4" for kind in ("video", "audio") for layout in ("long", "long-sidx", "cut")),
    *("video-180.mp4", "video-180-sidx.mp4", "audio-late.mp4", "video-uneven.mp4"),
    *("video-only.webm", "audio-only.webm"),
)
_MEDIA_BY_CHILD = frozenset({"prog.mp4", "audio.mp3", "photo-1.jpg", "subs.en.vtt", "video-only.webm", "empty.mp4"})
_FAULTS = (
    *("cut=2000000", "rst=2000000", "cut=700000,norange", "cut=0", "norange", "norange206", "nolength", "closelength"),
    *("etag=flip", "status=403", "status=404", "status=410", "status=500", "expire=3000000", "throttle=20000000"),
)
_HLS_FAULTS = ("nolength", "closelength", "status=404", "etag=flip")
_LIVE = "clock=request,window=6,begin=3,ends=6,target=1,quality=low,id=record"
"""A live broadcast whose segments all stay in the playlist, so that its bytes from `start=0` do not depend on time."""
_PARAMS = (
    ("/page/prog", {"download": "1"}),
    ("/page/prog", {"download": "1", "filename": "ein Film – größer.mp4"}),
    ("/page/prog", {"to": "source"}),
    ("/page/prog", {"to": "mp4"}),
    ("/page/prog", {"to": "mp3"}),
    ("/page/prog", {"format": "nothing"}),
    ("/page/prog", {"format": "b[height>"}),
    ("/page/prog", {"item": "2"}),
    ("/page/prog", {"item": "0"}),
    ("/page/prog", {"start": "0"}),
    ("/page/two", {"item": "2"}),
    ("/page/dash-on-demand", {"format": "bv+ba"}),
    ("/page/dash", {"format": "bv"}),
    ("/page/dash", {"format": "ba"}),
    ("/page/hls-audio", {"format": "bv"}),
    ("/page/hls-audio", {"format": "ba"}),
    ("/page/hls-ts", {"format": "w"}),
    ("/tube/watch/full", {"format": "video"}),
    ("/tube/watch/full", {"format": "audio"}),
    ("/tube/watch/full", {"format": "hls"}),
    ("/tube/watch/full", {"format": "webm"}),
    ("/tube/watch/full", {"format": "chunked"}),
    ("/tube/watch/full", {"format": "video+audio"}),
    ("/tube/watch/full", {"format": "w[ext=mp4][protocol=http]"}),
    ("/tube/watch/pair", {"format": "video-180+audio"}),
    ("/tube/watch/pair", {"to": "mp4"}),
    ("/tube/audio/tone", {"format": "mp3"}),
    ("/tube/playlist/list-12", {"item": "12"}),
    ("/tube/playlist/list-12", {"item": "13"}),
    ("/tube/post/photos", {"item": "2"}),
    ("/tube/post/with-music", {"item": "6"}),
    (f"/tube/live/{_LIVE}", {"start": "0"}),
)
_PARAMS_BY_CHILD = frozenset({"/page/two", "/page/dash", "/tube/audio/tone", "/tube/post/with-music"})


def _pages() -> Iterator[Sample]:
    names = [name for name in PAGES if name not in ("live", "slow")]
    yield from (Sample(f"/page/{name}", child=True) for name in (*names, "empty", "redirect", "loop", "missing"))
    yield Sample("/page/slow?seconds=0", child=True)
    yield Sample("/page/live/clock=step,window=5,begin=5,ends=5", child=True)
    yield Sample("/redirect?to=/page/prog")
    yield Sample("/missing")


def _tube() -> Iterator[Sample]:
    films = [film for film in WATCH if film != "slow"]
    yield from (Sample(f"/tube/watch/{film}", child=True) for film in (*films, *sorted(ERRORS), "crash", "item-3"))
    yield from (Sample(f"/tube/{page}") for page in ("watch/missing", "playlist/list-0", "post/with-music"))
    yield from (Sample(f"/tube/{page}", child=True) for page in ("playlist/list-12", "post/photos", "audio/tone"))


def _addresses() -> Iterator[Sample]:
    """Yield samples of media and manifests that are requested without a page."""
    yield from (Sample(f"/media/{name}", child=name in _MEDIA_BY_CHILD) for name in _MEDIA)
    yield from (Sample(f"/hls/{kind}/master.m3u8") for kind in ("ts", "fmp4", "aes", "audio", *HLS))
    yield from (Sample(f"/hls/ts/{variant}.m3u8") for variant in ("high", "low"))
    yield from (Sample(f"/dash/{name}") for name in DASH)


def _with_params() -> Iterator[Sample]:
    for page, params in _PARAMS:
        yield Sample(page, tuple(params.items()), child=page in _PARAMS_BY_CHILD)


def _faulty() -> Iterator[Sample]:
    yield from (Sample(f"/page/fault/{spec}/prog.mp4", child=spec == "nolength") for spec in _FAULTS)
    yield from (Sample(f"/fault/{spec}/hls/ts/master.m3u8") for spec in _HLS_FAULTS)
    yield Sample("/tube/watch/fault/norange/pair")


def _hostile() -> Iterator[Sample]:
    yield from (Sample(f"/hostile/{name}") for name in HOSTILE if name not in COSTLY)
    yield from (Sample(f"/tube/watch/{film}") for film in TRAPS)


def _elsewhere() -> Iterator[Sample]:
    """Yield pages over https, invalid addresses, and addresses to which the server must not connect."""
    for page in ("page/prog", "page/hls-aes", "page/dash-list", "tube/watch/pair"):
        yield Sample(f"{SECURE}/{page}", child=page == "page/prog")
    for url in (
        "http://127.0.0.1:9/film.mp4",
        "http://169.254.169.254/",
        "http://[::1]/",
        "ftp://example.org/",
        "film",
    ):
        yield Sample(url)


GROUPS: dict[str, tuple[Sample, ...]] = {
    "pages": tuple(_pages()),
    "tube": tuple(_tube()),
    "addresses": tuple(_addresses()),
    "parameters": tuple(_with_params()),
    "faults": tuple(_faulty()),
    "hostile": tuple(_hostile()),
    "elsewhere": tuple(_elsewhere()),
}
SAMPLES = tuple(sample for group in GROUPS.values() for sample in group)
