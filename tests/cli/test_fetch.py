"""Tests of `serverpy get` with the engine in the test process: a page becomes a complete file, or a partial file that
can be resumed."""

from __future__ import annotations

import fcntl
import itertools
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serverpy.cli.fetch import OVERLAP_BYTES, Fetcher, Wish
from serverpy.cli.jobs import Began, Done, Event, Failed, Job, Moved, Present, run_all
from serverpy.cli.partial import Asked, Folder, Partial, Version
from serverpy.engine import Engine
from serverpy.sample.content import large_content
from serverpy.sample.site import SampleSite
from serverpy.settings import load_settings
from tests.cli.commands import names

MIB = 1 << 20
_ids = itertools.count()


@dataclass
class Recorder:
    """Watcher that records how jobs end. `moved` contains the numbers of bytes that the jobs report while they run."""

    ends: list[Event] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)

    def see(self, job: Job, event: Event) -> None:
        if isinstance(event, Moved):
            self.moved.append(event.done)
        elif not isinstance(event, Began):
            self.ends.append(event)

    def say(self, line: str) -> None:
        self.said.append(line)


async def fetch(
    site: SampleSite, path: Path, *urls: str, force: bool = False, jobs: int = 1, wish: Wish | None = None
) -> Sequence[Event]:
    """Fetch each of `urls` into the folder `path`. Returns the events that ended the jobs."""
    recorder = Recorder()
    engine = Engine(load_settings(allow_networks=site.http.removeprefix("http://")))
    try:
        await engine.start()
        folder = Folder(path, force=force, since=time.time())
        fetcher = Fetcher(engine.delivery, wish or Wish(), folder, recorder)
        await run_all([Job((place,), url) for place, url in enumerate(urls)], fetcher, jobs, recorder)
    finally:
        await engine.aclose()
    return recorder.ends


@dataclass(frozen=True)
class Faulty:
    """A page of the sample site. Its media file of 6 MiB is served with the faults in `spec`."""

    site: SampleSite
    spec: str

    @property
    def page(self) -> str:
        return f"{self.site.http}/page/fault/{self.spec}/large-6.mp4"

    @property
    def path(self) -> str:
        return f"/fault/{self.spec}/media/large-6.mp4"

    @property
    def firsts(self) -> list[int]:
        """The position of the first byte of each range of the media file that the client has requested, except for
        `bytes=0-511`."""
        asked = [each for each in self.site.requests if each.path == self.path and each.method == "GET"]
        ranges = [each.headers["range"].removeprefix("bytes=") for each in asked]
        return [int(each.rstrip("-")) for each in ranges if each != "0-511"]

    def version(self) -> Version:
        """Send a HEAD request for the media file, and return the version that its headers state."""
        with urllib.request.urlopen(urllib.request.Request(self.site.http + self.path, method="HEAD")) as answer:
            headers = answer.headers
        return Version(headers["etag"], headers["last-modified"], 6 * MIB)


@pytest.fixture
def faulty(site: SampleSite, request: pytest.FixtureRequest) -> Faulty:
    """Return a sample file with the faults in the parameter of the test, at a URL that no other test uses."""
    spec = getattr(request, "param", "")
    return Faulty(site, f"{spec}{',' if spec else ''}id=fetch-{next(_ids)}")


@pytest.fixture(scope="module")
def film(site: SampleSite) -> bytes:
    content = large_content(6, site.path("prog.mp4"))
    assert content is not None
    return b"".join(content.pieces(0, 6 * MIB))


def leave_partial(path: Path, url: str, version: Version, data: bytes) -> None:
    """Write the partial file that an interrupted `get` would leave."""
    partial = Folder(path, force=False, since=0).claim("film.mp4", Asked(url), version, data[:1])
    assert isinstance(partial, Partial)
    partial.append(data)
    partial.close()


