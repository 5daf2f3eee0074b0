"""The command `serverpy serve`, which opens a listening socket and runs uvicorn in one or several processes. With
`--demo` it also runs the sample site.

This module opens the socket itself, so that it can report a port in use in one line, and knows the port that the system
chose before the application is created.
"""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from pydantic import SecretStr

from serverpy.access.clients import parse_address
from serverpy.access.key_file import add_first_admin, load
from serverpy.access.link_secrets import LinkSecrets
from serverpy.cli.options import setting_options
from serverpy.cli.standard import ignore_lost_text_of
from serverpy.errors import ConfigurationError
from serverpy.extras import SAMPLE
from serverpy.parent import end_with_parent
from serverpy.settings import Settings, load_settings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

FDS_PER_STREAM = 4
"""Number of file descriptors that a stream may need: the sockets of the client and the media server, and both ends of a
pipe."""
SPARE_FDS = 256
CUT_SECONDS = 0.5
"""Seconds after draining within which clients may receive the last bytes of their responses."""
ANY_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}


HELP = "Start the server. Every option can also be set in the environment and in serverpy.toml."


@click.command("serve", help=HELP)
@setting_options
@click.option("--demo", is_flag=True, help="Also start the sample site on loopback, and allow its address.")
@click.option(
    "--create-key", is_flag=True, help="Create a first admin key in API_KEYS_FILE, if the file has none, and print it."
)
def command(demo: bool, create_key: bool, **options: Any) -> None:
    settings = load_settings(**options)
    if demo:
        SAMPLE.require("The sample site of --demo")
    with _exiting_on_signals(), contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        if create_key:  # create the key only after the server has opened its port
            _create_key(settings.api_keys_file)
        ignore_lost_text_of("stdout")
        if settings.api_keys_file is not None:
            load(settings.api_keys_file)  # report an invalid keys file before the processes of --workers start
        page = None
        if demo:
            from serverpy.cli.demo import allowed, sample_site

            origin = stack.enter_context(sample_site())
            settings, page = allowed(settings, origin), f"{origin}/page/prog"
        # The guard must know the port that the system chose (PORT=0), so that it can refuse connections to the server
        # itself.
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        address = address_of(listener)
        line = None if page is None else curl_line(address, page, needs_key=settings.require_key)
        stack.enter_context(_announced(address, lambda: _say_ready(address, page, line)))
        _serve(settings, listener)


