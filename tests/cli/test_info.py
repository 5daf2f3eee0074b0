"""Tests that `serverpy info` prints the content of `/info`, either as a table or as the same JSON."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from serverpy.cli.info import LISTED, clock, codecs, heading, resolution, show
from serverpy.cli.main import cli
from serverpy.info import EntryInfo, FormatInfo, Info
from serverpy.sample.site import SampleSite
from tests.cli.commands import lines, run
from tests.server import Server

FORMAT = FormatInfo(
    id="22",
    ext="mp4",
    protocol="https",
    vcodec="avc1",
    acodec="mp4a",
    width=1280,
    height=720,
    fps=None,
    bitrate=1500.4,
    size=3 << 20,
    size_exact=False,
    language="en",
    note="best",
    methods=["relay", "embedded"],
    to=["source"],
)
INFO = Info(
    id="1",
    title="A film",
    uploader="Somebody",
    duration=61,
    kind="video",
    thumbnail=None,
    webpage_url="http://example.org/1",
    extractor="Example",
    formats=[FORMAT],
    default=None,
    subtitles=[],
    images=[],
    entries=[],
)


def shown(info: Info, width: int = 200) -> list[str]:
    screen = io.StringIO()
    show(info, Console(file=screen, width=width))
    return [line.strip() for line in screen.getvalue().splitlines() if line.strip(" ─\n")]


@pytest.mark.parametrize("page", ["/page/prog", "/tube/watch/full", "/tube/post/1", "/tube/playlist/list-2"])
def test_the_command_info_json_prints_the_same_json_as_the_server_sends(
    server: Server, tmp_path: Path, page: str
) -> None:
    answer = server.get(page, path="/info")
    done = run(server.site, "info", "--json", f"{server.site.http}{page}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == answer.body + b"\n"


def test_info_lists_the_formats_of_a_page_and_the_best_format_comes_last(site: SampleSite, tmp_path: Path) -> None:
    done = run(site, "info", f"{site.http}/tube/watch/full", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    printed = [line.strip() for line in lines(done.stdout) if line.strip()]
    assert printed[:3] == [
        "SampleTube film: full",
        "video, 0:10, by The Sample Channel (SampleTube)",
        f"{site.http}/tube/watch/full",
    ]
    ids = [line.split()[0] for line in printed[5:-1]]
    assert {"180", "360", "webm", "audio"} < set(ids)
    assert ids.index("audio") < ids.index("180") < ids.index("360")
    assert printed[-1] == "subtitles: en (vtt), de (vtt), en (vtt, automatic)"


def test_info_reports_a_page_without_media_on_one_line(site: SampleSite, tmp_path: Path) -> None:
    done = run(site, "info", f"{site.http}/page/none", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert lines(done.stderr) == ["serverpy: No media was found on this page."]


@pytest.mark.parametrize(
    "arguments", [[], ["--nonsense", "http://127.0.0.1/"], ["http://127.0.0.1/", "another"], ["ftp://a/"]]
)
def test_invalid_arguments_of_info_exit_with_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, ["info", *arguments]).exit_code == 2


def test_the_row_of_a_format_shows_all_of_its_fields() -> None:
    row = shown(INFO)[-1].split("  ")
    assert [cell.strip() for cell in row if cell.strip()] == [
        "22", "mp4", "1280x720", "avc1 + mp4a", "1500k", "~3.0 MiB", "https", "relay, embedded", "en, best",
    ]  # fmt: skip


def test_info_shows_no_placeholder_for_unknown_values() -> None:
    bare = INFO.model_copy(update={"uploader": None, "duration": None, "formats": []})
    assert list(heading(bare)) == ["A film", "video (Example)", "http://example.org/1"]
    audio = FORMAT.model_copy(update={"vcodec": None, "width": None, "height": None})
    assert (resolution(audio), codecs(audio)) == ("audio", "mp4a")
    assert resolution(FORMAT.model_copy(update={"width": None, "fps": 29.97})) == "?x720 29.97fps"


def test_info_lists_only_the_first_entries_of_a_playlist_and_how_many_more_there_are() -> None:
    entries = [EntryInfo(item=number, title=f"Item {number}", url=None, duration=5) for number in range(1, 31)]
    listed = shown(INFO.model_copy(update={"kind": "playlist", "formats": [], "entries": entries}))[3:]
    assert listed[0] == "1  Item 1  0:05"
    assert listed[LISTED:] == [f"and {30 - LISTED} more"]


def test_a_title_cannot_send_control_codes_to_the_terminal() -> None:
    evil = INFO.model_copy(
        update={"title": "[bold]a\x1b[2J\nb", "formats": [FORMAT.model_copy(update={"note": "\x1b"})]}
    )
    assert shown(evil)[0] == "[bold]a [2J b"
    assert not any("\x1b" in line for line in shown(evil))


def test_durations_are_shown_in_hours_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (0.4, 59.6, 3600, 3723)] == ["0:00", "1:00", "1:00:00", "1:02:03"]


@pytest.mark.parametrize(
    ("methods", "cell"),
    [
        (["relay", "embedded", "subprocess"], "all"),
        (["subprocess", "relay", "embedded"], "all"),
        (["relay"], "relay"),
        (["embedded", "subprocess"], "embedded, subprocess"),
        ([], "none"),
    ],
)
def test_a_format_that_all_methods_support_is_shown_with_the_word_all(methods: list[str], cell: str) -> None:
    row = shown(INFO.model_copy(update={"formats": [FORMAT.model_copy(update={"methods": methods})]}))[-1]
    assert [word.strip() for word in row.split("  ") if word.strip()][7] == cell
