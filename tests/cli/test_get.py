"""Tests of `serverpy get` as a process: lists of URLs, signals, child processes, and output to stdout. test_fetch.py
tests single files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import av
import psutil
import pytest
from click.testing import CliRunner

from serverpy.cli.main import cli
from serverpy.cli.options import ENGINE_SETTINGS
from serverpy.sample.content import large_sha256
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.cli.commands import lines, names, run, start
from tests.processes import gone

MIB = 1 << 20
OVERLAP_BYTES = 64 * 1024
"""Number of bytes at the end of a partial file that `get` requests again in order to compare them."""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ranges(site: SampleSite, path: str) -> list[tuple[int, str | None]]:
    """Return the position of the first byte and the If-Range header of each request for `path`, except requests for
    `bytes=0-511`."""
    asked = [request.headers for request in site.requests if request.path == path]
    asked = [each for each in asked if each["range"] != "bytes=0-511"]
    return [(int(each["range"].removeprefix("bytes=").rstrip("-")), each.get("if-range")) for each in asked]


@contextlib.contextmanager
def in_mid_download(site: SampleSite, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `serverpy get` with the output directory `folder`. Yields the process once it has written more than 1 MiB.
    The process is still running then."""
    with start(site, "get", "-o", str(folder), *arguments, cwd=folder.parent) as process:
        try:
            wait_for(lambda: any(_size(part) > MIB for part in folder.glob("*.part")))
            assert process.poll() is None
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _size(path: Path) -> int:
    """Return the size of a file in bytes, or 0 if the file has just been renamed."""
    return path.stat().st_size if path.exists() else 0


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def interrupted(site: SampleSite, folder: Path, *arguments: str) -> Path:
    """Interrupt `serverpy get` in the middle of a download, as Ctrl+C does. Returns the partial file that the command
    leaves."""
    with in_mid_download(site, folder, *arguments) as process:
        children = family(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert lines(process.stderr.read()) == [
            "serverpy: interrupted; run the same command again to resume the incomplete files"
        ]
        wait_for(lambda: all(map(gone, children)), lambda: f"still there: {children}")
    (part,) = folder.glob("*.part")
    assert names(folder) == [part.name, f"{part.name}.json"]
    return part


def kib(site: SampleSite, name: str) -> str:
    """Return the size of a sample file as `serverpy get` prints it. The size depends on the encoder that made the
    file."""
    return f"{site.path(name).stat().st_size / 1024:.1f} KiB"


def test_get_writes_the_media_of_each_page_to_a_separate_file(site: SampleSite, tmp_path: Path) -> None:
    """`get` creates the directory of the option `-o`, and continues after a page that fails."""
    pages = [f"{site.http}/page/{name}" for name in ("prog", "none", "webm", "mp3")]
    done = run(site, "get", "--jobs", "3", "-o", "new/folder", *pages, cwd=tmp_path)
    folder = tmp_path / "new" / "folder"
    assert done.returncode == 1
    assert done.stdout == b""
    assert sorted(lines(done.stderr)) == [
        "A progressive film.mp4: done, 5.0 MiB",
        "A tone (MP3).mp3: done, 157.2 KiB",
        f"VP9 and Opus.webm: done, {kib(site, 'vp9.webm')}",
        f"serverpy: {pages[1]}: No media was found on this page. [media_not_found]",
    ]
    assert names(folder) == ["A progressive film.mp4", "A tone (MP3).mp3", "VP9 and Opus.webm"]
    assert (folder / "A progressive film.mp4").read_bytes() == site.path("prog.mp4").read_bytes()
    assert (folder / "VP9 and Opus.webm").read_bytes() == site.path("vp9.webm").read_bytes()


def test_get_reads_urls_from_a_file_and_from_stdin_and_does_not_fetch_existing_files_again(
    site: SampleSite, tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"# my films\n\n  {site.http}/media/vp9.webm\n{site.http}/media/audio.mp3\n", encoding="utf-8")
    there = Path(shutil.copy(site.path("audio.mp3"), tmp_path))
    inode = there.stat().st_ino
    done = run(site, "get", "@list.txt", "-", cwd=tmp_path, stdin=f"{site.http}/media/audio.m4a\n")
    assert done.returncode == 0
    assert lines(done.stderr) == [
        f"vp9.webm: done, {kib(site, 'vp9.webm')}",
        "audio.mp3: already downloaded",
        f"audio.m4a: done, {kib(site, 'audio.m4a')}",
    ]
    assert there.stat().st_ino == inode


def test_get_resumes_a_partial_file_if_the_same_command_runs_again_after_ctrl_c(
    site: SampleSite, tmp_path: Path
) -> None:
    """If the source is unchanged, `get` resumes the partial file with a request for a range that begins a little before
    the end of the file."""
    media = "/fault/throttle=4000000,times=1,id=resume/media/large-32.mp4"
    page = f"{site.http}/page/fault/throttle=4000000,times=1,id=resume/large-32.mp4"
    folder = tmp_path / "folder"
    part = interrupted(site, folder, page)
    kept = part.stat().st_size
    assert MIB < kept < 32 * MIB
    state = json.loads(part.with_name(f"{part.name}.json").read_bytes())
    assert state["asked"] == {"url": page, "format": None, "to": "source", "item": None}
    assert state["version"]["total"] == 32 * MIB
    done = run(site, "get", "-o", str(folder), page, cwd=tmp_path)
    assert done.returncode == 0
    assert lines(done.stderr)[0].startswith(f"{part.stem}: done, 32.0 MiB (resumed after ")
    assert names(folder) == [part.stem]
    assert sha256(folder / part.stem) == large_sha256(32)
    assert ranges(site, media) == [(0, None), (kept - OVERLAP_BYTES, state["version"]["etag"])]


@pytest.mark.parametrize("isolate", [(), ("--isolate",)], ids=["here", "isolated"])
def test_get_with_the_output_dash_writes_the_media_of_all_pages_to_stdout_in_order(
    site: SampleSite, tmp_path: Path, isolate: tuple[str, ...]
) -> None:
    urls = [f"{site.http}/media/audio.mp3", f"{site.http}/page/none", f"{site.http}/media/vp9.webm"]
    done = run(site, "get", "-o", "-", "-j", "2", *isolate, *urls, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == site.path("audio.mp3").read_bytes() + site.path("vp9.webm").read_bytes()
    assert [line.rpartition(": ")[2] for line in lines(done.stderr)] == [
        "done, 157.2 KiB",
        "No media was found on this page. [media_not_found]",
        f"done, {kib(site, 'vp9.webm')}",
    ]
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, None])
def test_get_can_be_stopped_while_the_process_that_reads_its_stdout_stalls(
    site: SampleSite, tmp_path: Path, number: signal.Signals | None
) -> None:
    """Ctrl+C stops the command, and so does closing the reading end of its stdout. If its stdout is closed, the command
    prints no message, and exits with the same status as `cat`."""
    url = f"{site.http}/media/large-32.mp4"
    with start(site, "get", "-o", "-", url, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        if number is None:
            process.stdout.close()
        else:
            process.send_signal(number)
        code = process.wait(60)
        said = lines(process.stderr.read())
    assert (code, len(said)) == ((141, 0) if number is None else (130, 1))


@pytest.mark.parametrize("isolate", [(), ("--isolate",)], ids=["here", "isolated"])
def test_get_reports_that_an_earlier_page_failed_even_if_stdout_is_closed(
    site: SampleSite, tmp_path: Path, isolate: tuple[str, ...]
) -> None:
    urls = [f"{site.http}/page/none", f"{site.http}/media/large-32.mp4", f"{site.http}/media/audio.mp3"]
    with start(site, "get", "-o", "-", *isolate, *urls, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(60) == 1
        assert lines(process.stderr.read()) == [
            f"serverpy: {urls[0]}: No media was found on this page. [media_not_found]"
        ]


def test_get_with_the_option_isolate_fetches_each_page_in_a_child_process(site: SampleSite, tmp_path: Path) -> None:
    """`get --isolate` reports the files, failures and playlist items of its child processes. No item is fetched
    twice."""
    urls = [f"{site.http}/tube/playlist/list-2", f"{site.http}/page/none"]
    done = run(site, "get", "--isolate", "-j", "2", *urls, cwd=tmp_path)
    assert done.returncode == 1
    assert sorted(lines(done.stderr)) == [
        "SampleTube film_ item-1.mp4: done, 5.0 MiB",
        "SampleTube film_ item-2.mp4: done, 5.0 MiB",
        f"serverpy: {urls[1]}: No media was found on this page. [media_not_found]",
    ]
    assert (tmp_path / "SampleTube film_ item-2.mp4").read_bytes() == site.path("prog.mp4").read_bytes()


@pytest.mark.parametrize("how", [(), ("--isolate",)], ids=["here", "isolated"])
def test_the_options_of_get_limit_the_height_and_the_size(
    site: SampleSite, tmp_path: Path, how: tuple[str, ...]
) -> None:
    limits = ("--height", "180", "--codec", "h264", "--lang", "en", "--max-size", "50MB")
    done = run(site, "get", *how, *limits, f"{site.http}/tube/watch/full", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (name,) = names(tmp_path)
    with av.open(tmp_path / name) as film:
        assert film.streams.video[0].height == 180


def test_get_names_a_playlist_item_by_the_title_in_the_playlist_if_that_replaces_the_title_of_its_page(
    site: SampleSite, tmp_path: Path
) -> None:
    assert run(site, "get", f"{site.http}/tube/playlist/transparent", cwd=tmp_path).returncode == 0
    assert names(tmp_path) == ["Its title in the list.mp4", "SampleTube film_ item-2.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_isolated_download_ends_with_its_parent_process_and_can_be_resumed(
    site: SampleSite, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "folder"
    page = f"{site.http}/page/fault/throttle=4000000/large-32.mp4"
    with in_mid_download(site, folder, "--isolate", page) as process:
        children = family(process)
        assert len(children) == 2, "the child and its worker"
        process.send_signal(number)
        assert process.wait(60) == (130 if number == signal.SIGINT else -number)
        wait_for(lambda: all(map(gone, children)), lambda: f"still there: {children}")
    (part,) = folder.glob("*.part")
    assert names(folder) == [part.name, f"{part.name}.json"]


def test_a_child_process_that_dies_makes_only_its_own_page_fail(site: SampleSite, tmp_path: Path) -> None:
    urls = [f"{site.http}/page/fault/throttle=4000000/large-32.mp4", f"{site.http}/media/audio.mp3"]
    with in_mid_download(site, tmp_path / "folder", "--isolate", *urls) as process:
        (child,) = psutil.Process(process.pid).children()
        # other users of the machine can read the arguments of a process, and a URL from a file or stdin may be secret
        assert not any("/page/fault/" in argument for argument in child.cmdline())
        child.kill()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert lines(process.stderr.read()) == [
            f"serverpy: {urls[0]}: The child process was killed by signal 9. [child_failed]",
            "audio.mp3: done, 157.2 KiB",
        ]


def test_the_item_option_selects_an_image_of_a_post(site: SampleSite, tmp_path: Path) -> None:
    done = run(site, "get", "--item", "2", f"{site.http}/tube/post/1", cwd=tmp_path)
    assert (done.returncode, names(tmp_path)) == (0, ["Photos_ 1 #2.jpg"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense", "http://127.0.0.1/"],
        ["--to", "nonsense", "http://127.0.0.1/"],
        ["--height", "tall", "http://127.0.0.1/"],
        ["--height", "0", "http://127.0.0.1/"],
        ["--codec", "divx", "http://127.0.0.1/"],
        ["--lang", "e n", "http://127.0.0.1/"],
        ["--max-size", "-1", "http://127.0.0.1/"],
        ["--jobs", "0", "http://127.0.0.1/"],
        ["-o", __file__, "http://127.0.0.1/"],
        ["@nowhere.txt"],
        [],
        ["ftp://example.org/film.mp4"],
        ["example.org/film.mp4"],
        ["http://"],
        ["http://127.0.0.1/", "file:///etc/passwd"],
    ],
)
def test_invalid_arguments_of_get_exit_with_status_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, ["get", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage:" in done.stderr


def test_get_fails_for_an_invalid_url_in_a_list_but_fetches_the_other_urls(site: SampleSite, tmp_path: Path) -> None:
    done = run(site, "get", "-", cwd=tmp_path, stdin=f"ftp://example.org/film.mp4\n{site.http}/media/audio.mp3\n")
    assert done.returncode == 1
    assert lines(done.stderr) == [
        "serverpy: ftp://example.org/film.mp4: The URL must begin with http:// or https://. [invalid_url]",
        "audio.mp3: done, 157.2 KiB",
    ]


@pytest.mark.parametrize("name", ["get", "info"])
def test_the_help_of_get_lists_the_settings_by_section(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"]).stdout
    own, *sections = (shown.index(f"\n{title}:\n") for title in ("Options", *ENGINE_SETTINGS))
    assert own < shown.index("--help") < sections[0]
    assert sections == sorted(sections)
    flags = [shown.index(f"--{option.replace('_', '-')}") for names in ENGINE_SETTINGS.values() for option in names]
    assert min(flags) > sections[0]
