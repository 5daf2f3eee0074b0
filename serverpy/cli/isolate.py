"""`get --isolate`: downloads each page in a child process. The child runs the same command, but reports to its parent
instead of to a person on a terminal.

    parent ══ stdin: the URL as one line; the child ends when it closes ══▶ child
    parent ◀═ reports, one JSON object per line ═══════════════════════════ child

Reports come on the child's stdout, or on its stderr if its stdout carries the media (`-o -`). The URL is not an
argument of the child, because other users of the machine can read the arguments of a process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from serverpy.cli.jobs import Failed, Job, OutputClosed, Watcher
from serverpy.cli.progress import Report
from serverpy.settings import Settings
from serverpy.tasks import cancel, spawn

LINE_BYTES = 1 << 20
STOP_SECONDS = 10.0
"""Seconds that a child process may take to stop. During this time it closes its worker and writes its data to the
disk."""


class Isolated:
    """A `Runner` that downloads in child processes. `options` are the options of `get` for one page, without
    `--report`."""

    def __init__(self, options: Sequence[str], settings: Settings, folder: Path | None, watcher: Watcher) -> None:
        self._options = options
        # Secrets are passed to the child in its environment, because other users could read them on its command line.
        self._environment = {**os.environ, **settings.to_environment()}
        self._folder = folder
        self._watcher = watcher

    async def run(self, job: Job) -> Sequence[Job]:
        process = await self._start(job)
        assert process.stdin is not None
        process.stdin.write(os.fsencode(job.url) + b"\n")  # asyncio writes it while the reports are read
        listeners = [
            spawn(self._listen(job, stream), name="reports of a child")
            for stream in (process.stdout, process.stderr)
            if stream is not None
        ]
        try:
            failures = sum(await asyncio.gather(*listeners))
            code = await process.wait()
        except BaseException:
            await _stop(process)
            raise
        finally:
            for listener in listeners:
                await cancel(listener)
        if code and not failures:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            self._watcher.see(job, Failed("child_failed", f"The child process {how}."))
        return ()

    async def _start(self, job: Job) -> asyncio.subprocess.Process:
        report = 2 if self._folder is None else 1
        output = "-" if self._folder is None else str(self._folder)
        item = () if job.item is None else ("--item", str(job.item))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serverpy", "get", *self._options, *item, "--report", str(report)),
            *("-o", output, "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=None if self._folder is None else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl+C must reach only this process, which then stops its children
        )

    async def _listen(self, job: Job, stream: asyncio.StreamReader) -> int:
        """Read the child's output until EOF: pass each report on to the watcher, and each other line as text. Returns
        the number of reports that explain an exit status other than 0."""
        failures = 0
        while line := await stream.readline():
            report = _read(line)
            if report.event is not None:
                failures += isinstance(report.event, Failed | OutputClosed)
                self._watcher.see(Job(job.order, report.url, report.item), report.event)
            else:
                self._watcher.say(report.said)
        return failures


def _read(line: bytes) -> Report:
    try:
        return msgspec.json.decode(line, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Report(said=line.decode(errors="replace").rstrip())


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Terminate the child, and kill it if it has not ended after STOP_SECONDS. Returns once the child has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
                return


def url_from_parent() -> str:
    """Read the URL of a child of `get --isolate` from stdin, to which the parent writes it as one line. Blocks until
    the line has arrived, or the parent has closed stdin."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):  # unbuffered: `end_with_parent` reads on
        line += byte
    return os.fsdecode(bytes(line))


def end_with_parent() -> None:
    """Make this process end cleanly when its parent is gone for any reason. A child of `get --isolate` calls this in
    its running event loop."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, heard)
