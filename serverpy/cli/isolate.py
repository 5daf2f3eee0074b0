"""`get --isolate`: each page in a child, which is this same command line told to report to us instead of to a person.

    parent ══ stdin (only ever closed: the child ends with us) ══▶ child
    parent ◀═ reports, a JSON object a line ═══════════════════════ child

Reports come on the child's stdout; where that carries the media (`-o -`) they come on its stderr.
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

from serverpy.cli.jobs import Failed, Job, Watcher
from serverpy.cli.progress import Report
from serverpy.settings import Settings
from serverpy.tasks import cancel, spawn

LINE_BYTES = 1 << 20
STOP_SECONDS = 10.0
"""A child that was told to stop closes its worker, and puts what it has on the disk."""


class Isolated:
    """A `Runner`. `options` are the command line's for one page, without where to report."""

    def __init__(self, options: Sequence[str], settings: Settings, folder: Path | None, watcher: Watcher) -> None:
        self._options = options
        self._environment = {**os.environ, **settings.to_environment()}  # a secret has no place in a command line
        self._folder = folder
        self._watcher = watcher

    async def run(self, job: Job) -> Sequence[Job]:
        process = await self._start(job)
        ears = [
            spawn(self._listen(job, stream), name="reports of a child")
            for stream in (process.stdout, process.stderr)
            if stream is not None
        ]
        try:
            failures = sum(await asyncio.gather(*ears))
            code = await process.wait()
        except BaseException:
            await _stop(process)
            raise
        finally:
            for ear in ears:
                await cancel(ear)
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
            *("-o", output, "--", job.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=None if self._folder is None else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl+C is ours: we tell the children
        )

    async def _listen(self, job: Job, stream: asyncio.StreamReader) -> int:
        """Pass on what comes, to the end; how many failures were among it. What is no report is said as it is."""
        failures = 0
        while line := await stream.readline():
            report = _read(line)
            if report.event is not None:
                failures += isinstance(report.event, Failed)
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
    """Ask, then insist; returns when the child is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
                return


def end_with_parent() -> None:
    """In the child, in its running loop: when the parent is gone, however it went, so are we, in good order."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, heard)
