"""Tests of format selectors over HTTP: `/stream` sends what yt-dlp would choose among the formats that this server can
stream."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.server import Server

PAIRS = "/tube/watch/pairs"
FIELDS = ("content-type", "content-length", "etag", "accept-ranges", "x-serverpy-method")


def head(server: Server, page: str, format: str) -> list[str | int | None]:
    answer = server.get(page, verb="HEAD", format=format)
    return [answer.status, *(answer.headers.get(name) for name in FIELDS)]


@pytest.mark.parametrize(
    ("page", "selector", "same"),
    [
        (PAIRS, "bv+ba", "video-180+audio"),
        (PAIRS, "bv*+ba/b", "180"),
        (PAIRS, "bestvideo[height<=720]+bestaudio/best", "video-180+audio"),
        (PAIRS, "bv*[ext=webm]+ba[ext=m4a]/b", "180"),
        (PAIRS, "bv+ba[ext=m4a]", "video-180+audio"),
        (PAIRS, "(bv[ext=webm]+ba/bv[ext=mp4])+ba", "video-180+audio"),
        (PAIRS, "bv,ba", "video-webm"),
        (PAIRS, "bv+ba/", "video-180+audio"),
        (PAIRS, "(mp4,webm)[height<480]", "180"),
        (PAIRS, "ba[acodec=opus]", "audio-webm"),
        ("/tube/watch/webm-pair-or-film", "bv*+ba/b", "180"),
        ("/tube/watch/hls-audio-or-film", "bv*+ba/b", "180"),
        ("/tube/watch/pair-or-film", "bv+ba/ba", "audio"),
    ],
)
def test_a_format_selector_chooses_its_first_alternative_that_the_server_can_stream(
    server: Server, page: str, selector: str, same: str
) -> None:
    assert head(server, page, selector) == head(server, page, same)
    assert head(server, page, same)[0] == 200


@pytest.mark.parametrize(
    ("page", "selector", "status", "code"),
    [
        ("/tube/watch/pair-webm", "bv+ba", 422, "unsupported_conversion"),
        ("/tube/watch/pair-webm", "bv*+ba/b", 422, "unsupported_conversion"),
        (PAIRS, "bv[height>9000]+ba/b[height>9000]", 404, "format_not_found"),
        ("/tube/watch/drm", "b", 403, "drm_protected"),
        (PAIRS, "b[nothing=1]", 404, "format_not_found"),
        (PAIRS, "bv+", 400, "invalid_parameter"),
    ],
)
def test_a_format_selector_without_a_streamable_alternative_fails_with_the_reason(
    server: Server, page: str, selector: str, status: int, code: str
) -> None:
    answer = server.get(page, format=selector)
    assert (answer.status, answer.code) == (status, code)


def test_a_format_selector_chooses_a_single_format_if_the_method_never_merges(server: Server) -> None:
    for method in ("embedded", "redirect"):
        answer = server.get("/page/prog", verb="HEAD", format="bv+ba/b", method=method)
        assert answer.status in (200, 302)
    assert server.get(PAIRS, verb="HEAD", format="bv+ba/b", method="embedded").status == 200
    child = server.get(PAIRS, format="bv*[height<=720]+ba/b", method="subprocess")
    assert (child.status, child.body == server.get(PAIRS, format="180").body) == (200, True)


FULL = "/tube/watch/full"
BY_FIELD = (
    "bv*[dynamic_range=SDR]", "ba[abr>=?100]", "b[vbr>?1]", "b*[resolution='640x360']", "bv*[aspect_ratio>1]",
    "b[format*='360']", "bv*[protocol=https]", "b[fps>?1]", "bv*[width=640]", "ba[asr>?1]", "b[audio_channels>?1]",
    "b[quality>?0]", "bv*[video_ext=mp4]", "ba[audio_ext=m4a]", "b[filesize<50M]", "b[filesize_approx>?1]", "b[tbr>0]",
    "b[format_note!=?x]", "ba[language=?en]", "b[source_preference<?1]", "b[url*=prog]", "b[format_id^=36]",
    "wv*[vcodec^=avc1]", "b*[container=?x]", "b[has_drm!=?1]", "ba[resolution='audio only']", "bv*[dynamic_range=HDR]",
    "worst", "w*", "all", "mergeall", "b*", "ba*", "b.2", "bv*.3", "wv*.2", "webm", "mp4", "m4a", "best[ext=webm]/b",
)  # fmt: skip


@pytest.fixture(scope="module")
def chosen(server: Server) -> dict[str, list[str]]:
    """Maps each selector in BY_FIELD to the first choice of unmodified yt-dlp from the formats of the page FULL: a list
    with one id, or an empty list if the selector matches no format."""
    command = [sys.executable, "-m", "tests.ytdlp.selected", f"{server.site.http}{FULL}", *BY_FIELD]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60)
    found: dict[str, list[str]] = json.loads(child.stdout)
    return found


@pytest.mark.parametrize("selector", BY_FIELD)
def test_a_selector_by_any_format_field_chooses_what_unmodified_yt_dlp_chooses(
    server: Server, chosen: dict[str, list[str]], selector: str
) -> None:
    answer = head(server, FULL, selector)
    if chosen[selector]:
        assert answer == head(server, FULL, chosen[selector][0])
        assert answer[0] == 200
    else:
        assert answer[0] == 404


def test_the_tested_selectors_choose_many_different_formats_and_sometimes_none(chosen: dict[str, list[str]]) -> None:
    assert len({tuple(each) for each in chosen.values()}) >= 6
    assert [] in chosen.values()
