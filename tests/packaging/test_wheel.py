"""Tests of the wheel installed without extras: the wheel is small and complete, and its errors name the missing
extra."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import serverpy
from serverpy.extras import BENCH, DISTRIBUTION, EXTRAS, IMPERSONATE, SAMPLE, Extra
from serverpy.sample.site import SampleSite
from tests.extraction.workers import PROBES
from tests.packaging.installed import MB, Installation, build, install, largest
from tests.server import Server, serving
from tests.test_lock import NAME, PROJECT, ROOT

LARGEST_MB = 100
LARGEST_WITHOUT_BYTECODE_MB = 70
NO_BROWSER = "Impersonating a browser needs curl-cffi: install serverpy-stream[impersonate]."


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(distributions[1], tmp_path_factory.mktemp("installed") / "environment")


@pytest.fixture(scope="module")
def bare(installed: Installation, site: SampleSite) -> Iterator[Server]:
    """Run a server from the installed wheel, which may connect to the sample site of the tests."""
    with serving(site, python=installed.python, python_path=PROBES) as running:
        yield running


def test_the_wheel_contains_only_the_files_of_the_package(distributions: tuple[Path, Path]) -> None:
    sdist, wheel = distributions
    names = {path for path in zipfile.ZipFile(wheel).namelist() if not re.match(r"[\w.-]+\.dist-info/", path)}
    files = (path for path in (ROOT / "serverpy").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert names == {str(path.relative_to(ROOT)) for path in files}
    assert {"serverpy/py.typed", "serverpy/bench/report/limits.toml"} < names
    assert any(name.startswith("serverpy/sample/plugins/yt_dlp_plugins/") for name in names)
    assert wheel.name == f"serverpy_stream-{serverpy.__version__}-py3-none-any.whl"
    with tarfile.open(sdist) as archive:
        assert f"serverpy_stream-{serverpy.__version__}/tests/conftest.py" in archive.getnames()


def test_the_extras_in_pyproject_toml_are_those_that_the_code_knows() -> None:
    declared = PROJECT["project"]["optional-dependencies"]
    assert NAME == DISTRIBUTION
    assert {*declared} == {*(each.name for each in EXTRAS), "all"}
    assert declared["all"] == [f"{NAME}[{','.join(name for name in declared if name != 'all')}]"]
    for each in EXTRAS:
        assert not each.missing


def test_the_wheel_installed_without_extras_stays_below_its_size_limits(installed: Installation) -> None:
    sizes = f"{installed.bytes / MB:.1f} MB, {installed.bytes_without_bytecode / MB:.1f} MB without bytecode"
    print(sizes)
    assert installed.bytes <= LARGEST_MB * MB, f"{sizes}: {largest(installed.folder)}"
    assert installed.bytes_without_bytecode <= LARGEST_WITHOUT_BYTECODE_MB * MB, f"{sizes}: {largest(installed.folder)}"


def test_the_installed_wheel_relays_a_media_file(bare: Server, media: Path) -> None:
    answer = bare.get("/page/prog", method="relay")
    assert answer.headers["x-serverpy-method"] == "relay"
    assert answer.body == (media / "prog.mp4").read_bytes()


@pytest.mark.parametrize("page", ["/page/hls-aes", "/page/dash"])
@pytest.mark.parametrize("method", ["relay", "embedded"])
def test_the_installed_wheel_streams_hls_and_dash(bare: Server, server: Server, page: str, method: str) -> None:
    """The bytes of a server without extras must equal those of a server with all extras."""
    track = "bv" if page.endswith("dash") else "b"
    answer = bare.get(page, method=method, format=track)
    assert answer.status == 200
    assert answer.body == server.get(page, method=method, format=track).body


def test_the_installed_wheel_streams_by_subprocess(bare: Server, media: Path) -> None:
    assert bare.get("/page/prog", method="subprocess").body == (media / "prog.mp4").read_bytes()


def test_the_installed_wheel_weaves_separate_video_and_audio_into_one_file(bare: Server, server: Server) -> None:
    answer = bare.get("/tube/watch/pair")
    assert answer.status == 200
    assert answer.body == server.get("/tube/watch/pair").body


@pytest.mark.parametrize("method", ["relay", "embedded", "subprocess"])
def test_the_error_for_a_page_that_requires_impersonation_of_a_browser_names_the_missing_extra(
    bare: Server, site: SampleSite, method: str
) -> None:
    page = f"/probe/browser?to={quote(f'{site.http}/page/prog')}"
    answer = bare.get(page, method=method)
    problem = answer.json()
    assert (answer.status, problem["code"], problem["detail"]) == (501, "not_installed", NO_BROWSER)


def test_the_error_for_a_page_that_sends_media_only_to_browsers_names_the_missing_extra(
    bare: Server, site: SampleSite
) -> None:
    refused = bare.get(f"/probe/like_browser?to={quote(f'{site.http}/fault/status=403/media/prog.mp4')}", path="/info")
    assert (refused.status, refused.json()["detail"]) == (501, NO_BROWSER)
    allowed = bare.get(f"/probe/like_browser?to={quote(f'{site.http}/page/prog')}", path="/info")
    assert allowed.status == 200


def test_doctor_lists_each_missing_extra_and_how_to_install_it(installed: Installation) -> None:
    done = installed.run("doctor", COLUMNS="200", PATH="")
    assert (done.returncode, done.stderr) == (0, "")
    for each in EXTRAS:
        assert f"extra {each.name} " in done.stdout
        assert f"pip install 'serverpy-stream[{each.name}]'" in done.stdout.splitlines()[-1 - EXTRAS[::-1].index(each)]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["sample", "--port", "0"], SAMPLE),
        (["serve", "--demo", "--port", "0"], SAMPLE),
        (["bench", "--list"], BENCH),
        (["serve", "--impersonate", "chrome", "--port", "0"], IMPERSONATE),
    ],
)
def test_a_command_whose_extra_is_not_installed_names_the_extra_and_exits_with_1(
    installed: Installation, arguments: list[str], extra: Extra
) -> None:
    done = installed.run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("serverpy: ")
    assert done.stderr.splitlines()[-1].endswith(f": install serverpy-stream[{extra.name}].")
    assert "Traceback" not in done.stderr
