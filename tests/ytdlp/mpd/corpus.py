"""DASH manifests in the style of the test suites of DASH players, three for each kind of manifest. If mpd-parser or
yt-dlp lists segments that differ from ServerPY's, the case explains why, and which segments are right."""

# ruff: noqa: E501  # elements of a manifest are easier to read on one long line

from __future__ import annotations

from dataclasses import dataclass

from tests.ytdlp.mpd.listed import AUDIO, VIDEO, mpd, video


@dataclass(frozen=True, kw_only=True)
class Case:
    """A manifest. `peer` explains why mpd-parser, and `ytdlp` why yt-dlp, lists segments that differ from ServerPY's.
    `peer` or `ytdlp` is None if that parser lists the same segments. `right` contains the segments of each format if
    both other parsers are wrong."""

    text: str
    peer: str | None = None
    ytdlp: str | None = None
    right: dict[str, str] | None = None


def _template(attributes: str, inside: str = "") -> str:
    return f"<SegmentTemplate {attributes}>{inside}</SegmentTemplate>"


def _numbered(folder: str = "", **more: object) -> str:
    named = "".join(f' {name}="{value}"' for name, value in more.items())
    return _template(f'initialization="{folder}i.mp4" media="{folder}$Number$.m4s" duration="2"{named}')


def _timeline(inside: str, media: str = "$Time$.m4s", attributes: str = 'timescale="10"') -> str:
    entries = f"<SegmentTimeline>{inside}</SegmentTimeline>"
    return _template(f'initialization="i.mp4" media="{media}" {attributes}', entries)


def _list(inside: str, attributes: str = 'duration="2"') -> str:
    return f"<SegmentList {attributes}>{inside}</SegmentList>"


def _two(first: str, second: str, attributes: str = "") -> str:
    return mpd(f'<Period id="1" duration="PT4S">{first}</Period><Period id="2" duration="PT2S">{second}</Period>')


_RANGES = "yt-dlp ignores byte ranges"
_SPLIT = "yt-dlp makes a format of each period if the representations differ in any field"
_JOIN = "mpd-parser joins periods by the ids of representations alone"
_FAILS = "yt-dlp raises an exception"

PERIODS = {
    "periods-other-bandwidth": Case(
        text=_two(video(_numbered("a/")), video(_numbered("b/"), bandwidth=2000)), ytdlp=_SPLIT
    ),
    "periods-other-ids": Case(
        text=_two(video(_numbered("a/"), id="one"), video(_numbered("b/"), id="two")),
        peer=_JOIN,
        right={"one": "!a/i.mp4 a/1.m4s a/2.m4s !b/i.mp4 b/1.m4s"},
    ),
    "periods-sets-in-another-order": Case(
        text=_two(
            f'<AdaptationSet {AUDIO} lang="en"><Representation id="1" bandwidth="64">{_numbered("en/")}</Representation>'
            f'</AdaptationSet><AdaptationSet {AUDIO} lang="fr"><Representation id="2" bandwidth="64">{_numbered("fr/")}'
            "</Representation></AdaptationSet>",
            f'<AdaptationSet {AUDIO} lang="fr"><Representation id="1" bandwidth="96">{_numbered("fr2/")}</Representation>'
            f'</AdaptationSet><AdaptationSet {AUDIO} lang="en"><Representation id="2" bandwidth="96">{_numbered("en2/")}'
            "</Representation></AdaptationSet>",
        ),
        peer=_JOIN,
        ytdlp=_SPLIT,
        right={
            "1": "!en/i.mp4 en/1.m4s en/2.m4s !en2/i.mp4 en2/1.m4s",
            "2": "!fr/i.mp4 fr/1.m4s fr/2.m4s !fr2/i.mp4 fr2/1.m4s",
        },
    ),
}

RANGES = {
    "ranges-of-named-files": Case(
        text=mpd(
            "<Period>"
            + video(
                _list(
                    '<Initialization sourceURL="f.mp4" range="0-846"/><SegmentURL media="f.mp4" mediaRange="847-18000"/>'
                    '<SegmentURL media="f.mp4" mediaRange="18001-34978" indexRange="18001-18044"/>'
                    '<SegmentURL media="g.mp4" mediaRange="0-99"/>'
                )
            )
            + "</Period>"
        ),
        ytdlp=_RANGES,
    ),
    "ranges-of-the-base-url": Case(
        text=mpd(
            "<Period>"
            + video(
                "<BaseURL>f.mp4</BaseURL>"
                + _list(
                    '<Initialization range="0-846"/><SegmentURL mediaRange="847-18000"/>'
                    '<SegmentURL mediaRange="18001-34978"/><SegmentURL mediaRange="34979-34979"/>'
                )
            )
            + "</Period>"
        ),
        ytdlp=_FAILS,
    ),
    "range-of-the-initialization-only": Case(
        text=mpd(
            "<Period>"
            + video(
                _list(
                    '<Initialization sourceURL="f.mp4" range="0-846"/><SegmentURL media="1.m4s"/>'
                    '<SegmentURL media="2.m4s"/><SegmentURL media="3.m4s"/>'
                )
            )
            + "</Period>"
        ),
        ytdlp=_RANGES,
    ),
}

