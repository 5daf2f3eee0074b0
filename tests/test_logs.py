"""Tests of log lines. They are text for people or JSON for machines, and no caller waits if stderr is slow."""

from __future__ import annotations

import fcntl
import inspect
import json
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serverpy.logs import (
    MALFORMED_REQUEST,
    MESSAGE_LENGTH,
    TRACEBACK_LENGTH,
    WRITE_BYTES,
    JsonFormatter,
    MalformedRequests,
    StderrHandler,
    TextFormatter,
    log_config,
)
from serverpy.settings import load_settings
from tests.aio import wait_for
from tests.wire import Exchange, request


def test_a_json_log_line_has_the_message_and_the_extra_fields_and_the_exception() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.getLogger("a.b").makeRecord(
            "a.b", logging.WARNING, "file", 1, "gave %s", ("up",), sys.exc_info(), extra={"stream": "7"}
        )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["level"], read["logger"], read["message"], read["stream"]) == ("warning", "a.b", "gave up", "7")
    assert read["exception"].endswith("ValueError: broken")
    assert read["time"].endswith("Z")


@pytest.mark.parametrize("formatter", [TextFormatter("%(levelname)s %(message)s"), JsonFormatter()])
def test_untrusted_text_in_a_log_line_is_escaped_and_truncated(formatter: logging.Formatter) -> None:
    """A client, a page or a media server must not be able to forge a log line, nor to send control codes to a terminal
    that shows the log."""
    hostile = "x\r\nINFO forged\x1b[2J\u2028\u202e" + "y" * 100_000
    try:
        raise ValueError(hostile)
    except ValueError:
        record = logging.getLogger("a").makeRecord(
            "a", logging.WARNING, "file", 1, "refused %s", (hostile,), sys.exc_info(), extra={"host": hostile}
        )
    line = formatter.format(record)
    assert all(not each.startswith("INFO") and (each.isprintable() or not each) for each in line.split("\n"))
    assert len(line) < 2 * MESSAGE_LENGTH + 2 * TRACEBACK_LENGTH
    assert "refused x\\r\\nINFO forged" in line.replace("\\\\", "\\")


def test_the_log_configuration_is_valid_for_text_and_json() -> None:
    for style in ("text", "json"):
        config = log_config(load_settings().log_level, style)
        assert config["handlers"]["stderr"]["formatter"] == style
        assert set(config["formatters"]) == {"text", "json"}
        assert config["root"]["level"] == "INFO"


@pytest.mark.parametrize(("level", "lines"), [("info", ["WARNING"]), ("debug", ["DEBUG", "WARNING"])])
def test_the_log_line_of_uvicorn_about_a_malformed_request_has_the_level_debug(level: str, lines: list[str]) -> None:
    config = log_config(level, "text")
    assert config["loggers"]["uvicorn.error"]["filters"] == ["malformed"]
    logger = logging.getLogger("tests.malformed")
    logger.setLevel(level.upper())
    records = [
        logger.makeRecord(logger.name, logging.WARNING, "file", 1, message, (), None)
        for message in (MALFORMED_REQUEST, "another")
    ]
    assert [record.levelname for record in records if MalformedRequests().filter(record)] == lines


def test_uvicorn_logs_a_malformed_request_with_the_text_that_the_filter_looks_for() -> None:
    assert MALFORMED_REQUEST in inspect.getsource(HttpToolsProtocol.data_received)


# Tests with a stderr that is slow, closed, or never read


