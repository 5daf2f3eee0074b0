"""Comparison of the CPU, memory and latency of two checkouts under the same loads, beside nginx.

    python scripts/regression.py BASE CHANGED [--output FILE] [--quick] [--rounds 5] [--only FIGURE]

The script starts `serverpy serve` of both checkouts (each with its own `.venv`, made by `make install`), nginx with
large buffers, and one sample site. It puts the same loads on the two servers and nginx, one after another. In the first
five rounds, the A/A rounds, both servers run BASE, so their differences show the noise of the machine. Five rounds of
BASE and CHANGED follow. A figure is worse if the median, over these five rounds, of the ratio CHANGED ÷ BASE exceeds 1
by more than max(5 %, A/A spread); for the time to the first byte, this limit is at least 25 %. The harness of one
checkout works for both, because it uses only the command line, the settings, the HTTP endpoints and the addresses of
the sample site.

Exit status: 0 if no figure is worse, 1 if a figure is worse or missing, 2 if the run failed. Run nothing else on the
machine while the script runs, because other work widens the A/A spread. The run fails if it takes longer than the
deadline (15 minutes, `--deadline`); the file of `--output` then contains the rounds that were complete before the
deadline.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import math
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import psutil

ROOT = Path(__file__).resolve().parents[1]
READER = Path(__file__).with_name("regression_reader.py")
HOST = "127.0.0.1"
ADMIN_PATHS = "/usr/sbin:/usr/local/sbin:/sbin"
"""Directories where Debian installs nginx; the PATH of a user does not contain them."""
GB = 1e9
MIB = 1 << 20

START_SECONDS = 60.0
LOAD_SECONDS = 120.0
STOP_SECONDS = 5.0
"""Seconds between the SIGTERM and the SIGKILL that end a process."""
REST_SECONDS = 6.0
"""Seconds to wait before memory is read. A server returns free memory to the system within 5 s of its last stream, so
an earlier reading depends on chance."""
POLL_SECONDS = 0.02
DEADLINE_SECONDS = 900.0
MAX_FDS = 16384


class RunError(Exception):
    """Error that is raised if a run cannot start, or if a load fails. A run with this error has no verdict."""


# --- The verdict: pure functions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A measured quantity; lower is better. The table also shows it as a multiple of nginx's value of the figure whose
    name is `yardstick`."""

    name: str
    what: str
    unit: str
    scale: float
    """Factor that converts the raw value (bytes or seconds) to `unit`."""
    yardstick: str | None = None
    floor: float = 0.05
    """The smallest change for the worse that can be reported as a regression, as a fraction of the base. This
    minimum applies even if the noise of the A/A rounds is smaller."""


WIDE = 0.25
"""The `floor` of figures measured by the wall clock, which contain every pause of a shared machine."""

FIGURES = (
    Figure("fast-1-http", "CPU per GB, one fast client, http source", "ms/GB", 1e3, "fast-1-http"),
    Figure("fast-6-http", "CPU per GB, six fast clients, http source", "ms/GB", 1e3, "fast-6-http"),
    Figure("fast-1-https", "CPU per GB, one fast client, https source", "ms/GB", 1e3, "fast-1-https"),
    Figure("fast-6-https", "CPU per GB, six fast clients, https source", "ms/GB", 1e3, "fast-6-https"),
    Figure("hls", "CPU per GB, one fast client, HLS segments", "ms/GB", 1e3, "fast-1-http"),
    Figure("small", "CPU per request of 64 KB, cached extraction", "ms", 1e3, "small"),
    Figure("extraction", "CPU of the tree per uncached extraction", "ms", 1e3, "small"),
    Figure("relay-server", "PSS per slow stream, relay, serving process", "KB", 1e-3),
    Figure("relay-tree", "PSS per slow stream, relay, with the worker", "KB", 1e-3),
    Figure("embedded-server", "PSS per slow stream, embedded, serving process", "KB", 1e-3),
    Figure("embedded-tree", "PSS per slow stream, embedded, with the worker", "KB", 1e-3),
    Figure("idle-tree", "PSS of server and worker after one extraction", "MB", 1e-6),
    Figure("first-byte", "median time to the first byte, cached extraction", "ms", 1e3, None, WIDE),
)
NAMES = tuple(figure.name for figure in FIGURES)


@dataclass(frozen=True)
class Round:
    """The values that one round measured on the base, on the checkout that is compared with the base, and on nginx.
    Each field maps the name of a figure to its value."""

    base: Mapping[str, float]
    other: Mapping[str, float]
    nginx: Mapping[str, float]


class Verdict(Enum):
    OK = "ok"
    WORSE = "WORSE"
    MISSING = "MISSING"


