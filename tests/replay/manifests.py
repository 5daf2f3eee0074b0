"""HLS master playlists and DASH manifests that describe sample media as 1080p and 360p."""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.sample.boxes import boxes
from tests.replay.messages import MANIFEST, PLAYLIST, Response
from tests.replay.site import read

VIDEO = "avc1.640028"
LOW_VIDEO = "avc1.4d401e"
AUDIO = "mp4a.40.2"


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of a master playlist. `attributes` are further attributes of EXT-X-STREAM-INF."""

    url: str
    bandwidth: int
    size: str | None
    codecs: str = f"{VIDEO},{AUDIO}"
    attributes: str = ""


@dataclass(frozen=True, slots=True)
class Rendition:
    url: str
    group: str
    name: str
    attributes: str = ""


def master(*lines: Variant | Rendition) -> Response:
    """Return a master playlist (RFC 8216 §4.3.4) of variants and audio renditions."""
    text = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for each in lines:
        if isinstance(each, Rendition):
            text.append(
                f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{each.group}",NAME="{each.name}",DEFAULT=YES,AUTOSELECT=YES'
                f'{each.attributes},URI="{each.url}"'
            )
        else:
            size = "" if each.size is None else f",RESOLUTION={each.size}"
            fields = f'{size},FRAME-RATE=25.000,CODECS="{each.codecs}"{each.attributes}'
            text.append(f"#EXT-X-STREAM-INF:BANDWIDTH={each.bandwidth}{fields}")
            text.append(each.url)
    return Response("\n".join([*text, ""]).encode(), content_type=PLAYLIST)


def pair(high: str, low: str, audio: str, *, group: str = "audio", attributes: str = "") -> Response:
    """Return a master playlist of 1080p and 360p, with audio apart."""
    extra = f',AUDIO="{group}"'
    return master(
        Rendition(audio, group, "Original", attributes),
        Variant(high, 5_300_000, "1920x1080", f"{VIDEO},{AUDIO}", extra),
        Variant(low, 1_000_000, "640x360", f"{LOW_VIDEO},{AUDIO}", extra),
    )


def muxed(high: str, low: str) -> Response:
    """Return a master playlist of 1080p and 360p, each with its audio."""
    return master(Variant(high, 5_300_000, "1920x1080"), Variant(low, 1_000_000, "640x360", f"{LOW_VIDEO},{AUDIO}"))


@dataclass(frozen=True, slots=True)
class Representation:
    """A representation that is the single file `file` of the sample media, at the address `url` (escaped for XML)."""

    id: str
    url: str
    file: str
    attributes: str


def on_demand(*adaptation_sets: tuple[str, tuple[Representation, ...]]) -> str:
    """Return a manifest of the on-demand profile. Each adaptation set is a content type and its representations."""
    sets = "".join(
        f'<AdaptationSet contentType="{kind}" subsegmentAlignment="true">{"".join(map(_representation, each))}'
        "</AdaptationSet>"
        for kind, each in adaptation_sets
    )
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT1.5S"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT10S">'
        f'<Period duration="PT10S">{sets}</Period></MPD>'
    )


def manifest(text: str) -> Response:
    return Response(text.encode(), content_type=MANIFEST)


def _representation(each: Representation) -> str:
    index, init = index_ranges(each.file)
    return (
        f'<Representation id="{each.id}" {each.attributes}><BaseURL>{each.url}</BaseURL>'
        f'<SegmentBase indexRange="{index}" timescale="1000"><Initialization range="{init}"/></SegmentBase>'
        "</Representation>"
    )


def index_ranges(file: str) -> tuple[str, str]:
    """Return the ranges of the `sidx` and of the initialization section in a sample file."""
    (index,) = (box for box in boxes(read(file)) if box.kind == b"sidx")
    start = index.start - 8
    return f"{start}-{index.stop - 1}", f"0-{start - 1}"