def _create_key(path: Path | None) -> None:
    """Create and print a first admin key, unless the keys file `path` already has an admin key. Raises `OutputFailed`,
    without a change, if the key cannot be printed. Raises `ConfigurationError` if `path` is None, or if the file is
    invalid or cannot be changed."""
    if path is None:
        raise ConfigurationError("--create-key: set API_KEYS_FILE to the file that the key is to be added to")
    add_first_admin(path, lambda secret: print(f"The first admin key, which is not shown again: {secret}", flush=True))


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket, which the caller closes. Raises ConfigurationError if the address is unavailable, or
    if others could reach it and the settings do not say who may use the server."""
    try:
        infos = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = infos[0]
        _check_reach(settings, str(address[0]))
        return socket.create_server(address[:2], family=family, backlog=2048)  # create_server also sets SO_REUSEADDR
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port}: {os.strerror(error.errno or 0)}"
            if not isinstance(error, socket.gaierror)
            else f"cannot listen on {settings.host}: no such host"
        ) from None


def _check_reach(settings: Settings, address: str) -> None:
    """Check that the server does not become an open proxy by mistake. Raises `ConfigurationError` if clients on other
    machines may reach `address`, but neither REQUIRE_KEY nor OPEN is set."""
    found = parse_address(address)
    if not (settings.require_key or settings.open or (found is not None and found.is_loopback)):
        raise ConfigurationError(
            f"HOST {settings.host} can be reached from outside: set REQUIRE_KEY (with API_KEYS_FILE), "
            "or --open to serve everybody"
        )


def address_of(listener: socket.socket) -> str:
    """Return the `host:port` by which a client on this machine reaches the server."""
    host, port = listener.getsockname()[:2]
    host = ANY_ADDRESSES.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def curl_line(address: str, page: str, *, needs_key: bool = False) -> str:
    """Return a curl command that fetches the media of `page`. With `needs_key`, the command has the placeholder KEY for
    an API key, and does not save an error response as media."""
    options = "-fsS -H 'Authorization: Bearer KEY'" if needs_key else "-sS"
    return f"curl {options} -o prog.mp4 'http://{address}/stream?url={quote(page, safe='')}'"


def create_worker_app() -> FastAPI:
    """Create the application in a worker process of `--workers N`. The settings come from the environment, into which
    the parent has put them. The process drains when the parent, the supervisor, ends for any reason."""
    if (supervisor := multiprocessing.parent_process()) is not None and supervisor.pid is not None:
        end_with_parent(supervisor.pid, signal.SIGTERM)
    return _create_app(load_settings(), lambda _error: signal.raise_signal(signal.SIGTERM), is_supervised=True)


def _create_app(
    settings: Settings, on_refusal: Callable[[ConfigurationError], None], *, is_supervised: bool = False
) -> FastAPI:
    """Create the application. uvicorn calls this in its running event loop, after it has installed its own signal
    handlers."""
    _import_fastapi()
    from serverpy.app import create_app
    from serverpy.cli.drain import Drain
    from serverpy.cli.reaper import INIT_PID, reap_forever
    from serverpy.memory.heap import settle
    from serverpy.tasks import limit_thread_starts, spawn

    limit_thread_starts()
    app = create_app(settings, on_refusal=on_refusal, checks_host=True)
    Drain(app.state.server, settings.drain_seconds, is_supervised=is_supervised)
    if os.getpid() == INIT_PID:
        app.state.reaping = spawn(reap_forever(), name="reap orphans")
    settle()
    return app


def _import_fastapi() -> None:
    """Import FastAPI without building its models of the OpenAPI schema (1.4 MB). The first request for the schema
    builds them. Also prevent the import of `pydantic.v1` (1.5 MB): FastAPI imports it only to recognise models of
    pydantic 1, and this application has none."""
    from pydantic import BaseModel

    # setting None in sys.modules is the documented way to make an import fail
    sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]

    before = BaseModel.model_config
    BaseModel.model_config = {**before, "defer_build": True}
    try:
        import fastapi  # noqa: F401  for its effect
    finally:
        BaseModel.model_config = before


def _serve(settings: Settings, listener: socket.socket) -> None:
    """Run the server until a signal stops it. Raises ConfigurationError if the server cannot start."""
    import uvicorn  # a late import, because `--help` does not need uvicorn

    _raise_fd_limit(settings.max_streams)
    try:
        if settings.workers == 1:
            refusals: list[ConfigurationError] = []

            def refuse(error: ConfigurationError) -> None:
                refusals.append(error)
                signal.raise_signal(signal.SIGTERM)

            try:
                uvicorn.Server(_config(settings, lambda: _create_app(settings, refuse))).run(sockets=[listener])
            finally:  # uvicorn raises its final signal again; the exit that follows would hide `refusals`
                if refusals:
                    raise refusals[0]
        else:
            os.environ.update(_with_secret(settings).to_environment())
            _supervise(_config(settings, "serverpy.cli.serve:create_worker_app"), listener)
    except SystemExit as exit_:
        if exit_.code == uvicorn.config.STARTUP_FAILURE:
            raise ConfigurationError("the server could not start; the log lines above say why") from None
        raise


def _with_secret(settings: Settings) -> Settings:
    """Return a copy of the settings that contains the secrets that sign links and sessions. Without these, if STATE_DIR
    cannot be used, each process of `--workers` would make a secret of its own, and refuse the links and sessions of the
    other processes."""
    secrets = LinkSecrets([each.get_secret_value() for each in settings.link_secret], settings.state_dir).secrets()
    return settings.model_copy(update={"link_secret": tuple(map(SecretStr, secrets))})


def _supervise(config: uvicorn.Config, listener: socket.socket) -> None:
    from uvicorn.config import STARTUP_FAILURE

    from serverpy.cli.supervisor import Supervisor

    supervisor = Supervisor(config, sockets=[listener])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


def _config(settings: Settings, app: Callable[[], FastAPI] | str) -> uvicorn.Config:
    import uvicorn

    from serverpy.api.protocol import StreamProtocol
    from serverpy.logs import log_config

    return uvicorn.Config(
        app,
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http=StreamProtocol,
        ws="none",
        lifespan="on",
        log_config=log_config(settings.log_level, settings.log_format),
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `api/access.py` reads the fields of trusted proxies, and detects other proxies
        timeout_graceful_shutdown=CUT_SECONDS,  # type: ignore[arg-type]  # uvicorn declares an int, but also accepts fractions of a second
    )


def _raise_fd_limit(streams: int) -> None:
    """Raise the limit on open file descriptors to the number that `streams` streams may need, as far as the hard limit
    allows."""
    wanted = streams * FDS_PER_STREAM + SPARE_FDS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Make SIGTERM, SIGINT and SIGHUP unwind the stack and end the process with exit status 0. While uvicorn runs,
    `drain.py` and `supervisor.py` handle these signals, and uvicorn raises SIGTERM again once it has stopped. Without
    the handler of this function, that SIGTERM would kill the process before its clean-up."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _announced(address: str, say: Callable[[], None]) -> Iterator[None]:
    """Call `say` from a thread once `/ready` responds with 200. At the end of the block, the thread stops and is
    joined."""
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            if _is_ready(address):
                say()
                return
            stopped.wait(0.1)

    thread = threading.Thread(target=watch, name="announce")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _is_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False  # not ready: the socket already listens, but the application does not respond yet
    finally:
        connection.close()


def _say_ready(address: str, page: str | None, line: str | None) -> None:
    print(f"ServerPY is ready at http://{address}/")
    if page is not None:
        print(f"A sample page: {page}")
        print(line)
    sys.stdout.flush()
