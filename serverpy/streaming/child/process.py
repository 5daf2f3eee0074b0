"""A yt-dlp child process, with its pipes and its private directory."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import resource
import secrets
import signal
import subprocess
from contextlib import ExitStack, suppress
from functools import partial
from typing import BinaryIO

from serverpy.body import Source
from serverpy.processes import Process, in_starter, kill_group
from serverpy.streaming.child.command import arguments, environment
from serverpy.streaming.child.files import ChildFiles, new_directory
from serverpy.streaming.child.messages import MESSAGE_BYTES, ChildMessages, Found
from serverpy.streaming.child.options import ChildOptions
from serverpy.streaming.os_pipe import SMALLEST_BYTES, HandOver, PipeReader, open_pipe
from serverpy.streaming.slots import Slot
from serverpy.tasks import Closing, cancel, spawn

log = logging.getLogger(__name__)

FILE_BYTES = 256 * 1024 * 1024
"""Maximum size, in bytes, of a file that a child may write into its directory."""
DATA_BYTES = 1024 * 1024 * 1024
"""Maximum size, in bytes, of a child's data segment (RLIMIT_DATA). A worker process (`ytdlp/limits.py`) has the same
limit, increased by the size of the stacks of its threads."""
CPU_SECONDS = 4 * 3600
"""Maximum CPU time, in seconds, of a child that sends media. This time suffices for a terabyte of media. Before a child
has found the media, the limit of its CPU time is twice EXTRACT_TIMEOUT."""
LIFE_SECONDS = 24 * 3600.0
"""Maximum lifetime of a child, in seconds since its start. ServerPY then kills the child, even if the child is still
sending media."""
TERMINATE_SECONDS = 1.0
EXIT_SECONDS = 10.0
"""Maximum number of seconds that a child may run after it has closed its standard output."""


class Child:
    """A running child process. Its owner reads `out`, and must call `aclose`, which ends the child and then releases
    `slot`.

    `aclose` closes the output pipe, sends SIGTERM to the child's process group, and SIGKILL a second later. `aclose`
    waits for the child to exit, stops reading the child's messages, and removes the child's directory. Idempotent.
    """

    def __init__(self, options: ChildOptions, source: Source, slot: Slot, hand_over: HandOver) -> None:
        """Start the child process. Raises `OSError` if the child cannot be started. In this case, the pipes are closed
        and the directory is removed, but the caller must release `slot`."""
        marker = secrets.token_hex(8)
        with ExitStack() as failed, ExitStack() as theirs:
            reading_end, out = open_pipe(SMALLEST_BYTES if source.head_only else hand_over.pipe_bytes)
            theirs.callback(os.close, out)
            self.out = PipeReader(reading_end, hand_over.chunk_bytes)
            failed.callback(self.out.close)
            reading_end, err = open_pipe(MESSAGE_BYTES)
            theirs.callback(os.close, err)
            self._err = PipeReader(reading_end, MESSAGE_BYTES)
            failed.callback(self._err.close)
            self._directory = new_directory()
            failed.callback(self._directory.remove)
            files = ChildFiles(self._directory.path)
            files.write(options)
            started = in_starter(partial(_start, options, source, marker, files, out, err)).result()
            failed.callback(kill_group, started)
            _limit(started, options.timeouts.extract)
            self._process = Process(started)
            failed.pop_all()
        self._slot = slot
        self.messages = ChildMessages(marker)
        self._listening = spawn(self._listen(), name="messages of a yt-dlp child")
        self._end = asyncio.get_running_loop().call_later(LIFE_SECONDS, self._process.signal, signal.SIGKILL)
        self.aclose = Closing(self._close, "close a yt-dlp child")

    async def found(self) -> Found | None:
        """Wait until the child states the format that it will stream, and return that format. Returns None if the child
        exits without stating a format."""
        waiting = spawn(self.messages.found.wait(), name="what a yt-dlp child found")
        try:
            await asyncio.wait((waiting, self._listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(waiting)
        return self.messages.value

    async def exit_code(self) -> int:
        """Wait for the child to exit, and return its exit code. Raises `TimeoutError` if the child does not exit within
        EXIT_SECONDS."""
        code = await self._process.wait(EXIT_SECONDS)
        if code is None:
            raise TimeoutError("the child does not exit")
        # read all messages first, because the last message of a failed child states the error
        async with asyncio.timeout(EXIT_SECONDS):
            await asyncio.wait([self._listening])
        return code

    def has_begun(self) -> None:
        """Raise the child's limit on CPU time to CPU_SECONDS, because the child has found the media and sends it."""
        with suppress(ProcessLookupError):
            _, most = resource.prlimit(self._process.pid, resource.RLIMIT_CPU)
            resource.prlimit(self._process.pid, resource.RLIMIT_CPU, (most, most))

    async def _listen(self) -> None:
        while data := await self._err.read():
            self.messages.feed(data)

    async def _close(self) -> None:
        try:
            self.out.close()
            self._end.cancel()
            for number in (signal.SIGTERM, signal.SIGKILL):
                if not self._process.has_exited:
                    self._process.signal(number)
                    await self._process.wait(TERMINATE_SECONDS)
            if not self._process.has_exited:
                log.error("the yt-dlp child process %s does not exit after SIGKILL", self._process.pid)
            await cancel(self._listening)
            self._err.close()
            self._directory.remove()
        finally:
            self._slot.release()


def _start(
    options: ChildOptions, source: Source, marker: str, files: ChildFiles, out: int, err: int
) -> subprocess.Popen[bytes]:
    # `Popen` is used instead of asyncio's subprocesses, because it can reap the child in any event loop or thread. The
    # call returns in 1 or 2 ms.
    with in_memory(source.url) as url:
        return subprocess.Popen(
            arguments(options, source, marker, files),
            stdin=url,
            stdout=out,
            stderr=err,
            cwd=files.work,
            env=environment(options, files),
            start_new_session=True,
        )


def in_memory(text: str) -> BinaryIO:
    """Return a file in memory that contains `text` in UTF-8, at its beginning. A pipe does not suffice: a write of a
    long text may block, or fail if the child ends before it reads."""
    file = open(os.memfd_create("serverpy-url", os.MFD_CLOEXEC), "w+b")  # noqa: SIM115  # the caller closes it
    file.write(text.encode("utf-8", "surrogateescape"))
    file.seek(0)
    return file


def _limit(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Set the resource limits of a child that has not found the media yet. `seconds` is the maximum time for the search
    for the media."""
    cpu = 2 * math.ceil(seconds)  # twice `seconds`, for yt-dlp and a JavaScript runtime
    for limit, soft, hard in (
        (resource.RLIMIT_FSIZE, FILE_BYTES, FILE_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_DATA, DATA_BYTES, DATA_BYTES),
        (resource.RLIMIT_CPU, cpu, max(cpu, CPU_SECONDS)),
    ):
        _, most = resource.prlimit(process.pid, limit)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.prlimit(process.pid, limit, (soft, hard))
