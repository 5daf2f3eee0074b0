"""The standard streams of a command. They may be closed, because a daemon or a shell (`>&-`) started the command
without them. Their encoding may lack characters. Writing to them may fail, because the disk is full or the reader of
the pipe has left.

If text cannot be written to stdout, the command ends at once: with status 1 and the reason on stderr or, if stdout is
closed or its reader has left, with status OUTPUT_CLOSED and without a message, like a program that SIGPIPE kills. Text
that cannot be written to stderr is discarded, and the command continues, because such text only reports its progress.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from typing import Any, TextIO

OUTPUT_CLOSED = 128 + signal.SIGPIPE if sys.platform == "linux" else 1
"""Exit status of a command if the reader of its stdout has left. On Linux, a shell reports the same status for a
process that SIGPIPE killed."""


class OutputFailed(Exception):
    """Error: text could not be written to stdout. `reason` is None if the reader of stdout has left."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason)
        self.reason = reason


class _Waiting(io.FileIO):
    """A file whose `write` waits until the descriptor accepts bytes, even if another process has made the pipe or
    terminal non-blocking."""

    def write(self, data: Any, /) -> int:
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written


class _Output(_Waiting):
    """The file of stdout. Its `write` raises `OutputFailed` instead of `OSError`, so that a caller cannot mistake the
    failure for one of another file."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise OutputFailed(None) from None
        except OSError as error:
            raise OutputFailed(error.strerror) from None


class _Diagnostics(_Waiting):
    """The file of stderr or of a server's stdout. Its `write` discards bytes that cannot be written."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_missing_streams() -> None:
    """Open each of the descriptors 0, 1 and 2 that is closed. Otherwise sockets would get these numbers, and libuv
    aborts the process when it closes such a descriptor.

    A replaced stdin is empty, and text that is printed to a replaced stderr is lost. A write to a replaced stdout fails
    as if the reader of a pipe had closed it.
    """
    for number, fill in enumerate((_fill_with_nothing, _fill_with_broken_pipe, _fill_with_nothing)):
        try:
            os.fstat(number)
        except OSError:
            fill(number)
    # Python has set the file object of a closed stdin to None. The new one stays open until the process ends.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115


def replace_output_streams() -> None:
    """Give failed writes to stdout and stderr the effects that this module describes, and make stdout print `?` for
    each character that its encoding lacks. Otherwise, if the locale is not UTF-8, a title or a help text could end the
    command with an exception. Does nothing to a stream that a caller of `main` has already replaced, such as a test."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout, "replace")
    if sys.stderr is sys.__stderr__:
        ignore_lost_text_of("stderr")


def ignore_lost_text_of(name: str) -> None:
    """Replace the stream `name` of `sys`, `stdout` or `stderr`, by one that discards text that cannot be written. A
    server calls this function for its stdout, because it must serve clients even if nobody reads its output. Raises
    `OutputFailed` if text that is still buffered for stdout cannot be written."""
    before: TextIO | None = getattr(sys, name)
    if before is not None:
        before.flush()
    number = 1 if name == "stdout" else 2
    errors = "replace" if name == "stdout" else "backslashreplace"
    setattr(sys, name, _text(_Diagnostics(number, "w", closefd=False), before, errors))


def discard_output() -> None:
    """Discard the text that is buffered for stdout, so that Python does not try to write it again when it exits."""
    _fill_with_nothing(1)


def _text(raw: io.FileIO, before: TextIO | None, errors: str) -> io.TextIOWrapper:
    """Return a text stream to `raw` with the encoding of `before`, or that of the locale if `before` is None. Like the
    streams of Python, it flushes after each line if `raw` is a terminal or stderr."""
    encoding = None if before is None else before.encoding
    by_line = raw.fileno() == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=by_line)


def _fill_with_nothing(number: int) -> None:
    _move(os.open(os.devnull, os.O_RDWR), number)


def _fill_with_broken_pipe(number: int) -> None:
    reading, writing = os.pipe()
    _move(writing, number)  # if `reading` is the descriptor `number`, `dup2` closes it here
    if reading != number:
        os.close(reading)


def _move(descriptor: int, number: int) -> None:
    """Move the descriptor to `number`, under which child processes inherit it."""
    if descriptor == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(descriptor, number)
        os.close(descriptor)