@dataclass
class Stderr:
    """A logger, and its handler, which writes to a pipe of 4 KiB in place of stderr."""

    handler: StderrHandler
    logger: logging.Logger
    reading_end: int
    writing_end: int

    def fill(self) -> None:
        """Fill the pipe, so that the next write has to wait."""
        os.write(self.writing_end, b"x" * (WRITE_BYTES - 1) + b"\n")

    def read(self) -> str:
        """Read the bytes that are in the pipe at the moment. Returns "" if the pipe is empty."""
        try:
            return os.read(self.reading_end, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def read_line(self) -> None:
        """Wait for a line, and read it byte by byte."""
        while True:
            wait_for(lambda: select.select([self.reading_end], [], [], 0)[0])
            if os.read(self.reading_end, 1) == b"\n":
                return

    def read_until(self, text: str) -> list[str]:
        """Read log lines until `text` has arrived. Returns the lines."""
        found = ""

        def has_come() -> bool:
            nonlocal found
            found += self.read()
            return text in found and found.endswith("\n")

        wait_for(has_come, lambda: found)
        return found.splitlines()


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stderr]:
    reading_end, writing_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading_end, False)
    fcntl.fcntl(writing_end, fcntl.F_SETPIPE_SZ, WRITE_BYTES)
    with open(reading_end, "rb"), open(writing_end, "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        handler = StderrHandler(queue_bytes=20_000)
        logger = logging.Logger("test")
        logger.addHandler(handler)
        pipe = Stderr(handler, logger, reading_end, writing_end)
        yield pipe
        pipe.read()
        handler.close()


def test_log_lines_are_written_in_order(stderr: Stderr) -> None:
    for number in range(100):
        stderr.logger.warning("line %d: größer\udc80", number)
    assert stderr.read_until("line 99") == [f"line {number}: größer\\udc80" for number in range(100)]
    assert stderr.handler.dropped == 0


def test_a_caller_that_logs_does_not_wait_for_a_pipe_that_nobody_reads(stderr: Stderr) -> None:
    stderr.fill()
    for number in range(1000):
        stderr.logger.warning("line %d", number)
    dropped = stderr.handler.dropped
    assert 0 < dropped < 1000
    _, *lines = stderr.read_until("dropped")
    assert lines == [
        *(f"line {number}" for number in range(1000 - dropped)),
        f"{dropped} log lines were dropped: stderr did not accept them in time",
    ]
    stderr.logger.warning("later")
    assert stderr.read_until("later") == ["later"]
    assert stderr.handler.dropped == dropped


def test_the_number_of_dropped_lines_is_logged_before_the_next_line(stderr: Stderr) -> None:
    stderr.fill()
    for _ in range(1000):
        stderr.logger.warning("early" * 20)
    dropped = stderr.handler.dropped
    for _ in range(1001 - dropped):  # the line that filled the pipe, and the lines that were not dropped
        stderr.read_line()
    stderr.logger.warning("late")
    assert stderr.handler.dropped == dropped
    assert stderr.read_until("late\n") == [
        f"{dropped} log lines were dropped: stderr did not accept them in time",
        "late",
    ]


def test_a_log_line_longer_than_the_pipe_is_written_completely(stderr: Stderr) -> None:
    stderr.logger.warning("x" * 10_000 + "!")
    assert stderr.read_until("!") == ["x" * 10_000 + "!"]


def test_a_log_line_that_exceeds_the_size_limit_is_dropped(stderr: Stderr) -> None:
    stderr.logger.warning("x" * 100_000)
    stderr.logger.warning("short")
    assert stderr.read_until("short") == ["1 log lines were dropped: stderr did not accept them in time", "short"]


def test_a_log_call_whose_arguments_do_not_match_its_message_is_reported_in_a_log_line(stderr: Stderr) -> None:
    stderr.logger.warning("%d", "one")
    assert stderr.read_until("cannot") == ["a log line cannot be formatted: '%d'"]


def test_a_non_blocking_stderr_gets_every_log_line(stderr: Stderr) -> None:
    os.set_blocking(stderr.writing_end, False)
    for number in range(200):
        stderr.logger.warning("line %d of many that fill the pipe", number)
    lines = stderr.read_until("line 199")
    assert len(lines) == 200


def test_closing_the_log_handler_writes_the_waiting_lines_but_does_not_wait_forever(stderr: Stderr) -> None:
    stderr.logger.warning("last words")
    stderr.handler.close()
    assert stderr.read() == "last words\n"
    for _ in range(500):
        stderr.logger.warning("nobody reads this")
    stderr.handler.close()  # the call returns although the pipe is full


@pytest.mark.parametrize("number", [1, 1000])
def test_logging_to_a_closed_stderr_raises_no_error(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    reading_end, writing_end = os.pipe2(os.O_CLOEXEC)
    os.close(reading_end)
    with open(writing_end, "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        handler = StderrHandler()
        for _ in range(number):
            handler.handle(logging.makeLogRecord({"msg": "unheard"}))
        handler.close()
        assert handler.dropped >= number


def test_log_lines_that_cannot_be_written_to_a_full_disk_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open("/dev/full", "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        handler = StderrHandler()
        for _ in range(100):
            handler.handle(logging.makeLogRecord({"msg": "unheard"}))
        handler.close()
        assert handler.dropped >= 100  # the lines that report dropped lines are dropped, too


def test_a_line_that_is_logged_after_the_handler_was_closed_is_dropped_and_starts_no_thread(stderr: Stderr) -> None:
    """A thread that is started while the interpreter shuts down never runs, so `Thread.start` would wait forever."""
    stderr.handler.close()
    stderr.logger.warning("too late")
    assert (stderr.handler.dropped, stderr.handler._thread) == (1, None)


def test_a_process_without_stderr_writes_no_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """If stderr is closed, file descriptor 2 may belong to a client's socket."""
    monkeypatch.setattr(sys, "stderr", None)
    handler = StderrHandler()
    handler.handle(logging.makeLogRecord({"msg": "unheard"}))
    handler.close()
    assert handler.dropped == 1


PROGRAM = """
import logging, logging.config
from serverpy.logs import log_config
logging.config.dictConfig(log_config("info", "text"))
for number in range(5000):
    logging.getLogger("a").info("line %d", number)
"""


def test_a_process_that_exits_loses_no_log_line() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    lines = ended.stderr.splitlines()
    assert [line.rpartition("INFO    a: ")[2] for line in lines] == [f"line {number}" for number in range(5000)]


def test_a_server_whose_stderr_is_never_read_answers_requests_and_ends_on_sigterm(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "serverpy", "serve", "--port", "0", "--workers", "1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, WRITE_BYTES)
            port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
            for _ in range(200):
                with Exchange(("127.0.0.1", port), request("/stream?url=file:///x", f"127.0.0.1:{port}")) as exchange:
                    assert exchange.rest().status == 400
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                process.kill()
        lines = process.stderr.read().splitlines()
        assert 0 < sum("invalid_url" in line for line in lines) < 200
