"""Functions that repair the standard streams of a command: streams that are closed, because a daemon or a shell
(`>&-`) started the command without them, and a stdout whose encoding lacks characters."""

from __future__ import annotations

import io
import os
import sys


def open_missing_streams() -> None:
    """Open each of the descriptors 0, 1 and 2 that is closed. Otherwise sockets would get these numbers, and libuv
    aborts the process when it closes such a descriptor.

    A replaced stdin is empty, and text that is printed to a replaced stdout or stderr is lost. A write of media to a
    replaced stdout fails as if the reader of a pipe had closed it.
    """
    for number, fill in enumerate((_fill_with_nothing, _fill_with_broken_pipe, _fill_with_nothing)):
        try:
            os.fstat(number)
        except OSError:
            fill(number)
    # Python has set the file objects of closed descriptors to None. The new file objects stay open until the process
    # ends.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def replace_missing_characters() -> None:
    """Make stdout print `?` for each character that its encoding lacks. Otherwise, if the locale is not UTF-8, a title
    or a help text could end the command with an exception. stderr already replaces such characters."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


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