@dataclass(frozen=True)
class Judged:
    """The verdict on one figure. The ratio of a round is the value of the changed checkout divided by that of the base.
    `base` and `other` are the medians over the rounds of the base and of the changed checkout, in the figure's unit or
    as multiples of nginx's figure. All fields except `figure` and `verdict` are None or empty if a value is missing."""

    figure: Figure
    verdict: Verdict
    same: tuple[float, ...] = ()
    """The ratio of each A/A round, in which both servers run the same checkout."""
    spread: float | None = None
    base: float | None = None
    other: float | None = None
    ratio: float | None = None
    limit: float | None = None


def spread_of(ratios: Sequence[float]) -> float:
    """Return the 80th percentile (nearest rank) of |ratio - 1| over the A/A rounds.

    For five rounds that is the second largest deviation: a single pause of a shared machine does not widen the limit,
    and the median of five ratios of equal checkouts stays within the limit in about 49 of 50 runs.
    """
    deviations = sorted(abs(ratio - 1) for ratio in ratios)
    return deviations[math.ceil(0.8 * len(deviations)) - 1]


def ratios_of(figure: Figure, rounds: Sequence[Round]) -> tuple[float, ...] | None:
    """Return for each round the value of the changed checkout divided by that of the base. Returns None if there are no
    rounds, or if a value is missing, infinite or not positive."""
    pairs = [(each.base.get(figure.name), each.other.get(figure.name)) for each in rounds]
    good = [other / base for base, other in pairs if _is_positive(base) and _is_positive(other) and base and other]
    return tuple(good) if good and len(good) == len(rounds) else None


def _is_positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def judge(figure: Figure, same: Sequence[Round], changed: Sequence[Round]) -> Judged:
    """Return the verdict on one figure, from its A/A rounds (`same`) and its rounds of base against changed
    (`changed`)."""
    same_ratios, ratios = ratios_of(figure, same), ratios_of(figure, changed)
    if same_ratios is None or ratios is None:
        return Judged(figure, Verdict.MISSING)
    spread, ratio = spread_of(same_ratios), statistics.median(ratios)
    limit = max(figure.floor, spread)
    return Judged(
        figure,
        Verdict.WORSE if ratio > 1 + limit else Verdict.OK,
        same_ratios,
        spread,
        _median_shown(figure, changed, lambda each: each.base),
        _median_shown(figure, changed, lambda each: each.other),
        ratio,
        limit,
    )


def _median_shown(
    figure: Figure, rounds: Sequence[Round], side: Callable[[Round], Mapping[str, float]]
) -> float | None:
    """Return the median of the values, in the figure's unit or, if the figure has a yardstick, as a multiple of nginx's
    value of the yardstick in the same round. Returns None if nginx has no value."""
    if figure.yardstick is None:
        return statistics.median(side(each)[figure.name] for each in rounds) * figure.scale
    yardsticks = [each.nginx.get(figure.yardstick, 0.0) for each in rounds]
    if not all(yardsticks):
        return None
    values = [side(each)[figure.name] / yardstick for each, yardstick in zip(rounds, yardsticks, strict=True)]
    return statistics.median(values)


HEAD = ("figure", "unit", "A/A ratios", "spread", "base", "changed", "ratio", "limit", "verdict")


