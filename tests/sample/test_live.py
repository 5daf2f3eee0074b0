"""Tests of the sample site's live broadcasts: the segments that a broadcast lists and serves, and a stepped clock,
which advances only when a test steps it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import unpad

from serverpy.sample import SampleSite
from serverpy.sample.live import KEY, Broadcast, Show, parse_show

from .conftest import YtDlp
from .raw import Answer, ask

STEPPED = Show(clock="step")


def text_of(show: Show, steps: int = 0) -> str:
    broadcast = Broadcast(show)
    broadcast.step(steps)
    return broadcast.playlist()


def index(site: SampleSite, spec: str, query: str = "") -> str:
    return ask(f"{site.http}/live/{spec}/index.m3u8{query}").body.decode()


def names(playlist: str) -> list[str]:
    return [line.partition("?")[0] for line in playlist.splitlines() if not line.startswith("#")]


def test_the_address_of_a_broadcast_is_parsed_to_its_properties() -> None:
    assert parse_show("now") == Show(id="now")
    assert parse_show("ends-6") == parse_show("ends=6") == Show(ends=6)
    assert parse_show("clock-step,window=5,expire=2,id=a") == Show(clock="step", window=5, expire=2, id="a")


@pytest.mark.parametrize("spec", ["clock=never", "ends=-1", "window=x", "speed=0", "kind=flv"])
def test_an_invalid_broadcast_address_is_answered_with_400(site: SampleSite, spec: str) -> None:
    assert ask(f"{site.http}/live/{spec}/index.m3u8").status == 400
    assert ask(f"{site.http}/page/live/{spec}").status == 400


def test_the_first_playlist_of_a_broadcast_lists_a_full_window_of_segments() -> None:
    text = text_of(STEPPED)
    assert "#EXT-X-MEDIA-SEQUENCE:0\n" in text
    assert names(text) == ["0.ts", "1.ts", "2.ts"]
    assert names(text_of(replace(STEPPED, begin=0))) == []


def test_the_playlist_window_of_a_broadcast_slides_over_discontinuities_and_counts_them() -> None:
    text = text_of(STEPPED, 4)
    assert "#EXT-X-MEDIA-SEQUENCE:4\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n" in text
    assert "4.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:2.000000,\n5.ts\n" in text
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-DISCONTINUITY\n" in text_of(STEPPED, 5)
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXTINF" in text_of(STEPPED, 6)
    assert "ENDLIST" not in text_of(STEPPED, 100)


def test_a_broadcast_with_the_property_ends_has_an_end_tag() -> None:
    ending = replace(STEPPED, ends=6)
    assert text_of(ending, 6) == text_of(ending, 3)
    assert text_of(ending, 3).endswith("5.ts\n#EXT-X-ENDLIST\n")
    assert "ENDLIST" not in text_of(ending, 2)
    broadcast = Broadcast(STEPPED)
    broadcast.end()
    broadcast.step()
    assert broadcast.playlist().endswith("2.ts\n#EXT-X-ENDLIST\n")


def test_a_broadcast_with_a_stepped_clock_gets_new_segments_only_when_a_test_steps_the_clock(site: SampleSite) -> None:
    spec = "clock=step,id=still"
    assert index(site, spec) == index(site, spec)
    assert json.loads(ask(f"{site.http}/live/{spec}/step?by=2", method="POST").body) == {"made": 5, "listed": [2, 5]}
    assert names(index(site, spec)) == ["2.ts", "3.ts", "4.ts"]
    site.broadcast(spec).step()
    assert names(index(site, spec)) == ["3.ts", "4.ts", "5.ts"]
    assert json.loads(ask(f"{site.http}/live/{spec}/state").body)["made"] == 6
    ask(f"{site.http}/live/{spec}/end")
    assert index(site, spec).endswith("#EXT-X-ENDLIST\n")
    assert ask(f"{site.http}/live/{spec}/step?by=x").status == 400


def test_a_broadcast_with_a_request_clock_gets_one_more_segment_at_each_request(site: SampleSite) -> None:
    spec = "clock=request,ends=5,id=asked"
    assert [names(index(site, spec))[-1] for _ in range(4)] == ["2.ts", "3.ts", "4.ts", "4.ts"]


def test_a_broadcast_with_a_real_clock_gets_new_segments_as_time_passes() -> None:
    seconds = 100.0
    broadcast = Broadcast(Show(speed=4), now=lambda: seconds)
    assert broadcast.listed == range(3)
    seconds += 1.75
    assert broadcast.listed == range(3, 6)
    assert "#EXTINF:0.500000," in broadcast.playlist()
    assert "#EXT-X-TARGETDURATION:1\n" in broadcast.playlist()


def test_segments_of_a_broadcast_stay_available_for_the_length_of_a_window_after_they_leave_the_playlist(
    site: SampleSite,
) -> None:
    spec = "clock=step,quality=low,id=kept"
    site.broadcast(spec).step(7)
    assert names(index(site, spec)) == ["7.ts", "8.ts", "9.ts"]
    assert ask(f"{site.http}/live/{spec}/9.ts").body == site.path("hls/ts/low-4.ts").read_bytes()
    assert {n: ask(f"{site.http}/live/{spec}/{n}.ts").status for n in (3, 4, 9, 10)} == {
        3: 404,
        4: 200,
        9: 200,
        10: 404,
    }
    strict = "clock=step,keep=0,id=strict"
    site.broadcast(strict).step()
    assert [ask(f"{site.http}/live/{strict}/{n}.ts").status for n in (0, 1)] == [404, 200]


def test_a_fragmented_mp4_broadcast_has_an_ext_x_map(site: SampleSite) -> None:
    spec = "clock=step,kind=fmp4,id=map"
    assert '#EXT-X-MAP:URI="init.mp4"\n' in index(site, spec)
    assert ask(f"{site.http}/live/{spec}/init.mp4").body == site.path("hls/fmp4/high-init.mp4").read_bytes()
    assert ask(f"{site.http}/live/{spec}/2.m4s").body == site.path("hls/fmp4/high-2.m4s").read_bytes()


def test_an_encrypted_broadcast_uses_the_sequence_number_as_iv(site: SampleSite) -> None:
    spec = "clock=step,kind=aes,quality=low,id=aes"
    assert '#EXT-X-KEY:METHOD=AES-128,URI="live.key"\n' in index(site, spec)
    assert ask(f"{site.http}/live/{spec}/live.key").body == KEY
    secret = ask(f"{site.http}/live/{spec}/2.ts").body
    plain = unpad(AES.new(KEY, AES.MODE_CBC, (2).to_bytes(16, "big")).decrypt(secret), 16)
    assert plain == site.path("hls/ts/low-2.ts").read_bytes()


def test_a_broadcast_url_expires_with_the_clock_and_each_request_for_the_page_gets_a_new_url(site: SampleSite) -> None:
    spec = "clock=step,expire=2,id=token"

    def visit() -> str:
        match = re.search(r"\?token=([\w-]+)", ask(f"{site.http}/page/live/{spec}").body.decode())
        assert match
        return match[0]

    def statuses(query: str) -> list[int]:
        return [ask(f"{site.http}/live/{spec}/{file}{query}").status for file in ("index.m3u8", "2.ts")]

    old = visit()
    site.broadcast(spec).step()
    assert statuses(old) == [200, 200]
    assert f"2.ts{old}\n" in index(site, spec, old)
    site.broadcast(spec).step()
    assert statuses(old) == [403, 200]
    assert statuses(visit()) == [200, 200]
    assert statuses("") == [403, 200]


def test_the_option_signed_all_makes_segments_also_require_the_token_of_their_broadcast(site: SampleSite) -> None:
    spec = "clock=step,expire=2,signed=all,id=all"
    assert index(site, spec)
    assert ask(f"{site.http}/live/{spec}/2.ts").status == 403
    assert ask(f"{site.http}/live/{spec}/2.ts?token={site.broadcast(spec).issue()}").status == 200


def test_faults_apply_to_the_segments_of_a_broadcast(site: SampleSite) -> None:
    url = f"{site.http}/fault/cut=1000/live/clock=step,id=cut"
    assert len(ask(f"{url}/index.m3u8").body) < 1000
    answer = ask(f"{url}/2.ts")
    assert (len(answer.body), answer.end) == (1000, "fin")


def test_the_site_counts_requests_by_path(site: SampleSite) -> None:
    url = f"{site.http}/live/clock=step,id=counted"
    for path in ("index.m3u8", "index.m3u8?a=1", "0.ts"):
        ask(f"{url}/{path}")
    counts = {"/live/clock=step,id=counted/index.m3u8": 2, "/live/clock=step,id=counted/0.ts": 1}
    assert json.loads(ask(f"{site.http}/counts/live/clock=step,id=counted").body) == counts
    assert site.counts("/live/clock=step,id=counted") == counts


def live(site: SampleSite, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the description of a broadcast from SampleTube's API, and the headers that requests for its media need."""
    cookie = ask(f"{site.http}/tube/live/{name}").headers["set-cookie"].partition(";")[0]
    data: dict[str, Any] = json.loads(ask(f"{site.http}/tube/api/live/{name}").body)
    return data, [f"Cookie: {cookie}", f"X-Tube-Token: {data['token']}"]


