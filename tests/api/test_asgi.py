"""Tests of `create_app` without the command `serverpy serve`: under other ASGI servers, mounted in another application,
and in a test client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import FastAPI

from serverpy import Settings, create_app
from serverpy.api.responses import StreamCut
from serverpy.app import Application
from serverpy.sample.site import SampleSite
from serverpy.tasks import spawn
from tests.aio import eventually, wait_for
from tests.processes import gone
from tests.server import START_SECONDS, STOP_SECONDS, Server, environment

FILM = "/page/prog"
CUT = "/page/fault/cut=700000,norange/prog.mp4"
CUT_OF_UNKNOWN_LENGTH = "/page/fault/cut=700000,norange,nolength/prog.mp4"
COMMANDS = {
    "uvicorn": ("-m", "uvicorn", "--host", "127.0.0.1", "--port"),
    "hypercorn": ("-m", "hypercorn", "--bind"),
    "granian": ("-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port"),
}


# Other ASGI servers, each in a child process


@dataclass(frozen=True)
class Foreign:
    """A running ASGI server other than `serverpy serve`, with the ServerPY application mounted at `path`."""

    server: Server
    path: str

    @property
    def stream(self) -> str:
        return f"{self.path}/stream"


@contextlib.contextmanager
def foreign(site: SampleSite, directory: Path, name: str, app: str) -> Iterator[Foreign]:
    port = free_port()
    address = f"127.0.0.1:{port}" if name == "hypercorn" else str(port)
    log_file = directory / "log"
    root = str(Path(__file__).parents[2])
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *COMMANDS[name], address, f"tests.api.asgi_apps:{app}"],
            env=environment(site, {"stall_timeout": 3}, Path(root)),
            cwd=directory,
            stdout=log,
            stderr=log,
            text=True,
        )
    with process:
        try:
            running = Foreign(Server(process, port, site, log_file), "/media" if app == "parent" else "")
            wait_for(lambda: answers(running), lambda: running.server.log, seconds=START_SECONDS)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            finally:
                process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def answers(running: Foreign) -> bool:
    try:
        return running.server.ask(f"{running.path}/ready").status == 200
    except OSError:
        return False


def streams(running: Foreign) -> int:
    count: int = running.server.ask(f"{running.path}/health").json()["streams"]
    return count


@pytest.fixture(
    scope="module",
    params=list(itertools.product(COMMANDS, ("alone", "parent"))),
    ids=lambda pair: "-".join(pair),
)
def other(
    request: pytest.FixtureRequest, site: SampleSite, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Foreign]:
    name, app = request.param
    with foreign(site, tmp_path_factory.mktemp(name), name, app) as running:
        yield running


def test_a_third_party_asgi_server_sends_the_bytes_of_the_media(other: Foreign, site: SampleSite) -> None:
    whole = site.path("prog.mp4").read_bytes()
    answer = other.server.get(FILM, path=other.stream)
    assert (answer.status, answer.complete) == (200, True)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(whole).digest()
    part = other.server.get(FILM, path=other.stream, headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, whole[1000:2000])


def test_a_third_party_asgi_server_sends_problem_documents(other: Foreign) -> None:
    assert other.server.get("/page/nothing", path=other.stream).code == "media_not_found"
    assert other.server.get("ftp://x/", path=other.stream).code == "invalid_url"


@pytest.mark.parametrize("page", [CUT, CUT_OF_UNKNOWN_LENGTH])
def test_a_third_party_asgi_server_cuts_a_stream_if_the_media_server_truncates_the_body(
    other: Foreign, page: str
) -> None:
    answer = other.server.get(page, path=other.stream)
    assert answer.status == 200
    assert 0 < len(answer.body) <= 700_000
    assert not answer.complete


def test_a_client_that_disconnects_from_a_third_party_asgi_server_ends_its_stream(other: Foreign) -> None:
    with other.server.open("/media/large-64.mp4", path=other.stream, receive_bytes=4096) as exchange:
        exchange.read(1)
        assert streams(other) == 1
    wait_for(lambda: streams(other) == 0)


def test_the_worker_ends_when_a_third_party_asgi_server_stops(site: SampleSite, tmp_path: Path) -> None:
    with foreign(site, tmp_path, "uvicorn", "parent") as running:
        assert running.server.get(FILM, path=running.stream).status == 200
        worker = psutil.Process(running.server.worker().pid)
    wait_for(lambda: gone(worker))


def test_a_stream_under_uvicorn_ends_if_its_client_stops_reading(site: SampleSite, tmp_path: Path) -> None:
    with (
        foreign(site, tmp_path, "uvicorn", "alone") as running,
        running.server.open("/media/large-64.mp4", path=running.stream, receive_bytes=4096) as exchange,
    ):
        exchange.read(1)
        wait_for(lambda: streams(running) == 0)
        assert "StreamCut" in running.server.log


# The application in the process of the tests


@contextlib.asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an httpx client that calls `app` directly, without an ASGI server. This client sends no lifespan events."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        yield client


@pytest.fixture
def settings(site: SampleSite) -> Settings:
    return Settings(allow_networks=(site.http.removeprefix("http://"),))


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def ask(site: SampleSite, page: str) -> dict[str, str]:
    return {"url": f"{site.http}{page}"}


async def test_an_httpx_client_that_calls_the_application_gets_whole_files_and_ranges_and_problem_documents(
    site: SampleSite, settings: Settings
) -> None:
    whole = site.path("prog.mp4").read_bytes()
    app = create_app(settings)
    async with calling(app) as client, contextlib.aclosing(app):
        answer = await client.get("/stream", params=ask(site, FILM))
        assert (answer.status_code, answer.content) == (200, whole)
        part = await client.get("/stream", params=ask(site, FILM), headers={"Range": "bytes=-10"})
        assert (part.status_code, part.content) == (206, whole[-10:])
        assert part.headers["content-range"] == f"bytes {len(whole) - 10}-{len(whole) - 1}/{len(whole)}"
        head = await client.head("/stream", params=ask(site, FILM))
        assert (head.content, head.headers["content-length"]) == (b"", str(len(whole)))
        beyond = await client.get("/stream", params=ask(site, FILM), headers={"Range": "bytes=99999999-"})
        assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
        missing = await client.get("/stream", params=ask(site, "/page/nothing"))
        assert (missing.status_code, missing.json()["code"]) == (404, "media_not_found")
        assert (await client.get("/info", params=ask(site, FILM))).json()["kind"] == "video"
        assert (await client.get("/ready")).status_code == 200


async def test_a_closed_application_refuses_streams_with_503_and_starts_no_worker(
    site: SampleSite, settings: Settings
) -> None:
    app = create_app(settings)
    before = children()
    async with calling(app) as client:
        assert (await client.get("/stream", params=ask(site, FILM))).status_code == 200
        workers = children() - before
        assert workers
        await app.aclose()
        await app.aclose()
        await eventually(lambda: all(map(gone, workers)))
        refused = await client.get("/stream", params=ask(site, FILM))
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")


async def test_an_application_that_got_no_request_can_be_closed(settings: Settings) -> None:
    await create_app(settings).aclose()


async def test_closing_an_application_cuts_its_running_streams(site: SampleSite, settings: Settings) -> None:
    app = create_app(settings)
    asking = spawn(get_what_is_cut(app, site), name="a client")
    await eventually(lambda: any(record.sent_bytes for record in app.state.server.running))
    await app.aclose()
    await asking
    assert app.state.server.running.streams == 0


async def get_what_is_cut(app: Application, site: SampleSite) -> None:
    """Request a stream whose media server stalls. The test closes the application during this request, so the request
    must raise StreamCut."""
    async with calling(app) as client:
        with pytest.raises(StreamCut):
            await client.get("/stream", params=ask(site, "/page/fault/stall=100000/prog.mp4"))


async def test_closing_an_application_answers_a_waiting_request_with_503_and_the_code_draining(
    site: SampleSite, settings: Settings
) -> None:
    app = create_app(settings)
    async with calling(app) as client:
        asking = spawn(client.get("/stream", params=ask(site, "/page/slow?seconds=600")), name="a client")
        await eventually(lambda: app.state.server.running.streams == 1)
        await app.aclose()
        answer = await asking
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")


async def test_the_lifespan_of_an_application_may_run_a_second_time(site: SampleSite, settings: Settings) -> None:
    app = create_app(settings)
    for _ in range(2):
        async with app.router.lifespan_context(app), calling(app) as client:
            answer = await client.get("/stream", params=ask(site, FILM), headers={"Range": "bytes=0-9"})
            assert (answer.status_code, len(answer.content)) == (206, 10)


def test_an_application_refuses_requests_from_a_second_event_loop(site: SampleSite, settings: Settings) -> None:
    app = create_app(settings)

    async def serve_one() -> None:
        async with calling(app) as client:
            await client.get("/ready")

    with asyncio.Runner() as first:
        first.run(serve_one())
        with asyncio.Runner() as second, pytest.raises(RuntimeError, match="another event loop"):
            second.run(serve_one())
        first.run(app.aclose())


def test_creating_an_application_starts_no_worker(settings: Settings) -> None:
    before = children()
    create_app(settings)
    assert children() == before


async def test_requests_are_not_reported_to_a_tracer_or_a_meter_of_the_process(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI reports requests to OpenTelemetry, with their URLs, if the process has a provider."""
    app, asked = create_app(settings), list[str]()
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: asked.append("tracer"))
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: asked.append("meter"))
    async with calling(app) as client, contextlib.aclosing(app):
        assert (await client.get("/robots.txt")).status_code == 200
    assert asked == []