REPEATS = {
    "repeat-to-the-end": Case(
        text=mpd("<Period>" + video(_timeline('<S t="0" d="20" r="-1"/>')) + "</Period>"),
        ytdlp="yt-dlp reads a negative r as 0",
    ),
    "repeat-to-the-next-entry": Case(
        text=mpd("<Period>" + video(_timeline('<S t="0" d="10" r="-1"/><S t="40" d="20"/>')) + "</Period>"),
        ytdlp="yt-dlp reads a negative r as 0",
    ),
    "repeat-to-the-end-of-a-period-that-begins-late-in-the-media": Case(
        text=mpd(
            "<Period>"
            + video(_timeline('<S t="900" d="20" r="-1"/>', attributes='timescale="10" presentationTimeOffset="900"'))
            + "</Period>"
        ),
        peer="mpd-parser does not add presentationTimeOffset to the end of the period, and finds no segment",
        ytdlp="yt-dlp reads a negative r as 0",
        right={"v": "!i.mp4 900.m4s 920.m4s 940.m4s"},
    ),
}

NUMBERS = {
    "number-with-width": Case(
        text=mpd(
            "<Period>"
            + video(_template('initialization="i-$RepresentationID$.mp4" media="$Number%05d$.m4s" duration="2"'))
            + "</Period>"
        )
    ),
    "number-from-zero": Case(text=mpd("<Period>" + video(_numbered(startNumber=0)) + "</Period>")),
    "number-of-the-last": Case(
        text=mpd("<Period>" + video(_numbered(startNumber=5, endNumber=6)) + "</Period>"),
        peer="mpd-parser takes endNumber for a count",
        ytdlp="yt-dlp ignores endNumber",
        right={"v": "!i.mp4 5.m4s 6.m4s"},
    ),
}

TIMES = {
    "time-with-a-gap": Case(
        text=mpd("<Period>" + video(_timeline('<S t="0" d="20"/><S d="10"/><S t="50" d="10"/>')) + "</Period>")
    ),
    "time-with-an-offset": Case(
        text=mpd(
            "<Period>"
            + video(
                _timeline(
                    '<S t="1000" d="20" r="1"/><S d="20"/>', attributes='timescale="10" presentationTimeOffset="1000"'
                )
            )
            + "</Period>"
        )
    ),
    "time-as-a-number": Case(
        text=mpd(
            "<Period>"
            + video(
                _timeline('<S t="7" d="20" r="2"/>', "$Number%03d$-$Bandwidth$.m4s", 'timescale="10" startNumber="41"')
            )
            + "</Period>"
        )
    ),
}

LISTS = {
    "list": Case(
        text=mpd(
            "<Period>"
            + video(
                _list(
                    '<Initialization sourceURL="i.mp4"/><SegmentURL media="a.m4s"/><SegmentURL media="b.m4s"/>'
                    '<SegmentURL media="c.m4s"/>'
                )
            )
            + "</Period>"
        )
    ),
    "list-with-a-timeline": Case(
        text=mpd(
            "<Period>"
            + video(
                _list(
                    '<Initialization sourceURL="i.mp4"/><SegmentTimeline><S t="0" d="25"/><S d="35"/></SegmentTimeline>'
                    '<SegmentURL media="a.m4s"/><SegmentURL media="b.m4s"/>',
                    'timescale="10"',
                )
            )
            + "</Period>"
        )
    ),
    "list-longer-than-its-times": Case(
        text=mpd(
            "<Period>"
            + video(
                _list(
                    '<Initialization sourceURL="i.mp4"/><SegmentTimeline><S t="0" d="25"/><S d="35"/></SegmentTimeline>'
                    '<SegmentURL media="a.m4s"/><SegmentURL media="b.m4s"/><SegmentURL media="c.m4s"/>',
                    'timescale="10"',
                )
            )
            + "</Period>"
        ),
        peer="mpd-parser leaves out segments without a time",
        ytdlp="yt-dlp leaves out segments without a time",
        right={"v": "!i.mp4 a.m4s b.m4s c.m4s"},
    ),
}

BASES = {
    "base-at-every-level": Case(
        text=mpd(
            "<BaseURL>a/</BaseURL><Period><BaseURL>b/</BaseURL>"
            f"<AdaptationSet {VIDEO}><BaseURL>c/</BaseURL>"
            f'<Representation id="v" bandwidth="1"><BaseURL>d/</BaseURL>{_numbered()}</Representation></AdaptationSet>'
            "</Period>"
        )
    ),
    "base-that-goes-up": Case(
        text=mpd(
            f"<BaseURL>/x/y/</BaseURL><Period><BaseURL>../z/</BaseURL>{video(_numbered())}</Period>",
        )
    ),
    "base-that-names-a-file": Case(
        text=mpd(
            f"<BaseURL>p/index.mpd</BaseURL><Period><BaseURL>q/</BaseURL>{video(_numbered())}</Period>",
        ),
        ytdlp="yt-dlp concatenates base URLs instead of resolving them",
    ),
    "base-that-is-absolute-below": Case(
        text=mpd(
            f"<BaseURL>a/</BaseURL><Period><BaseURL>https://cdn.example/p/</BaseURL>{video(_numbered())}</Period>",
        )
    ),
}

