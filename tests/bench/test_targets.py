"""Tests of the benchmark's targets, which are the programs that it measures: each installed target streams the origin's
bytes, and no process of a target outlives the target's block."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from serverpy.bench.measure.children import clean_environment, running
from serverpy.bench.measure.errors import BenchError, TargetDied, TargetFailed
from serverpy.bench.measure.reference import reference
from serverpy.bench.measure.sampler import read
from serverpy.bench.measure.targets import TARGETS, Origin, Target, sample_origin
from serverpy.bench.measure.targets.base import ask
from tests.bench.signals import as_from_a_terminal

INSTALLED = [target for target in TARGETS.values() if target.missing() is None]
SECONDS = 60.0

each_target = pytest.mark.parametrize("target", INSTALLED, ids=[target.name for target in INSTALLED])

# This program starts the target, prints the pids of all its descendants, and waits until its stdin ends.
STARTER = """
import contextlib, psutil, sys
from serverpy.bench.measure.children import terminated_like_interrupted
from serverpy.bench.measure.targets import TARGETS, sample_origin
with terminated_like_interrupted(), sample_origin() as origin, TARGETS[sys.argv[1]].start(origin):
    print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with sample_origin() as origin:
        yield origin


def media_of(target: Target) -> str:
    return "prog.mp4" if "file" in target.kinds else "hls/ts"


def family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=5)[1]


def test_the_targets_relay_and_embedded_and_subprocess_and_seed_are_installed() -> None:
    assert {"relay", "embedded", "subprocess", "seed"} <= {target.name for target in INSTALLED}


def test_the_error_for_a_target_that_is_not_installed_is_one_line() -> None:
    for target in TARGETS.values():
        why = target.missing()
        assert why is None or ("is not installed" in why and "\n" not in why)


@each_target
def test_a_target_streams_every_byte_over_http_and_https_and_leaves_no_process(target: Target, origin: Origin) -> None:
    media = media_of(target)
    with target.start(origin) as running_:
        for scheme in running_.schemes:
            status, body = ask(running_.port, running_.path(media, scheme=scheme), SECONDS)
            assert status == 200, body[:500]
            assert len(body) == reference(media).size
            assert reference(media).matches(0, body)
        assert read(running_.pid).pss > 0
        processes = family(running_.pid)
        directory = running_.child.directory
    assert gone(processes)
    assert not directory.exists()


@each_target
def test_an_exception_in_the_block_of_a_target_ends_the_target_even_if_it_is_streaming(
    target: Target, origin: Origin
) -> None:
    processes: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError):
        fail_while_streaming(target, origin, processes)
    assert processes
    assert gone(processes)


def fail_while_streaming(target: Target, origin: Origin, processes: list[psutil.Process]) -> None:
    with target.start(origin) as running_:
        media = "large-180.mp4" if "file" in target.kinds else "hls/ts"
        with contextlib.closing(HTTPConnection(running_.host, running_.port, timeout=SECONDS)) as connection:
            connection.request("GET", running_.path(media))
            assert connection.getresponse().read(1)
            processes += family(running_.pid)
            raise ZeroDivisionError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", [target.name for target in INSTALLED if target.name in ("embedded", "nginx")])
def test_a_signal_that_ends_the_benchmark_also_ends_the_target_and_the_origin(
    name: str, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=as_from_a_terminal,
    ) as bench:
        assert bench.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in bench.stdout.readline().split()]
        assert len(processes) >= 3
        bench.send_signal(number)
        bench.wait(SECONDS)
    assert gone(processes)


def test_each_value_of_the_parameter_fresh_gives_a_page_with_another_url_but_the_same_content(origin: Origin) -> None:
    pages = [urlsplit(origin.page("prog.mp4", "http", fresh)) for fresh in ("", "1", "2")]
    assert len(set(pages)) == 3
    assert len({ask(page.port or 0, f"{page.path}?{page.query}") for page in pages}) == 1


def test_a_measured_server_gets_its_settings_and_ignores_those_of_the_environment(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVERPY_MEMORY_BUDGET", "1MiB")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not {"SERVERPY_MEMORY_BUDGET", "http_proxy"} & set(clean_environment())
    with TARGETS["embedded"].start(origin, settings={"MEMORY_BUDGET": "33MiB"}) as running_:
        health = running_.health()
    assert health is not None
    assert health["budget"]["total"] == 33 << 20


def test_an_unknown_setting_and_media_that_a_target_does_not_support_are_refused(origin: Origin) -> None:
    with pytest.raises(BenchError, match="COLOUR"), TARGETS["seed"].start(origin, settings={"COLOUR": "red"}):
        pytest.fail("the target has started")
    with TARGETS["seed"].start(origin) as running_, pytest.raises(BenchError, match="hls/ts"):
        running_.path("hls/ts")


def test_the_error_for_a_child_that_does_not_start_quotes_its_last_output() -> None:
    command = [sys.executable, "-c", "import sys; print('before'); sys.exit('no luck today')"]
    with running("The unlucky", command) as child, pytest.raises(TargetFailed, match=r"The unlucky .*no luck today"):
        child.said("ready", SECONDS)


def test_a_child_process_that_is_not_ready_in_time_is_killed() -> None:
    command = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
    with running("The slow", command) as child:
        assert child.said("up", SECONDS)
        with pytest.raises(TargetFailed, match=re.escape("within 0 s")):
            child.said("ready", 0.1)
        processes = family(child.pid)
    assert gone(processes)


def test_checking_a_target_that_has_died_raises_target_died(origin: Origin) -> None:
    with TARGETS["relay"].start(origin) as running_:
        running_.check()
        os.kill(running_.pid, signal.SIGKILL)
        psutil.Process(running_.pid).wait(SECONDS)
        with pytest.raises(TargetDied):
            running_.check()
        with pytest.raises(TargetDied):
            running_.health()


def test_a_child_that_ignores_sigterm_is_killed_together_with_its_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child starts a second process, which starts a third. The second process ends at once, so the third process is
    an orphan."""
    monkeypatch.setattr("serverpy.bench.measure.children.STOP_SECONDS", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    last = f"{deaf}; import os; print('orphan', os.getpid(), flush=True); signal.pause()"
    middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {last!r}])"
    root = f"{deaf}; import subprocess, sys; subprocess.run([sys.executable, '-c', {middle!r}]); signal.pause()"
    with running("The deaf", [sys.executable, "-c", root]) as child:
        orphan = psutil.Process(int(child.said(r"orphan (\d+)\n", SECONDS)[1]))
        processes = [psutil.Process(child.pid), orphan]
    assert gone(processes)


def test_each_child_process_has_its_own_directory_for_its_files() -> None:
    command = [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read(), flush=True)", "{directory}/words"]
    with running("The reader", command, files={"words": "in {directory}"}) as child:
        assert Path(child.said(r"in (\S+)", SECONDS)[1]) == child.directory