def fetch(site: SampleSite, data: dict[str, Any], headers: list[str], file: str) -> Answer:
    return ask(site.http + data["path"].replace("master.m3u8", file), *headers)


def test_sampletube_serves_its_broadcasts_only_to_its_sessions(site: SampleSite) -> None:
    spec = "clock=step,expire=2,id=tube"
    data, headers = live(site, spec)
    assert fetch(site, data, headers, "index.m3u8").status == 200
    assert fetch(site, data, [], "index.m3u8").status == 403
    site.broadcast(spec).step(2)
    assert fetch(site, data, headers, "index.m3u8").status == 403
    assert fetch(site, *live(site, spec), "index.m3u8").status == 200
    assert ask(f"{site.http}/tube/api/live/kind=flv").status == 404


def test_sampletube_serves_broadcasts_with_faults(site: SampleSite) -> None:
    data, headers = live(site, "fault/cut=1000/clock=step,id=faulty")
    assert len(fetch(site, data, headers, "0.ts").body) == 1000


@pytest.mark.parametrize("spec", ["clock=step,expire=3,id=y", "fault/cut=9000,times=1/clock=step,kind=fmp4", "ends-6"])
def test_yt_dlp_extracts_a_sampletube_broadcast_as_live(site: SampleSite, ytdlp: YtDlp, spec: str) -> None:
    info = ytdlp.info(f"{site.http}/tube/live/{spec}")
    (found,) = info["formats"]
    assert (info["live_status"], found["protocol"], found["height"]) == ("is_live", "m3u8_native", 360)
    assert ("token=" in found["url"]) == ("expire" in spec)


def test_yt_dlp_downloads_an_ended_broadcast_from_its_beginning(site: SampleSite, ytdlp: YtDlp, tmp_path: Path) -> None:
    spec = "clock=step,ends=3,quality=low,id=over"
    expected = b"".join(site.path(f"hls/ts/low-{number}.ts").read_bytes() for number in range(3))
    assert ytdlp.get(f"{site.http}/page/live/{spec}", "b", tmp_path) == expected