INHERITED = {
    "inherited-from-the-period": Case(
        text=mpd(
            "<Period>"
            + _template(
                'initialization="$RepresentationID$/i.mp4" media="$RepresentationID$/$Number$.m4s" duration="2"'
            )
            + video("")
            + "</Period>"
        )
    ),
    "inherited-and-overridden": Case(
        text=mpd(
            f'<Period><AdaptationSet {VIDEO}><SegmentTemplate initialization="i.mp4" duration="2" startNumber="3"/>'
            '<Representation id="v" bandwidth="1"><SegmentTemplate media="v-$Number$.m4s"/></Representation>'
            '<Representation id="w" bandwidth="2"><SegmentTemplate media="w-$Number$.m4s" startNumber="9"/>'
            "</Representation></AdaptationSet></Period>"
        )
    ),
    "inherited-timeline": Case(
        text=mpd(
            f'<Period><AdaptationSet {VIDEO}><SegmentTemplate timescale="10"><SegmentTimeline><S t="0" d="30" r="1"/>'
            '</SegmentTimeline></SegmentTemplate><Representation id="v" bandwidth="1">'
            '<SegmentTemplate initialization="v.mp4" media="v-$Time$.m4s"/></Representation></AdaptationSet></Period>'
        )
    ),
}

STARTS = {
    "starts-instead-of-durations": Case(
        text=mpd(
            f'<Period id="1" start="PT0S">{video(_numbered("a/"))}</Period>'
            f'<Period id="2" start="PT4S">{video(_numbered("b/"))}</Period>'
        ),
        ytdlp="yt-dlp takes the duration of the presentation for that of each period",
        peer="mpd-parser takes the duration of the presentation for that of each period",
        right={"v": "!a/i.mp4 a/1.m4s a/2.m4s !b/i.mp4 b/1.m4s"},
    ),
    "starts-that-overlap": Case(
        text=mpd(
            f'<Period id="1" start="PT0S" duration="PT6S">{video(_numbered("a/"))}</Period>'
            f'<Period id="2" start="PT4S" duration="PT2S">{video(_numbered("b/"))}</Period>'
        ),
        ytdlp="yt-dlp ignores that the second period begins before the first one ends",
        peer="mpd-parser ignores that the second period begins before the first one ends",
        right={"v": "!a/i.mp4 a/1.m4s a/2.m4s !b/i.mp4 b/1.m4s"},
    ),
    "starts-that-are-all-zero": Case(
        text=mpd(
            f'<Period id="1" start="PT0S" duration="PT4S">{video(_numbered("a/"))}</Period>'
            f'<Period id="2" start="PT0S" duration="PT2S">{video(_numbered("b/"))}</Period>'
        ),
        right={"v": "!a/i.mp4 a/1.m4s a/2.m4s !b/i.mp4 b/1.m4s"},
    ),
}

UNTYPED = {
    "type-by-content-type": Case(
        text=mpd(
            '<Period><AdaptationSet contentType="video"><Representation id="v" bandwidth="1" codecs="avc1.4d401e">'
            f"{_numbered()}</Representation></AdaptationSet></Period>"
        ),
        ytdlp=_FAILS,
        right={"v": "!i.mp4 1.m4s 2.m4s 3.m4s"},
    ),
    "type-by-codecs": Case(
        text=mpd(
            '<Period><AdaptationSet><Representation id="v" bandwidth="1" codecs="hvc1.1.6.L93.B0">'
            f'{_numbered()}</Representation></AdaptationSet><AdaptationSet lang="en"><Representation id="a"'
            f' bandwidth="1" codecs="opus">{_numbered("a/")}</Representation></AdaptationSet></Period>'
        ),
        peer="mpd-parser ignores representations without a MIME type",
        ytdlp=_FAILS,
        right={"v": "!i.mp4 1.m4s 2.m4s 3.m4s", "a": "!a/i.mp4 a/1.m4s a/2.m4s a/3.m4s"},
    ),
    "type-by-component": Case(
        text=mpd(
            '<Period><AdaptationSet><ContentComponent contentType="audio"/><Representation id="a" bandwidth="1">'
            f"{_numbered()}</Representation></AdaptationSet></Period>"
        ),
        peer="mpd-parser ignores representations without a MIME type",
        ytdlp=_FAILS,
        right={"a": "!i.mp4 1.m4s 2.m4s 3.m4s"},
    ),
}

CORPUS: dict[str, Case] = {
    **PERIODS,
    **RANGES,
    **REPEATS,
    **NUMBERS,
    **TIMES,
    **LISTS,
    **BASES,
    **INHERITED,
    **STARTS,
    **UNTYPED,
}