async def test_the_limits_of_get_apply_to_the_default_choice(site: SampleSite, tmp_path: Path) -> None:
    page = f"{site.http}/page/dash"
    ends = [await fetch(site, tmp_path, page, wish=wish) for wish in (Wish(height="max"), Wish(height=180))]
    (best,), (lowest,) = ends
    assert isinstance(best, Done)
    assert isinstance(lowest, Done)
    assert lowest.size < best.size
    assert lowest.name != best.name


@pytest.mark.parametrize("kept", [OVERLAP_BYTES + 1, 3 * MIB, 6 * MIB])
async def test_get_resumes_a_partial_file_from_a_little_before_its_end(
    faulty: Faulty, film: bytes, tmp_path: Path, kept: int
) -> None:
    """Even a partial file that already has all bytes is resumed from a little before its end."""
    leave_partial(tmp_path, faulty.page, faulty.version(), film[:kept])
    assert await fetch(faulty.site, tmp_path, faulty.page) == [Done("film.mp4", 6 * MIB, kept)]
    assert names(tmp_path) == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_bytes() == film
    assert faulty.firsts == [kept - OVERLAP_BYTES]


@pytest.mark.parametrize("faulty", ["", "norange", "norange206", "etag=flip"], indirect=True)
@pytest.mark.parametrize("kept", [100, 3 * MIB, 7 * MIB])
async def test_get_fetches_the_whole_file_if_a_partial_file_cannot_be_resumed(
    faulty: Faulty, film: bytes, tmp_path: Path, kept: int
) -> None:
    """The partial file cannot be resumed because the site supports no ranges, or because the bytes of the file differ
    from those of the site."""
    leave_partial(tmp_path, faulty.page, faulty.version(), bytes(kept))
    (end,) = await fetch(faulty.site, tmp_path, faulty.page)
    assert isinstance(end, Done)
    assert (end.size, end.resumed) == (6 * MIB, 0)
    assert names(tmp_path) == [end.name]
    assert (tmp_path / end.name).read_bytes() == film
    assert faulty.firsts[-1] == 0


@pytest.mark.parametrize("faulty", ["changes=told", "changes=silent"], indirect=True)
async def test_get_fetches_the_whole_file_again_if_its_source_has_changed(
    faulty: Faulty, film: bytes, tmp_path: Path
) -> None:
    """In one case, the validators of the source change. In the other case, only its bytes change."""
    leave_partial(tmp_path, faulty.page, faulty.version(), film[: 3 * MIB])
    (end,) = await fetch(faulty.site, tmp_path, faulty.page)
    assert isinstance(end, Done)
    assert end.resumed == 0
    data = (tmp_path / end.name).read_bytes()
    assert len(data) == 6 * MIB
    with urllib.request.urlopen(faulty.site.http + faulty.path) as now:
        assert data == now.read() != film


@pytest.mark.parametrize("faulty", ["norange,cut=300000"], indirect=True)
async def test_get_leaves_only_a_partial_file_if_the_media_server_aborts_the_connection(
    faulty: Faulty, film: bytes, tmp_path: Path
) -> None:
    (end,) = await fetch(faulty.site, tmp_path, faulty.page)
    assert isinstance(end, Failed)
    assert end.code == "upstream_failed"
    part, state = names(tmp_path)
    assert (part.endswith(".mp4.part"), state) == (True, f"{part}.json")
    assert (tmp_path / part).read_bytes() == film[:300000]


@pytest.mark.parametrize("faulty", ["status=404"], indirect=True)
async def test_get_leaves_the_partial_file_unchanged_if_the_source_no_longer_exists(
    faulty: Faulty, film: bytes, tmp_path: Path
) -> None:
    leave_partial(tmp_path, faulty.page, Version(total=6 * MIB), film[:MIB])
    (end,) = await fetch(faulty.site, tmp_path, faulty.page)
    assert isinstance(end, Failed)
    assert (tmp_path / "film.mp4.part").read_bytes() == film[:MIB]


