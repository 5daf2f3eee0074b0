"""Tests of the public Python API, with the examples in docs/python-api.md."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import serverpy
from serverpy import ByteRange, Engine, ServerPYError, Settings, StreamRequest
from serverpy.errors import ConfigurationError, InvalidParameter, MediaNotFound, UpstreamFailed
from serverpy.sample.site import SampleSite

PAGE = Path(__file__).parents[1] / "docs" / "python-api.md"
BOT, MOUNTED = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
FILM = "/page/prog"


@pytest.fixture
def settings(site: SampleSite, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings that allow connections to the sample site. Also sets the environment variables for these
    settings, because the examples read them."""
    network = site.http.removeprefix("http://")
    monkeypatch.setenv("SERVERPY_ALLOW_NETWORKS", network)
    return Settings(allow_networks=(network,))


def run_example(source: str) -> dict[str, Any]:
    """Run an example from docs/python-api.md. Returns its global variables."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, str(PAGE), "exec"), names)
    return names


@pytest.mark.usefixtures("settings")
async def test_the_bot_in_docs_python_api_md_saves_a_file(
    site: SampleSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bot = run_example(BOT)
    path = tmp_path / "film.mp4"
    await bot["main"](f"{site.http}{FILM}", str(path))
    assert path.read_bytes() == site.path("prog.mp4").read_bytes()
    await bot["main"](f"{site.http}/page/nothing", str(path))
    assert "media_not_found" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["relay", "embedded"])
async def test_the_bot_in_docs_python_api_md_stops_at_its_size_limit(
    site: SampleSite, settings: Settings, method: str
) -> None:
    """If the length of the media is known, the bot stops before it writes any bytes. Otherwise, the bot stops once it
    has received too many bytes."""
    bot, file = run_example(BOT), io.BytesIO()
    async with Engine(settings.model_copy(update={"method": method})) as engine:
        with pytest.raises(ValueError, match="larger than 100000 bytes"):
            await bot["save"](engine, f"{site.http}{FILM}", file, 100_000)
        assert engine.budget.used_bytes == 0
    assert len(file.getvalue()) <= 100_000


@pytest.mark.usefixtures("settings")
async def test_the_mounted_application_in_docs_python_api_md_streams(site: SampleSite) -> None:
    app = run_example(MOUNTED)["app"]
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client,
    ):
        answer = await client.get("/media/stream", params={"url": f"{site.http}{FILM}"})
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(site.path("prog.mp4").read_bytes()).digest()


async def test_an_engine_returns_info_and_opens_ranges_and_raises_errors(site: SampleSite, settings: Settings) -> None:
    whole = site.path("prog.mp4").read_bytes()
    url = f"{site.http}{FILM}"
    async with Engine(settings) as engine:
        assert [each.ext for each in (await engine.info(url)).formats] == ["mp4"]
        async with engine.open(StreamRequest(url=url, range=ByteRange(10, 19))) as stream:
            assert (stream.head.partial, stream.head.start, stream.head.length) == (True, 10, 10)
            assert b"".join([chunk async for chunk in stream]) == whole[10:20]
        with pytest.raises(MediaNotFound) as caught:
            await engine.info(f"{site.http}/page/nothing")
        assert isinstance(caught.value, ServerPYError)
        assert caught.value.code == "media_not_found"
        with pytest.raises(UpstreamFailed):
            await read_all(engine, f"{site.http}/page/fault/cut=700000,norange/prog.mp4")
        assert engine.budget.used_bytes == 0


async def read_all(engine: Engine, url: str) -> bytes:
    async with engine.open(StreamRequest(url=url)) as stream:
        return b"".join([chunk async for chunk in stream])


async def test_leaving_the_block_of_a_stream_gives_its_bytes_back_to_the_budget(
    site: SampleSite, settings: Settings
) -> None:
    async with Engine(settings) as engine:
        async with engine.open(StreamRequest(url=f"{site.http}{FILM}")) as stream:
            await stream.read()
            assert engine.budget.used_bytes > 0
        assert engine.budget.used_bytes == 0


@pytest.mark.parametrize("method", ["relay", "embedded"])
async def test_reading_a_closed_stream_raises_runtime_error(site: SampleSite, settings: Settings, method: str) -> None:
    async with Engine(settings) as engine:
        async with engine.open(StreamRequest(url=f"{site.http}{FILM}", method=method)) as stream:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await stream.read()


@pytest.mark.parametrize("asked", [ByteRange(-10, None), ByteRange(10, 5), ByteRange(None, -1), ByteRange(None, None)])
async def test_opening_an_invalid_range_raises_invalid_parameter(
    site: SampleSite, settings: Settings, asked: ByteRange
) -> None:
    async with Engine(settings) as engine:
        with pytest.raises(InvalidParameter):
            async with engine.open(StreamRequest(url=f"{site.http}{FILM}", range=asked)):
                pass


async def test_an_engine_refuses_calls_from_a_second_event_loop(site: SampleSite, settings: Settings) -> None:
    async with Engine(settings) as engine:

        def elsewhere() -> None:
            with asyncio.Runner() as runner:
                runner.run(engine.info(f"{site.http}{FILM}"))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere)


async def test_calling_an_engine_that_is_not_running_raises_an_error_with_the_reason(
    site: SampleSite, settings: Settings
) -> None:
    engine = Engine(settings)
    with pytest.raises(RuntimeError, match="async with Engine"):
        await engine.info(f"{site.http}{FILM}")
    async with engine:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        async with engine.open(StreamRequest(url=f"{site.http}{FILM}")):
            pass
    with pytest.raises(RuntimeError, match="closed"):
        await engine.start()


async def test_an_engine_with_an_invalid_setting_does_not_start(settings: Settings, tmp_path: Path) -> None:
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("not a cookie file\n")
    with pytest.raises(ConfigurationError, match="COOKIES_FILE"):
        async with Engine(settings.model_copy(update={"cookies_file": cookies})):
            pass


@pytest.mark.parametrize("statement", ["import serverpy", "from serverpy import Engine, Settings, StreamRequest"])
def test_importing_the_public_api_imports_neither_ytdlp_nor_pyav_nor_fastapi(statement: str) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "serverpy" in loaded
    assert not {"yt_dlp", "av", "fastapi"} & set(loaded)


def test_importing_serverpy_imports_none_of_its_modules() -> None:
    code = "import serverpy, sys; print([name for name in sys.modules if name.startswith('serverpy.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_name_in_the_public_api_exists() -> None:
    for name in serverpy.__all__:
        assert getattr(serverpy, name) is not None
    assert set(serverpy.__all__) <= set(dir(serverpy))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = serverpy.nothing