def table(judged: Sequence[Judged]) -> str:
    """Return the verdicts as a text table, one line per figure."""
    rows = [HEAD, *(_row(each) for each in judged)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(judged: Judged) -> tuple[str, ...]:
    unit = f"× nginx {judged.figure.yardstick}" if judged.figure.yardstick else judged.figure.unit
    return (
        judged.figure.name,
        unit,
        " ".join(f"{ratio:.2f}" for ratio in judged.same),
        _percent(judged.spread),
        _number(judged.base),
        _number(judged.other),
        "-" if judged.ratio is None else f"{judged.ratio:.3f}",
        _percent(judged.limit),
        judged.verdict.value,
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def overall(judged: Sequence[Judged]) -> str:
    """Return the last line of the report, which names the figures that are worse or missing."""
    bad = [f"{each.figure.name} {each.verdict.value}" for each in judged if each.verdict is not Verdict.OK]
    return f"overall: not ok: {', '.join(bad)}" if bad else f"overall: ok: {len(judged)} figures within their limits"


# --- Processes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Child:
    """A child process. `directory` is its working directory and its TMPDIR, and is removed after the process has
    ended."""

    title: str
    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` is true. Raises RunError if the process ends or START_SECONDS pass before that."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RunError(f"{self.title} did not start. Its last log lines: {self.log_tail()}")
            time.sleep(POLL_SECONDS)

    def tree(self) -> list[psutil.Process]:
        """Return the process and all of its descendants. Raises RunError if the process has ended."""
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            raise RunError(f"{self.title} has ended unexpectedly. Its last log lines: {self.log_tail()}") from None

    def log_tail(self) -> str:
        return " / ".join(_read_text(self.directory / "log").strip().splitlines()[-5:])


def _read_text(path: Path) -> str:
    return path.read_text(errors="replace")


@contextlib.contextmanager
def running(
    title: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, files: Mapping[str, str] = {}
) -> Iterator[Child]:
    """Run `command` during the block, then end it and all of its descendants.

    In the command and in the `files`, which are written before the start, `{directory}` stands for the working
    directory. The child gets the environment of this process without server settings (SERVERPY_*), PYTHON* variables
    and proxies. The child has its own session, so that Ctrl-C does not reach it."""
    with tempfile.TemporaryDirectory(prefix="serverpy-regression-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        for file, text in files.items():
            directory.joinpath(file).write_text(text.replace("{directory}", name))
        with directory.joinpath("log").open("wb") as log:
            process = subprocess.Popen(
                [part.replace("{directory}", name) for part in command],
                env={**_clean_environment(), "TMPDIR": name, **(env or {})},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Child(title, process, directory)
        finally:
            _end(process)


def _clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SERVERPY_", "PYTHON")) and not name.lower().endswith("_proxy")
    }


def _end(process: subprocess.Popen[Any]) -> None:
    """Send SIGTERM to the process, so that it ends its children; then send SIGKILL to it and to all of its descendants
    that still run."""
    family = _family(process.pid)
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass  # the remaining processes are killed below
    finally:
        family |= _family(process.pid)
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()  # psutil compares the start time, so that no other process with the same id is killed
        process.kill()
        process.wait()
        psutil.wait_procs(family, timeout=STOP_SECONDS)


def _family(pid: int) -> set[psutil.Process]:
    """Return the descendants of `pid` and the other processes of its session, which include orphans."""
    found = set[psutil.Process]()
    with contextlib.suppress(psutil.NoSuchProcess):
        found.update(psutil.Process(pid).children(recursive=True))
    for each in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if each.pid != pid and os.getsid(each.pid) == pid:
                found.add(each)
    return found


@contextlib.contextmanager
def ended_by_signals(deadline_seconds: float) -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP, or the end of the deadline, into a RunError. Later signals are ignored,
    so that they do not interrupt the clean-up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)

    def stop(number: int, _frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        late = number == signal.SIGALRM
        raise RunError(
            f"the run was not done within {deadline_seconds:.0f} s: raise --deadline, or stop other work on the machine"
            if late
            else f"the run was ended by {signal.Signals(number).name}"
        )

    before = {number: signal.signal(number, stop) for number in numbers}
    signal.setitimer(signal.ITIMER_REAL, deadline_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _sweep()
        for number, handler in before.items():
            signal.signal(number, handler)


def _sweep() -> None:
    """Kill all remaining descendants of this process. This call is necessary because, if a signal arrives while a child
    is being started, no `running` block ends that child."""
    family = psutil.Process().children(recursive=True)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(family, timeout=STOP_SECONDS)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def get(port: int, path: str) -> tuple[int, bytes]:
    """Send a GET and return the status and body of the response. Raises OSError if the connection fails,
    http.client.HTTPException if the response is malformed."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def answers(port: int, path: str) -> bool:
    try:
        return get(port, path)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


# --- The site, nginx, and the servers under test ---------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    port: int
    https_port: int
    ca_file: Path

    def base(self, scheme: str) -> str:
        return f"{scheme}://{HOST}:{self.https_port if scheme == 'https' else self.port}"


@dataclass(frozen=True)
class Target:
    """A ServerPY server or nginx, under load. `address` returns the request path for a media name and a scheme. `alone`
    is True if the first process serves all streams, so that the CPU time of its children is not part of a stream's
    cost."""

    child: Child
    port: int
    address: Callable[[str, str], str]
    alone: bool = True


@contextlib.contextmanager
def sample_site(checkout: Path) -> Iterator[Site]:
    port, https_port = free_ports(2)
    ports = ["--port", str(port), "--https-port", str(https_port)]
    command = [str(python_of(checkout)), "-m", "serverpy", "sample", *ports]
    with running("The sample site", command) as child:
        child.until(lambda: answers(port, "/media/clip.mp4"))
        authorities = list(child.directory.glob("*.pem"))
        if len(authorities) != 1:
            raise RunError(
                "The sample site has not written the certificate of its authority into TMPDIR. "
                "Does it serve https (--https-port)?"
            )
        yield Site(port, https_port, authorities[0])


NGINX = """
daemon off;
{user}
worker_processes 1;
pid {{directory}}/pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {{directory}}/body;
    proxy_temp_path {{directory}}/proxy;
    fastcgi_temp_path {{directory}}/fastcgi;
    uwsgi_temp_path {{directory}}/uwsgi;
    scgi_temp_path {{directory}}/scgi;
    proxy_buffer_size 64k;
    proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k;
    proxy_max_temp_file_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_ssl_trusted_certificate {ca_file};
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
    upstream http_site {{ server {host}:{port}; keepalive 16; }}
    upstream https_site {{ server {host}:{https_port}; keepalive 16; }}
    server {{
        listen {host}:{own_port};
        location = /ready {{ return 200; }}
        location /http/ {{ proxy_pass http://http_site/media/; }}
        location /https/ {{ proxy_pass https://https_site/media/; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(site: Site) -> Iterator[Target]:
    (port,) = free_ports(1)
    configuration = NGINX.format(
        # nginx runs as root if this process does: a worker of another user could not read the directory
        user="user root;" if os.geteuid() == 0 else "",
        host=HOST,
        own_port=port,
        port=site.port,
        https_port=site.https_port,
        ca_file=site.ca_file,
    )
    command = [nginx_command(), "-p", "{directory}", "-c", "{directory}/nginx.conf", "-e", "stderr"]
    with running("nginx", command, files={"nginx.conf": configuration}) as child:
        child.until(lambda: answers(port, "/ready"))
        yield Target(child, port, lambda media, scheme: f"/{scheme}/{media}", alone=False)


def nginx_command() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path=ADMIN_PATHS)
    if found is None:
        hint = "Run `apt-get install nginx-light` (Debian, Ubuntu); its service may be off."
        raise RunError(f"nginx is not installed. {hint}")
    return found


@contextlib.contextmanager
def serving(sides: Sequence[Path], *, threads: int = 4, site: Site | None = None) -> Iterator[list[Target]]:
    """Run one server for each checkout in `sides` during the block. Yields the servers once all of them are ready. All
    settings of the servers have their default values, except the settings that the loads need."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_server(side, threads, site)) for side in sides]
        for server in servers:
            # mypy cannot infer the type of a lambda's default argument
            server.child.until(lambda port=server.port: answers(port, "/ready"))  # type: ignore[misc]
            _raise_fd_limit(server.child.pid)
        yield servers


@contextlib.contextmanager
def _server(checkout: Path, threads: int, site: Site | None) -> Iterator[Target]:
    (port,) = free_ports(1)
    settings = {
        "CONFIG": "",
        "ALLOW_NETWORKS": f"{HOST}/32",
        "CA_FILE": str(site.ca_file) if site else "",
        "MAX_WORKERS": str(threads),
        "RATE_LIMIT": "",
        "DRAIN_SECONDS": "0",
        "LOG_LEVEL": "warning",
    }

    def address(media: str, scheme: str) -> str:
        return stream(page_of(site.base(scheme), media)) if site else ""

    command = [str(python_of(checkout)), "-m", "serverpy", "serve", "--host", HOST, "--port", str(port)]
    env = {f"SERVERPY_{name}": value for name, value in settings.items()}
    with running(f"The server of {checkout}", command, env=env) as child:
        yield Target(child, port, address)


def _raise_fd_limit(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    wanted = MAX_FDS if hard == resource.RLIM_INFINITY else min(hard, MAX_FDS)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, hard))


def stream(page: str, method: str = "relay") -> str:
    return f"/stream?url={quote(page, safe='')}&method={method}"


def page_of(base: str, media: str, fresh: str = "") -> str:
    """Return the address of a page of the sample site whose player plays `media`. A new value of `fresh` changes the
    address, so that no cached extraction is used."""
    page = media if media.startswith("hls-") else f"fault/id=regression/{media}"
    return f"{base}/page/{page}" + (f"?fresh={fresh}" if fresh else "")


def python_of(checkout: Path) -> Path:
    return checkout / ".venv" / "bin" / "python"


def check_checkout(checkout: Path) -> None:
    """Check that the checkout has a .venv that imports `serverpy` from this checkout. Raises RunError if the .venv is
    missing, or imports `serverpy` from elsewhere."""
    if not python_of(checkout).exists():
        raise RunError(f"{checkout} has no .venv: run `make install` there.")
    command = [str(python_of(checkout)), "-c", "import serverpy; print(serverpy.__file__)"]
    found = subprocess.run(command, cwd="/", env=_clean_environment(), capture_output=True, text=True, timeout=60)
    if found.returncode or not Path(found.stdout.strip()).resolve().is_relative_to(checkout.resolve()):
        raise RunError(f"The .venv of {checkout} does not import serverpy from there: run `make install` there.")


# --- Readings ------------------------------------------------------------------------------------------------------


def cpu_seconds(child: Child, *, tree: bool) -> float:
    """Return the user and system CPU time in seconds of the process, or of its whole tree, including threads that have
    ended.

    The time is that of the process's CPU clock, whose id is ~pid << 3 | 2 (CPUCLOCK_SCHED, clock_getcpuclockid(3)),
    because /proc and psutil round the same time to ticks of 10 ms.
    """
    pids = [each.pid for each in child.tree()] if tree else [child.pid]
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def pss_bytes(child: Child) -> tuple[int, int]:
    """Return the PSS in bytes of the process, then the PSS of its whole process tree."""
    sizes = [each.memory_full_info().pss for each in child.tree()]
    return sizes[0], sum(sizes)


def settled_pss(child: Child, seconds: float, readings: int = 5) -> tuple[float, float]:
    """Return the median PSS in bytes of the process, then of its whole process tree. Takes several readings over
    `seconds`."""
    taken = []
    for _ in range(readings):
        time.sleep(seconds / readings)
        taken.append(pss_bytes(child))
    return statistics.median(each[0] for each in taken), statistics.median(each[1] for each in taken)


# --- Loads ---------------------------------------------------------------------------------------------------------

Ask = tuple[str, int]
"""The path of a request, and the expected number of bytes in the body of its response."""


@dataclass(frozen=True)
class Sizes:
    """Sizes and durations of the loads. `turns` states how often each load runs on each server in a round."""

    fast_mib: int = 160
    six_mib: int = 32
    hls_requests: int = 12
    small_requests: int = 300
    extractions: int = 25
    first_bytes: int = 50
    slow_clients: int = 60
    slow_rate: int = 64 * 1024
    slow_settle_seconds: float = 4.0
    slow_watch_seconds: float = 2.0
    turns: int = 3


QUICK = Sizes(64, 16, 4, 100, 10, 30, 20, 64 * 1024, 2.0, 0.5, 1)


@dataclass(frozen=True)
class Media:
    clip_bytes: int
    hls_bytes: int


def measure_media(site: Site) -> Media:
    """Return the lengths in bytes of the MP4 file and of the HLS stream that the loads read from the site."""
    return Media(len(_fetch(site, "/media/clip.mp4")), sum(len(_fetch(site, part)) for part in _segments(site)))


def _segments(site: Site) -> list[str]:
    """Return the URLs of the segments of the variant with the highest BANDWIDTH (RFC 8216 §4.3.4.2)."""
    master = _fetch(site, "/hls/ts/master.m3u8").decode()
    variants = re.findall(r"#EXT-X-STREAM-INF:.*?BANDWIDTH=(\d+).*\n(.+)", master)
    playlist = urljoin("/hls/ts/master.m3u8", max(variants, key=lambda variant: int(variant[0]))[1])
    lines = _fetch(site, playlist).decode().splitlines()
    return [urljoin(playlist, line) for line in lines if line and not line.startswith("#")]


def _fetch(site: Site, path: str) -> bytes:
    status, body = get(site.port, path)
    if status != 200:
        raise RunError(f"The sample site answered GET {path} with status {status}, not 200.")
    return body


@contextlib.contextmanager
def reading(order: Mapping[str, object]) -> Iterator[subprocess.Popen[str]]:
    """Run the process of the clients during the block. `order` is the JSON object that tells them what to request."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(READER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            if process.stdin is None:
                raise RunError("the process that runs the clients has no stdin")
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def outcome_of(process: subprocess.Popen[str], target: Target, load: str) -> dict[str, Any]:
    """Wait for the clients to end, and return what they report. Raises RunError if a client got a wrong response, or if
    LOAD_SECONDS pass first."""
    try:
        said, reason = process.communicate(timeout=LOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise RunError(f"{target.child.title}, {load}: the load was not done within {LOAD_SECONDS:.0f} s.") from None
    if process.returncode:
        raise RunError(f"{target.child.title}, {load}: {reason.strip()} {target.child.log_tail()}")
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def read_whole(target: Target, load: str, asks: Sequence[Ask], clients: int, *, keep: bool) -> dict[str, Any]:
    with reading({"port": target.port, "requests": asks, "clients": clients, "keep": keep}) as process:
        return outcome_of(process, target, load)


@dataclass(frozen=True)
class Load:
    """A series of requests that measures the figure `name`: CPU time per GB or request, or the time to the first
    byte."""

    name: str
    asks: Callable[[Target], Sequence[Ask]]
    clients: int
    per_gb: bool = False
    keep: bool = True
    tree: bool = False
    timed: bool = False

    def measure(self, target: Target) -> tuple[float, list[float]]:
        """Send the requests to `target`. Returns the CPU seconds per GB or per request, and the time to the first byte
        of each response in seconds."""
        asks, tree = self.asks(target), self.tree or not target.alone
        before = cpu_seconds(target.child, tree=tree)
        outcome = read_whole(target, self.name, asks, self.clients, keep=self.keep)
        cpu = cpu_seconds(target.child, tree=tree) - before
        return cpu / (sum(size for _, size in asks) / GB if self.per_gb else len(asks)), outcome["first_bytes"]


def loads_for(site: Site, media: Media, sizes: Sizes, numbers: Iterator[int]) -> tuple[Load, ...]:
    """Return all loads that measure CPU or time, in the order in which they run. Each value of `numbers` makes the
    address of a page unique, so that its extraction is not cached."""

    def large(count: int, mib: int, scheme: str) -> Callable[[Target], Sequence[Ask]]:
        return lambda target: [(target.address(f"large-{mib}.mp4", scheme), mib * MIB)] * count

    def clips(count: int) -> Callable[[Target], Sequence[Ask]]:
        return lambda target: [(target.address("clip.mp4", "http"), media.clip_bytes)] * count

    def hls(target: Target) -> Sequence[Ask]:
        return [(target.address("hls-ts", "http"), media.hls_bytes)] * sizes.hls_requests

    def new_pages(_target: Target) -> Sequence[Ask]:
        pages = [page_of(site.base("http"), "clip.mp4", str(next(numbers))) for _ in range(sizes.extractions)]
        return [(stream(page), media.clip_bytes) for page in pages]

    return (
        Load("first-byte", clips(sizes.first_bytes), 1, keep=False, timed=True),
        Load("small", clips(sizes.small_requests), 4),
        Load("fast-1-http", large(1, sizes.fast_mib, "http"), 1, per_gb=True),
        Load("fast-6-http", large(6, sizes.six_mib, "http"), 6, per_gb=True),
        Load("fast-1-https", large(1, sizes.fast_mib, "https"), 1, per_gb=True),
        Load("fast-6-https", large(6, sizes.six_mib, "https"), 6, per_gb=True),
        Load("hls", hls, 1, per_gb=True),
        Load("extraction", new_pages, 1, tree=True),
    )


def measure_in_turn(load: Load, targets: Sequence[Target], turns: int) -> list[float]:
    """Return one figure for each target: the median time to the first byte if the load is timed, otherwise the CPU cost
    of the repetition of the load in which the target used the least CPU, because other work on the machine can only
    increase this cost. Each repetition reverses the order of the targets, so that a drift of the machine's speed
    affects all targets alike.
    """
    costs: list[list[float]] = [[] for _ in targets]
    times: list[list[float]] = [[] for _ in targets]
    order = list(range(len(targets)))
    for _ in range(turns):
        for number in order:
            cost, first_bytes = load.measure(targets[number])
            costs[number].append(cost)
            times[number] += first_bytes
        order.reverse()
    return [statistics.median(each) for each in times] if load.timed else [min(each) for each in costs]


def slow_streams(targets: Mapping[Target, str], site: Site, sizes: Sizes) -> list[dict[str, float]]:
    """Return the bytes that each slow stream adds to the PSS of the server and to the PSS of its process tree, for each
    target. `targets` maps a target to the method that its clients request.

    All targets serve their clients at the same time. That changes the CPU cost of a stream, but not its memory."""
    time.sleep(REST_SECONDS)
    bases = [settled_pss(target.child, 0.3, 3) for target in targets]
    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(reading(_slow_order(*each, site, sizes))) for each in targets.items()]
        for crowd, (target, method) in zip(crowds, targets.items(), strict=True):
            if crowd.stdout is None or crowd.stdout.readline().strip() != "reading":
                outcome_of(crowd, target, f"{method}, slow")
                raise RunError(
                    f"{target.child.title}: the slow clients ended before each of them had received a first byte."
                )
        time.sleep(sizes.slow_settle_seconds)
        peaks = [settled_pss(target.child, sizes.slow_watch_seconds / len(targets)) for target in targets]
        for crowd, (target, method) in zip(crowds, targets.items(), strict=True):
            outcome = outcome_of(crowd, target, f"{method}, slow")  # communicate() closes stdin, so the clients end
            _check_pace(target, method, outcome, sizes.slow_rate)
    return [
        {f"{method}-{part}": (peak[index] - base[index]) / sizes.slow_clients for index, part in enumerate(PARTS)}
        for method, base, peak in zip(targets.values(), bases, peaks, strict=True)
    ]


def _slow_order(target: Target, method: str, site: Site, sizes: Sizes) -> dict[str, object]:
    path = stream(page_of(site.base("http"), f"large-{SLOW_MIB}.mp4"), method)
    asks: list[Ask] = [(path, SLOW_MIB * MIB)]
    return {"port": target.port, "requests": asks, "clients": sizes.slow_clients, "rate": sizes.slow_rate}


SLOW_MIB = 64
METHODS = ("relay", "embedded")
PARTS = ("server", "tree")
SLOW_NAMES = frozenset(f"{method}-{part}" for method in METHODS for part in PARTS)
MEMORY_NAMES = SLOW_NAMES | {"idle-tree"}
SCHEMES = ("http", "https")


def _check_pace(target: Target, method: str, outcome: Mapping[str, Any], rate: int) -> None:
    """Check that every client got at least half of the bytes that its rate allows. Raises RunError if a client got
    less, because its stream has stalled."""
    slowest, wanted = min(outcome["received"]), outcome["seconds"] * rate / 2
    if slowest < wanted:
        raise RunError(
            f"{target.child.title}, {method}, slow: a client got {slowest} bytes, "
            f"but at half of its rate it would have got {wanted:.0f}."
        )


def idle_pss(servers: Sequence[Target], site_of: Path) -> list[float]:
    """Return, for each of the newly started `servers`, the PSS in bytes of the server with its worker, after the first
    extraction.

    The sample site has ended before the PSS is read: PSS divides the pages of libraries among all processes of the same
    .venv, so it would be lower for the checkout from which the site runs.
    """
    with sample_site(site_of) as site:
        path = stream(page_of(site.base("http"), "clip.mp4"))
        for server in servers:
            read_whole(server, "idle", [(path, len(_fetch(site, "/media/clip.mp4")))], 1, keep=False)
    time.sleep(REST_SECONDS)
    return [settled_pss(server.child, 0.5)[1] for server in servers]


# --- Rounds --------------------------------------------------------------------------------------------------------


@dataclass
class Harness:
    """The settings that all rounds share. `wanted` contains the names of the figures to measure."""

    site_of: Path
    sizes: Sizes
    wanted: frozenset[str]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def round(self, sides: tuple[Path, Path], number: int) -> Round:
        """Measure all figures once on the servers of both checkouts. In every other round, the second checkout is
        measured first."""
        order = (0, 1) if number % 2 == 0 else (1, 0)
        ordered = [sides[each] for each in order]
        found: tuple[dict[str, float], dict[str, float]] = ({}, {})
        nginx_values: dict[str, float] = {}
        with contextlib.ExitStack() as stack:
            resting: list[Target] = []
            if self.wanted & MEMORY_NAMES:
                resting = stack.enter_context(serving(ordered, threads=self.sizes.slow_clients))
            if "idle-tree" in self.wanted:
                for each, value in zip(order, idle_pss(resting, self.site_of), strict=True):
                    found[each]["idle-tree"] = value
            site = stack.enter_context(sample_site(self.site_of))
            media = measure_media(site)
            servers = stack.enter_context(serving(ordered, threads=self.sizes.slow_clients, site=site))
            for server in servers:
                _warm_up(server, site, media, SCHEMES)
            if self.wanted & SLOW_NAMES:
                # The slow clients of `relay` use `servers`, which get the other loads later. The slow clients of
                # `embedded` use `resting`, other processes of the same checkouts: if one server served both groups,
                # free memory that the first group leaves in its heap would hide the cost of the second group.
                for server in resting:
                    _warm_up(server, site, media, SCHEMES[:1])
                targets = dict.fromkeys(servers, "relay") | dict.fromkeys(resting, "embedded")
                for each, values in zip([*order, *order], slow_streams(targets, site, self.sizes), strict=True):
                    found[each].update(values)
            rival = stack.enter_context(nginx(site))
            clips = [(rival.address("clip.mp4", scheme), media.clip_bytes) for scheme in SCHEMES]
            read_whole(rival, "warm-up", clips, 1, keep=True)
            for load in loads_for(site, media, self.sizes, self.numbers):
                self._load(load, [*servers, rival], order, found, nginx_values)
        return Round(self._only(found[0]), self._only(found[1]), nginx_values)

    def _load(
        self,
        load: Load,
        targets: Sequence[Target],
        order: tuple[int, int],
        found: tuple[dict[str, float], dict[str, float]],
        nginx_values: dict[str, float],
    ) -> None:
        yardsticks = {figure.yardstick for figure in FIGURES if figure.name in self.wanted}
        sides, rival = load.name in self.wanted, load.name in yardsticks
        asked = [*(targets[:2] if sides else ()), *(targets[2:] if rival else ())]
        values = measure_in_turn(load, asked, self.sizes.turns)
        if sides:
            for each, value in zip(order, values, strict=False):
                found[each][load.name] = value
        if rival:
            nginx_values[load.name] = values[-1]

    def _only(self, found: Mapping[str, float]) -> dict[str, float]:
        return {name: value for name, value in found.items() if name in self.wanted}


def _warm_up(server: Target, site: Site, media: Media, schemes: Sequence[str]) -> None:
    """Make the server load all modules that it imports on first use, so that they count as base memory of the server,
    and not as memory of a stream."""
    pages = [page_of(site.base(scheme), "clip.mp4") for scheme in schemes]
    asks = [(stream(page, method), media.clip_bytes) for page in pages for method in METHODS]
    asks.append((stream(page_of(site.base("http"), "hls-ts")), media.hls_bytes))
    read_whole(server, "warm-up", asks, 1, keep=False)


@dataclass
class Measured:
    """The rounds measured so far: `same` compares the base with itself, `changed` the base with the changed
    checkout."""

    same: list[Round] = field(default_factory=list)
    changed: list[Round] = field(default_factory=list)


def measure(harness: Harness, base: Path, changed: Path, rounds: int, measured: Measured) -> None:
    """Start the server of each checkout once, so that its bytecode is compiled. Then run all rounds, and add their
    results to `measured`."""
    for checkout in dict.fromkeys((base, changed)):
        _say(f"starting the server of {checkout} once")
        with serving([checkout]) as servers:
            idle_pss(servers, harness.site_of)
    for sides, into, title in (((base, base), measured.same, "A/A"), ((base, changed), measured.changed, "A/B")):
        for number in range(rounds):
            begun = time.monotonic()
            into.append(harness.round(sides, number))
            _say(f"{title} round {number + 1} of {rounds}: {time.monotonic() - begun:.0f} s")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def raw(base: Path, changed: Path, measured: Measured, judged: Sequence[Judged]) -> str:
    """Return all measured values as JSON, in bytes and seconds. The JSON contains no verdicts if the run failed."""

    def plain(rounds: Sequence[Round]) -> list[dict[str, Mapping[str, float]]]:
        return [{"base": each.base, "other": each.other, "nginx": each.nginx} for each in rounds]

    verdicts = {
        each.figure.name: {
            "verdict": each.verdict.value,
            "ratio": each.ratio,
            "spread": each.spread,
            "limit": each.limit,
            "same_ratios": each.same,
            "base": each.base,
            "changed": each.other,
        }
        for each in judged
    }
    commits = {"base": commit_of(base), "changed": commit_of(changed)}
    found = {"commits": commits, "figures": verdicts, "same": plain(measured.same), "changed": plain(measured.changed)}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def commit_of(checkout: Path) -> str:
    """Return the version of the checkout from `git describe`, or "unknown" if the command fails."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="checkout A (the base), with a .venv")
    parser.add_argument("changed", type=Path, help="checkout B (the changed one), with a .venv")
    parser.add_argument(
        "--site", type=Path, default=ROOT, help="checkout whose sample site serves the media (default: this checkout)"
    )
    parser.add_argument(
        "--rounds", type=int, default=None, help="number of A/A rounds, and of A/B rounds (default: 5; with --quick: 2)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="use small loads, to try the script; the verdict means nothing"
    )
    only = f"measure this figure only; may be repeated: {', '.join(NAMES)}"
    parser.add_argument("--only", action="append", choices=NAMES, metavar="FIGURE", help=only)
    parser.add_argument("--output", type=Path, help="write all measured values to FILE, as JSON")
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEADLINE_SECONDS,
        help="seconds since its start after which the run fails (default: %(default).0f)",
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> bool:
    """Measure and print all figures. Returns True if no figure is missing, or worse on the changed checkout than on the
    base. Raises RunError if a load fails."""
    base, changed, site_of = (path.resolve() for path in (options.base, options.changed, options.site))
    nginx_command()
    for checkout in {base, changed, site_of}:
        check_checkout(checkout)
    harness = Harness(site_of, QUICK if options.quick else Sizes(), frozenset(options.only or NAMES))
    measured, judged = Measured(), list[Judged]()
    try:
        measure(harness, base, changed, options.rounds or (2 if options.quick else 5), measured)
        wanted = [figure for figure in FIGURES if figure.name in harness.wanted]
        judged = [judge(figure, measured.same, measured.changed) for figure in wanted]
    finally:
        if options.output:
            options.output.write_text(raw(base, changed, measured, judged), encoding="utf-8")
    print(table(judged))
    print(overall(judged))
    return all(each.verdict is Verdict.OK for each in judged)


def main() -> None:
    options = parse_options()
    try:
        with ended_by_signals(options.deadline):
            good = run(options)
    except RunError as error:
        print(f"The run failed: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
