"""Tests of DASH presentations whose manifest states a longer duration than the media has, so that the last segment
computed from the duration does not exist. Players accept this, and so does the server. If any other segment is missing,
the server cuts the stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serverpy.sample.boxes import boxes
from serverpy.sample.site import SampleSite
from tests.server import Server, serving
from tests.streaming.segments.shelf import Shelf
from tests.wire import Answer
from tests.written import as_relayed

SEGMENTS = 5
LONGER = "PT10.5S"
"""A duration that a manifest states although its media consists of only five segments of 2 s each. According to this
duration, there would be a sixth segment."""
METHODS = ["relay", "embedded"]


@dataclass
class Stage:
    """A running server, and the media server whose manifests it reads. `statuses` maps the name of a file to the
    statuses of the responses to requests for it. The last status is used for all further requests, and 0 means that the
    file is sent."""

    server: Server
    shelf: Shelf
    media: Path
    statuses: dict[str, list[int]] = field(default_factory=dict)
    count: int = 0

    def refuse(self, target: str) -> int | None:
        left = self.statuses.get(target.rpartition("/")[2], [])
        return (left.pop(0) if len(left) > 1 else left[0]) or None if left else None

    def put(self, manifest: str) -> str:
        """Put a manifest on the media server, and return its URL, which no test has used before."""
        self.count += 1
        path = f"/d/m{self.count}.mpd"
        self.shelf.files[path] = manifest.encode()
        self.shelf.headers[path] = {"Content-Type": "application/dash+xml"}
        return self.shelf.url + path

    def get(self, manifest: str, method: str = "relay", **params: Any) -> Answer:
        return self.server.get(self.put(manifest), method=method, **params)

    def film(self, *names: str, seconds: float, method: str = "relay") -> bytes:
        """Return the bytes of a stream that consists of the files `names`."""
        whole = b"".join((self.media / "dash" / name).read_bytes() for name in names)
        return as_relayed(whole, has_length=False, seconds=seconds) if method == "relay" else whole

    def asked(self, name: str) -> int:
        return self.shelf.targets().count(f"/d/{name}")


@pytest.fixture(scope="module")
def running(site: SampleSite, media: Path) -> Iterator[Stage]:
    files = {f"/d/{path.name}": path.read_bytes() for path in (media / "dash").glob("*.m*4*")}
    with Shelf({**files}) as shelf, serving(site, allow_networks="127.0.0.0/8", wait_seconds=30) as server:
        stage = Stage(server, shelf, media)
        shelf.refuse = stage.refuse
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.statuses.clear()
    running.shelf.asked.clear()
    return running


def template(attributes: str = "", inside: str = "") -> str:
    return (
        '<SegmentTemplate initialization="$RepresentationID$-init.mp4" media="$RepresentationID$-$Number$.m4s"'
        f" {attributes}>{inside}</SegmentTemplate>"
    )


BY_DURATION = template('duration="2"')
CODECS = {"video": "avc1.64001e", "audio": "mp4a.40.2"}


def group(kind: str, segments: str = BY_DURATION) -> str:
    id = "video-360" if kind == "video" else "audio"
    size = ' width="640" height="360"' if kind == "video" else ""
    return (
        f'<AdaptationSet contentType="{kind}" mimeType="{kind}/mp4"><Representation id="{id}" bandwidth="1000"'
        f' codecs="{CODECS[kind]}"{size}>{segments}</Representation></AdaptationSet>'
    )


def mpd(*periods: str, seconds: str = LONGER) -> str:
    total = f'mediaPresentationDuration="{seconds}"' if seconds else ""
    return f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" {total}>{"".join(periods)}</MPD>'


def period(*sets: str, attributes: str = "") -> str:
    return f"<Period{attributes and ' ' + attributes}>{''.join(sets)}</Period>"


def parts(name: str, numbers: range = range(1, SEGMENTS + 1)) -> list[str]:
    return [f"{name}-init.mp4", *(f"{name}-{number}.m4s" for number in numbers)]


def data(film: bytes) -> list[bytes]:
    return sorted(film[box.start : box.stop] for box in boxes(film) if box.kind == b"mdat")


@pytest.mark.parametrize(("status", "method"), [*itertools.product([404, 410, 416], METHODS), (404, "subprocess")])
def test_the_last_segment_may_be_missing_if_the_manifest_states_a_longer_duration_than_the_media_has(
    stage: Stage, method: str, status: int
) -> None:
    stage.statuses["video-360-6.m4s"] = [status]
    answer = stage.get(mpd(period(group("video"))), method)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == stage.film(*parts("video-360"), seconds=10.5, method=method)
    requests = 4 if (method, status) == ("embedded", 416) else 2  # yt-dlp repeats a request without Range after a 416
    assert stage.asked("video-360-6.m4s") == requests
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ('duration="2000" timescale="1000" presentationTimeOffset="90000"', LONGER),
        ('duration="2" endNumber="9"', LONGER),
        ('duration="2"', "PT10.002S"),
        ('duration="2"', "PT11.999S"),
    ],
)
def test_the_last_segment_may_be_missing_however_its_number_was_computed(
    stage: Stage, attributes: str, seconds: str
) -> None:
    answer = stage.get(mpd(period(group("video", template(attributes))), seconds=seconds))
    assert answer.complete
    assert answer.body == stage.film(*parts("video-360"), seconds=float(seconds[2:-1]))
    assert stage.asked("video-360-6.m4s") == 2


@pytest.mark.parametrize("method", METHODS)
def test_the_last_segment_is_sent_if_only_the_first_request_for_it_is_answered_with_404(
    stage: Stage, method: str
) -> None:
    stage.statuses["video-360-5.m4s"] = [404, 0]
    answer = stage.get(mpd(period(group("video")), seconds="PT9.5S"), method)
    assert answer.complete
    assert answer.body == stage.film(*parts("video-360"), seconds=9.5, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", [403, 500])
def test_the_stream_is_cut_if_the_last_segment_is_answered_with_403_or_500(
    stage: Stage, method: str, status: int
) -> None:
    stage.statuses["video-360-6.m4s"] = [status]
    answer = stage.get(mpd(period(group("video"))), method)
    assert (answer.status, answer.complete) == (200, False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("segments", "seconds"),
    [
        (BY_DURATION, "PT12S"),  # six whole segments
        (template('duration="2" endNumber="6"'), LONGER),
        (template('duration="2" startNumber="1"'), "PT13S"),  # two segments are missing
        (template("", '<SegmentTimeline><S d="2" r="5"/></SegmentTimeline>'), LONGER),
        (template("", '<SegmentTimeline><S d="2" r="-1"/></SegmentTimeline>'), LONGER),
        (
            '<SegmentList duration="2"><Initialization sourceURL="video-360-init.mp4"/>'
            + "".join(f'<SegmentURL media="video-360-{number}.m4s"/>' for number in range(1, 7))
            + "</SegmentList>",
            LONGER,
        ),
    ],
    ids=["whole segments", "endNumber", "two missing", "a timeline", "an open timeline", "a list"],
)
def test_the_stream_is_cut_if_a_segment_is_missing_that_must_exist_according_to_the_manifest(
    stage: Stage, segments: str, seconds: str, method: str
) -> None:
    answer = stage.get(mpd(period(group("video", segments)), seconds=seconds), method)
    assert (answer.status, answer.complete) == (200, False)
    assert data(answer.body) == data(stage.film(*parts("video-360"), seconds=10))


def test_the_stream_is_not_complete_if_its_only_segment_is_missing(stage: Stage) -> None:
    stage.statuses["video-360-1.m4s"] = [404]
    answer = stage.get(mpd(period(group("video")), seconds="PT1S"))
    assert not (answer.status == 200 and answer.complete)


@pytest.mark.parametrize("method", METHODS)
def test_the_stream_is_cut_if_the_last_segment_is_first_truncated_and_then_missing(stage: Stage, method: str) -> None:
    stage.shelf.cuts["/d/video-360-5.m4s"] = 5000
    stage.statuses["video-360-5.m4s"] = [0, 404]
    answer = stage.get(mpd(period(group("video")), seconds="PT9.5S"), method)
    assert (answer.status, answer.complete) == (200, False)


TWO_PERIODS = (
    period(group("video"), group("audio"), attributes='duration="PT10.5S"'),
    period(group("video"), group("audio")),
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["video-360", "audio"])
def test_the_last_segment_of_each_period_may_be_missing(stage: Stage, method: str, name: str) -> None:
    answer = stage.get(mpd(*TWO_PERIODS, seconds="PT21S"), method, format=name)
    assert answer.complete
    assert answer.body == stage.film(*parts(name), *parts(name), seconds=21, method=method)


def merged(stage: Stage, manifest: str) -> Answer:
    return stage.get(manifest, "auto", format="video-360+audio")


@pytest.mark.parametrize("seconds", ["PT10.5S", "PT9.5S"])
def test_a_merge_ends_completely_if_the_last_segment_of_one_or_both_tracks_is_missing(
    stage: Stage, seconds: str
) -> None:
    if seconds == "PT9.5S":  # the audio ends one segment before the video
        stage.statuses["audio-5.m4s"] = [404]
    answer = merged(stage, mpd(period(group("video"), group("audio")), seconds=seconds))
    audio = parts("audio")[: 5 if seconds == "PT9.5S" else 6]
    assert (answer.status, answer.complete) == (200, True)
    assert data(answer.body) == data(stage.film(*parts("video-360"), *audio, seconds=10))


@pytest.mark.parametrize("missing", [(), ("audio-5.m4s",)])
def test_a_merge_of_several_periods_continues_after_a_missing_last_segment_of_a_period(
    stage: Stage, missing: tuple[str, ...]
) -> None:
    stage.statuses.update({name: [404] for name in missing})
    manifest = mpd(*TWO_PERIODS, seconds="PT21S")
    answer = merged(stage, manifest.replace("10.5", "9.5").replace("PT21", "PT19") if missing else manifest)
    audio = parts("audio")[: 5 if missing else 6]
    assert (answer.status, answer.complete) == (200, True)
    assert data(answer.body) == sorted(2 * data(stage.film(*parts("video-360"), *audio, seconds=10)))


def test_a_merge_is_cut_if_a_segment_other_than_the_last_one_is_missing(stage: Stage) -> None:
    stage.statuses["audio-4.m4s"] = [404]
    answer = merged(stage, mpd(period(group("video"), group("audio"))))
    assert (answer.status, answer.complete) == (200, False)
