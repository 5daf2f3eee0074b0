"""A yt-dlp child process, with its pipes and its private directory."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import secrets
import signal
import subprocess
from contextlib import ExitStack

from serverpy.body import Source
from serverpy.streaming.child.command import arguments, environment
from serverpy.streaming.child.files import ChildFiles, new_directory
from serverpy.streaming.child.messages import MESSAGE_BYTES, ChildMessages, Found
from serverpy.streaming.child.options import ChildOptions
from serverpy.streaming.os_pipe import SMALLEST_BYTES, HandOver, PipeReader, open_pipe
from serverpy.streaming.slots import Slot
from serverpy.tasks import Closing, cancel, spawn

log = logging.getLogger(__name__)

FILE_BYTES = 256 * 1024 * 1024
"""Maximum size, in bytes, of a file (a fragment) that a child may write into its directory."""
TERMINATE_SECONDS = 1.0
EXIT_SECONDS = 10.0
"""Maximum number of seconds that a child may run after it has closed its standard output."""


class Child:
    """A running child process. Its owner reads `out`, and must call `aclose`, which ends the child and then releases
    `slot`.

    `aclose` closes the output pipe, sends SIGTERM to the child's process group, and SIGKILL a second later. It then
    waits for the child to exit, stops reading its messages, and removes its directory.
    """

    def __init__(self, options: ChildOptions, source: Source, slot: Slot, hand_over: HandOver) -> None:
        """Start the child process. Raises `OSError` if it cannot be started. The caller must then release `slot`; pipes
        and directory are already removed."""
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
            self._process = _start(options, source, marker, files, out, err)
            failed.callback(_kill, self._process)
            _limit(self._process)
            self._pidfd = os.pidfd_open(self._process.pid)
            failed.pop_all()
        self._slot = slot
        self.messages = ChildMessages(marker)
        self._listening = spawn(self._listen(), name="messages of a yt-dlp child")
        self._exited: asyncio.Task[int] = spawn(self._wait(), name="exit of a yt-dlp child")
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
        """Wait for the child to exit, and return its exit code. Raises `TimeoutError` if it does not exit within
        EXIT_SECONDS."""
        async with asyncio.timeout(EXIT_SECONDS):
            code = await asyncio.shield(self._exited)
            # read all messages first, because the last message of a failed child states the error
            await asyncio.wait([self._listening])
        return code

    async def _listen(self) -> None:
        while data := await self._err.read():
            self.messages.feed(data)

    async def _wait(self) -> int:
        """Wait for the child to exit, reap it, and return its exit code. Only this task reaps the child."""
        loop = asyncio.get_running_loop()
        exited = asyncio.Event()
        loop.add_reader(self._pidfd, exited.set)
        try:
            await exited.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        # The system does not reuse the process ID and the group ID before the child is reaped, so killing its process
        # group is safe here.
        self._signal(signal.SIGKILL)
        return self._process.wait()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            log.debug("the child's process group has already exited")

    async def _close(self) -> None:
        try:
            self.out.close()
            for number in (signal.SIGTERM, signal.SIGKILL):
                if not self._exited.done():
                    self._signal(number)
                    await asyncio.wait([self._exited], timeout=TERMINATE_SECONDS)
            if not self._exited.done():
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
    return subprocess.Popen(
        arguments(options, source, marker, files),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=files.work,
        env=environment(options, files),
        start_new_session=True,
    )


def _limit(process: subprocess.Popen[bytes]) -> None:
    for limit, value in ((resource.RLIMIT_FSIZE, FILE_BYTES), (resource.RLIMIT_CORE, 0)):
        resource.prlimit(process.pid, limit, (value, value))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill and reap a child if a step after its start failed. No task waits for the child yet."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
