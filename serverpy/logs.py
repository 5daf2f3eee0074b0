"""The logging of the server process to stderr, one line per record, as text or as JSON.

stderr may be a pipe that nobody reads (a stuck log driver). A write to such a pipe blocks, so only a separate thread
writes, and neither the event loop nor any other thread waits.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import Any

QUEUE_BYTES = 1024 * 1024
"""Maximum size of all lines that wait to be written to stderr, in bytes, including LINE_BYTES for each line."""
LINE_BYTES = 64
"""Memory, in bytes, that the queue counts for a line in addition to its text."""
MESSAGE_LENGTH = 2048
"""Maximum length of the message of a log line, and of each of its fields, in characters."""
TRACEBACK_LENGTH = 16 * 1024
"""Maximum length of a traceback in the log, in characters."""
WRITE_BYTES = select.PIPE_BUF
"""Maximum number of bytes in one write. A pipe takes a write of this size atomically, so lines of several processes do
not mix."""
STUCK_SECONDS = 1.0
"""Maximum number of seconds since stderr last accepted a byte. After this time, `flush` and `close` stop waiting."""
MALFORMED_REQUEST = "Invalid HTTP request received."
"""The message that uvicorn logs for each malformed request."""
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def safe(text: str, most: int = MESSAGE_LENGTH) -> str:
    """Return `text`, which may come from a client, a page or a media server, in a form that cannot look like another
    line of the log: truncated to `most` characters, with line breaks and other unprintable characters escaped."""
    left_out = len(text) - most
    text = text[:most]
    if not text.isprintable():
        text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return f"{text}… ({left_out} more characters)" if left_out > 0 else text


class TextFormatter(logging.Formatter):
    """A log formatter that writes one line of text per record, and a traceback below it if there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # this name overrides a method of `logging.Formatter`
        record.message = safe(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei)[:TRACEBACK_LENGTH].splitlines()
        return "\n".join(f"  {safe(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """A log formatter that writes one JSON object per line, with the time (UTC, RFC 3339), the level, the logger, the
    message, the `extra` fields and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": safe(record.getMessage()),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}
        line |= {name: safe(value) if isinstance(value, str) else value for name, value in extra.items()}
        if record.exc_info:
            lines = self.formatException(record.exc_info)[:TRACEBACK_LENGTH].split("\n")
            line["exception"] = "\n".join(map(safe, lines))[:TRACEBACK_LENGTH]
        return json.dumps(line, default=str, ensure_ascii=False)


class MalformedRequests(logging.Filter):
    """A log filter that gives uvicorn's line about a malformed request the level DEBUG: anybody can send such requests,
    and the operator cannot do anything about them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg != MALFORMED_REQUEST:
            return True
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


class StderrHandler(logging.Handler):
    """A log handler that writes to stderr in a thread. The first log line starts the thread. The handler drops lines
    that do not fit into the queue, and logs their number as soon as the queue has room again. `close` waits for the
    thread to write the queue, as long as stderr takes bytes."""

    def __init__(self, *, queue_bytes: int = QUEUE_BYTES) -> None:
        super().__init__()
        self._descriptor = _stderr()
        self._queue_bytes = queue_bytes
        self._changed = threading.Condition(self.lock)  # `logging` holds this lock when it calls `emit`
        self._lines: deque[bytes] = deque()
        self._held_bytes = 0
        self._writes = 0
        self._untold = 0
        self._thread: threading.Thread | None = None
        self._closed = False
        self.dropped = 0
        """Number of log lines dropped since the handler was created."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001  # a `%` error: the caller's arguments do not match the format of the message
            line = f"a log line cannot be formatted: {safe(repr(record.msg))}\n".encode()
        with self._changed:
            self._put(line)

    def flush(self) -> None:
        """Wait until the thread has written all lines. Stops waiting if stderr takes no byte for STUCK_SECONDS."""
        with self._changed:
            while self._held_bytes and self._changed.wait_for(partial(self._has_written, self._writes), STUCK_SECONDS):
                continue

    def close(self) -> None:
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _has_written(self, writes: int) -> bool:
        return self._writes > writes

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _put(self, line: bytes) -> None:
        size = len(line) + LINE_BYTES
        # after `close`, the interpreter may be about to end, and a thread that starts at that time never runs
        if self._closed or self._held_bytes + size > self._queue_bytes:
            self._drop(1)
            return
        if self._untold:
            self._tell()
        self._lines.append(line)
        self._held_bytes += size
        # a process made by fork(2) does not have the thread of its parent
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _tell(self) -> None:
        """Queue a line that states how many lines were dropped."""
        message = "%d log lines were dropped: stderr did not accept them in time"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (self._untold,), None)
        self._untold = 0
        line = self._line(record)
        self._lines.append(line)
        self._held_bytes += len(line) + LINE_BYTES

    # Methods that run in the thread

    def _write_all(self) -> None:
        while lines := self._next():
            is_written = self._write(b"".join(lines))
            with self._changed:
                self._writes += 1
                self._held_bytes -= sum(len(line) + LINE_BYTES for line in lines)
                if not is_written:
                    self._drop(len(lines))
                elif self._untold and not self._lines:
                    self._tell()
                self._changed.notify_all()

    def _next(self) -> list[bytes]:
        """Wait for queued lines, and return as many lines as fit into one write, or a single line that is longer.
        Returns [] if the handler is closed."""
        with self._changed:
            while not self._lines:
                if self._closed:
                    return []
                self._changed.wait()
            lines = [self._lines.popleft()]
            size = len(lines[0])
            while self._lines and size + len(self._lines[0]) <= WRITE_BYTES:
                size += len(self._lines[0])
                lines.append(self._lines.popleft())
            return lines

    def _write(self, data: bytes) -> bool:
        """Write `data` to stderr, and wait while stderr accepts no bytes. Returns False if stderr is closed."""
        view = memoryview(data)
        while view and self._descriptor is not None:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # stderr is non-blocking, because the parent process set it so
                _wait_until_writable(self._descriptor)
            except OSError:
                break
        return not view


def dropped_lines() -> int:
    """Return the number of log lines that this process has dropped."""
    return sum(each.dropped for each in logging.getLogger().handlers if isinstance(each, StderrHandler))


def _stderr() -> int | None:
    """Return the file descriptor of stderr. Returns None if the process started without stderr, because descriptor 2
    may then be another file."""
    try:
        return None if sys.stderr is None else sys.stderr.fileno()
    except (OSError, ValueError):
        return None


def _wait_until_writable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def log_config(level: str, style: str) -> dict[str, Any]:
    """Return the logging configuration that uvicorn passes to `logging.config.dictConfig` in each of its processes.
    `style` is "text" or "json"."""
    formatters: dict[str, Any] = {
        "text": {"()": "serverpy.logs.TextFormatter", "fmt": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
        "json": {"()": "serverpy.logs.JsonFormatter"},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {"stderr": {"class": "serverpy.logs.StderrHandler", "formatter": style}},
        "filters": {"malformed": {"()": "serverpy.logs.MalformedRequests"}},
        "loggers": {"uvicorn.error": {"filters": ["malformed"]}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
    }