async def test_get_refuses_a_file_that_another_process_is_fetching_with_the_error_in_use(
    faulty: Faulty, film: bytes, tmp_path: Path
) -> None:
    leave_partial(tmp_path, faulty.page, faulty.version(), film[:MIB])
    with (tmp_path / "film.mp4.part").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert await fetch(faulty.site, tmp_path, faulty.page) == [
            Failed("in_use", "Another download of the same media is in progress.")
        ]


@pytest.mark.parametrize(
    "wish", [Wish(format="b"), Wish(height=360), Wish(height="max"), Wish(codec="av1"), Wish(lang="de")]
)
async def test_get_leaves_a_partial_file_of_another_format_unchanged(
    faulty: Faulty, film: bytes, tmp_path: Path, wish: Wish
) -> None:
    leave_partial(tmp_path, faulty.page, faulty.version(), film[:MIB])
    (end,) = await fetch(faulty.site, tmp_path, faulty.page, wish=wish)
    assert isinstance(end, Done)
    assert (tmp_path / "film.mp4.part").read_bytes() == film[:MIB]
    assert (tmp_path / end.name).read_bytes() == film


async def test_a_second_file_of_the_same_name_gets_a_number_in_this_run_and_in_later_runs(
    site: SampleSite, tmp_path: Path
) -> None:
    """The command fetches two media with the same name at the same time. When the command runs again, it finds both
    files."""
    name = f"id=fetch-{next(_ids)}"
    pages = [f"{site.http}/page/fault/{name}/{file}" for file in ("prog.mp4", "prog-180.mp4")]
    ends = await fetch(site, tmp_path, *pages, jobs=2)
    assert all(isinstance(end, Done) for end in ends)
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == sorted(
        site.path(file).stat().st_size for file in ("prog.mp4", "prog-180.mp4")
    )
    stem = f"A film with faults_ {name}"
    assert names(tmp_path) == [f"{stem} (2).mp4", f"{stem}.mp4"]
    assert sorted(await fetch(site, tmp_path, *pages), key=str) == [Present(f"{stem} (2).mp4"), Present(f"{stem}.mp4")]


async def test_the_option_force_overwrites_files_of_earlier_runs_but_not_those_of_the_same_run(
    site: SampleSite, tmp_path: Path
) -> None:
    name = f"id=fetch-{next(_ids)}"
    pages = [f"{site.http}/page/fault/{name}/{file}" for file in ("prog.mp4", "prog-180.mp4")]
    stem = f"A film with faults_ {name}"
    (tmp_path / f"{stem}.mp4").write_bytes(b"damaged")
    assert await fetch(site, tmp_path, *pages, force=True) == [
        Done(f"{stem}.mp4", site.path("prog.mp4").stat().st_size),
        Done(f"{stem} (2).mp4", site.path("prog-180.mp4").stat().st_size),
    ]
    assert (tmp_path / f"{stem}.mp4").read_bytes() == site.path("prog.mp4").read_bytes()


async def test_get_saves_media_of_unknown_length_as_complete_files(site: SampleSite, tmp_path: Path) -> None:
    """The media are an HLS stream, and a file without Content-Length. When the command runs again, it recognises the
    existing files by their first bytes."""
    urls = [f"{site.http}/page/hls-ts", f"{site.http}/page/fault/nolength,norange,id=fetch/prog.mp4"]
    hls, chunked = await fetch(site, tmp_path, *urls)
    assert isinstance(hls, Done)
    assert isinstance(chunked, Done)
    assert (tmp_path / chunked.name).read_bytes() == site.path("prog.mp4").read_bytes()
    assert hls.size == (tmp_path / hls.name).stat().st_size > 0
    assert await fetch(site, tmp_path, *urls) == [Present(hls.name), Present(chunked.name)]


async def test_get_fetches_all_media_of_a_page(site: SampleSite, tmp_path: Path) -> None:
    ends = await fetch(site, tmp_path, f"{site.http}/page/two")
    assert [end.name for end in ends if isinstance(end, Done)] == names(tmp_path)
    assert names(tmp_path) == ["Two films on one page (1).mp4", "Two films on one page (2).webm"]
