"""`serverpy serve`: settings → a listening socket → uvicorn, in one process or several; with `--demo` the sample site.

The socket is opened here, so that a port in use is said in one line, and so that port 0 is known before anyone asks.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from serverpy.cli.options import setting_options
from serverpy.errors import ConfigurationError
from serverpy.extras import SAMPLE
from serverpy.settings import Settings, load_settings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

FDS_PER_STREAM = 4
"""Client, upstream, a pipe's two ends."""
SPARE_FDS = 256
CUT_SECONDS = 1
"""What is left after draining may end by itself for so long; then it is cut."""
ANY_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@click.command("serve")
@setting_options
@click.option("--demo", is_flag=True, help="Start the sample site on loopback, too, and allow exactly its address.")
def command(demo: bool, **options: Any) -> None:
    """Start the server. Every option is also a setting of the environment and of serverpy.toml."""
    settings = load_settings(**options)
    if demo:
        SAMPLE.require("The sample site of --demo")
    with _signals_end_us(), contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        page = None
        if demo:
            from serverpy.cli.demo import allowed, sample_site

            origin = stack.enter_context(sample_site())
            settings, page = allowed(settings, origin), f"{origin}/page/prog"
        # Port 0 has become a port: the guard must know it, to refuse it.
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        address = address_of(listener)
        stack.enter_context(_announced(address, lambda: _say_ready(address, page)))
        _serve(settings, listener)


def listen(settings: Settings) -> socket.socket:
    """The listening socket, which the caller closes. Raises ConfigurationError if the address cannot be had."""
    try:
        infos = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = infos[0]
        return socket.create_server(address[:2], family=family, backlog=2048)  # sets SO_REUSEADDR
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port}: {os.strerror(error.errno or 0)}"
            if not isinstance(error, socket.gaierror)
            else f"cannot listen on {settings.host}: no such host"
        ) from None


def address_of(listener: socket.socket) -> str:
    """`host:port` by which a client on this machine reaches the server."""
    host, port = listener.getsockname()[:2]
    host = ANY_ADDRESSES.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def curl_line(address: str, page: str) -> str:
    return f"curl -sS -o prog.mp4 'http://{address}/stream?url={quote(page, safe='')}'"


def create_worker_app() -> FastAPI:
    """For the processes of `--workers N`, whose settings come by the environment."""
    return _create_app(load_settings())


def _create_app(settings: Settings) -> FastAPI:
    """Called by uvicorn in its running loop, after it has set its own signal handlers."""
    _import_fastapi()
    from serverpy.app import create_app
    from serverpy.cli.drain import Drain
    from serverpy.memory.heap import settle

    app = create_app(settings)
    Drain(lambda: getattr(app.state, "server", None), settings.drain_seconds)
    settle()
    return app


def _import_fastapi() -> None:
    """Its models of the OpenAPI document are built by the first request for that, not here: 1.4 MB."""
    from pydantic import BaseModel

    before = BaseModel.model_config
    BaseModel.model_config = {**before, "defer_build": True}
    try:
        import fastapi  # noqa: F401  for its effect
    finally:
        BaseModel.model_config = before


def _serve(settings: Settings, listener: socket.socket) -> None:
    """Run until told to stop, or raise ConfigurationError if it cannot start."""
    import uvicorn  # the parts of the server are imported here: `--help` needs none of them

    _raise_fd_limit(settings.max_streams)
    try:
        if settings.workers == 1:
            made = Made(settings)
            try:
                uvicorn.Server(_config(settings, made)).run(sockets=[listener])
            finally:  # uvicorn passes the signal on that ended it: the reason goes before it
                made.raise_failure()
        else:
            os.environ.update(settings.to_environment())
            _supervise(_config(settings, "serverpy.cli.serve:create_worker_app"), listener)
    except SystemExit as exit_:
        if exit_.code == uvicorn.config.STARTUP_FAILURE:
            raise ConfigurationError("the server could not start; the lines above say why") from None
        raise


class Made:
    """The factory of the one application, which remembers what it made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app: FastAPI | None = None

    def __call__(self) -> FastAPI:
        self._app = _create_app(self._settings)
        return self._app

    def raise_failure(self) -> None:
        """What made the application end by itself, if anything did."""
        server = getattr(self._app.state, "server", None) if self._app is not None else None
        if server is not None and server.failure is not None:
            raise server.failure


def _supervise(config: uvicorn.Config, listener: socket.socket) -> None:
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    supervisor = Multiprocess(config, sockets=[listener])
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
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=CUT_SECONDS,
    )


def _raise_fd_limit(streams: int) -> None:
    """As many file descriptors as the streams may need, as far as the hard limit lets us."""
    wanted = streams * FDS_PER_STREAM + SPARE_FDS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _signals_end_us() -> Iterator[None]:
    """SIGTERM and SIGINT unwind the stack and end the process with 0. While uvicorn runs it takes them itself, and once
    it has stopped raises them anew: without this, the rest of us would then be killed in the middle."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _announced(address: str, say: Callable[[], None]) -> Iterator[None]:
    """Calls `say` from a thread once `/ready` answers 200; the thread is told to stop and joined at the end."""
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
        return False  # not yet: the socket listens before anybody answers
    finally:
        connection.close()


def _say_ready(address: str, page: str | None) -> None:
    print(f"ServerPY is ready at http://{address}/")
    if page is not None:
        print(f"A sample page: {page}")
        print(curl_line(address, page))
    sys.stdout.flush()
