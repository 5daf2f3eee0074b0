"""Tests that unmodified yt-dlp downloads each form of HLS playlist that the sample site has. The downloaded bytes are
those of the files that `parts_of` lists."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

import pytest

from serverpy.sample import SampleSite
from serverpy.sample.hls import QUERY, SHAPES, VARIANTS, parts_of
from serverpy.sample.shelf import with_token

from .conftest import YtDlp
from .raw import ask

BEST = {"high": "b/bv", "low": "w/wv"}


def bytes_of(site: SampleSite, kind: str, variant: str) -> bytes:
    return b"".join(site.path(f"hls/{part}").read_bytes() for part in parts_of(kind, variant))


def downloaded(site: SampleSite, ytdlp: YtDlp, folder: Path, path: str, format: str) -> bytes:
    return ytdlp.get(f"{site.http}/{path}", format, folder)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind != "discontinuity-fmp4"])
def test_yt_dlp_downloads_the_segments_of_each_hls_form_in_order(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path, kind: str, variant: str
) -> None:
    got = downloaded(site, ytdlp, tmp_path, f"page/hls-{kind}", BEST[variant])
    assert got == bytes_of(site, kind, variant)


def test_yt_dlp_does_not_download_a_playlist_with_a_second_ext_x_map(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path
) -> None:
    params = {"outtmpl": str(tmp_path / "media"), "format": "b"}
    answer = ytdlp.ask(f"{site.http}/page/hls-discontinuity-fmp4", download=True, params=params)
    assert "error" in answer or not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "index", "parts"),
    [
        ("discontinuity", 0, ["ts/low-0.ts", "ts/low-1.ts"]),
        ("discontinuity", 1, ["ts/high-2.ts"]),
        ("discontinuity", 2, ["ts/low-3.ts", "ts/low-4.ts"]),
        ("discontinuity-fmp4", 0, ["fmp4/low-init.mp4", *(f"fmp4/low-{number}.m4s" for number in range(3))]),
        ("discontinuity-fmp4", 1, ["fmp4/high-init.mp4", "fmp4/high-3.m4s", "fmp4/high-4.m4s"]),
    ],
)
def test_the_format_index_of_yt_dlp_is_the_number_of_the_discontinuity(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path, kind: str, index: int, parts: list[str]
) -> None:
    params = {"hls_split_discontinuity": True, "outtmpl": str(tmp_path / "media"), "nopart": True}
    url = f"{site.http}/page/hls-{kind}"
    found = [f for f in ytdlp.info(url, params=params)["formats"] if f["height"] == 180]
    assert [entry["format_index"] for entry in found] == list(range(3 if kind == "discontinuity" else 2))
    ytdlp.info(url, download=True, params={**params, "format": found[index]["format_id"]})
    assert (tmp_path / "media").read_bytes() == b"".join(site.path(f"hls/{part}").read_bytes() for part in parts)


@pytest.mark.parametrize("kind", ["group", "group-muxed"])
def test_yt_dlp_finds_no_codecs_in_a_master_playlist_that_names_none(site: SampleSite, ytdlp: YtDlp, kind: str) -> None:
    info = ytdlp.info(f"{site.http}/page/hls-{kind}")
    assert [(f.get("height"), f.get("vcodec"), f.get("acodec")) for f in info["formats"]] == [
        (None, "none", None),
        (180, None, None),
        (360, None, None),
    ]


@pytest.mark.parametrize("kind", ["keys", "byterange-fmp4", "audio", "signed"])
def test_sampletube_refuses_playlists_and_keys_and_segments_to_clients_without_its_session(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path, kind: str
) -> None:
    got = downloaded(site, ytdlp, tmp_path, f"tube/watch/hls-{kind}", BEST["low"])
    assert got == bytes_of(site, "aes" if kind == "signed" else kind, "low")
    base = f"{site.http}/tube/media/hls/{kind}"
    assert {ask(f"{base}/{file}").status for file in ("low.m3u8", "a.key", "low-0.ts")} == {403}


def test_the_absolute_addresses_in_a_playlist_have_the_host_of_the_request(site: SampleSite) -> None:
    text = ask(f"{site.http}/hls/addresses/high.m3u8").body.decode()
    addresses = [line for line in text.splitlines() if not line.startswith("#")]
    host = site.http.removeprefix("http://")
    assert addresses == [
        "../ts/high-0.ts",
        f"{site.http}/hls/ts/high-1.ts",
        "/hls/ts/high-2.ts",
        f"//{host}/hls/ts/high-3.ts",
        f"../addresses/./../ts/high-4.ts?{QUERY}",
    ]


def test_the_addresses_in_a_playlist_served_by_https_are_https_urls() -> None:
    with SampleSite(https_port=0) as site:
        trust = ssl.create_default_context(cafile=site.ca_file)
        with urllib.request.urlopen(f"{site.https}/hls/addresses/high.m3u8", context=trust) as answer:
            assert f"\n{site.https}/hls/ts/high-1.ts\n" in answer.read().decode()


def test_a_segment_marked_as_a_gap_is_answered_with_404(site: SampleSite) -> None:
    assert ask(f"{site.http}/hls/gap/gone-2.ts").status == 404
    assert "#EXT-X-GAP\n#EXTINF:2.000000,\ngone-2.ts\n" in ask(f"{site.http}/hls/gap/high.m3u8").body.decode()


def test_faults_apply_to_the_segments_of_a_playlist(site: SampleSite, ytdlp: YtDlp, tmp_path: Path) -> None:
    page = "page/fault/cut=300000,times=1,id=shapes/hls/byterange/master.m3u8"
    assert downloaded(site, ytdlp, tmp_path, page, "b") == bytes_of(site, "byterange", "high")


def test_an_expiring_playlist_adds_its_token_to_the_segment_and_key_urls(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path
) -> None:
    page = "page/fault/expire=100000000/hls/keys/master.m3u8"
    assert downloaded(site, ytdlp, tmp_path, page, "b") == bytes_of(site, "keys", "high")
    assert ask(f"{site.http}/fault/expire=100000000/hls/keys/high-0.ts").status == 403
    assert with_token('#EXT-X-KEY:METHOD=AES-128,URI="a.key"\n\nb.ts?c=d', "t") == (
        '#EXT-X-KEY:METHOD=AES-128,URI="a.key?token=t"\n\nb.ts?c=d&token=t'
    )
