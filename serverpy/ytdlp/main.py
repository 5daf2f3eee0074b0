"""A yt-dlp process: `python -m serverpy.ytdlp.main <role> <fd> <parent>`, started only by `extraction/process.py`.

The process extracts pages or downloads tracks, depending on `role`. `parent` is the process ID of the server process;
this process ends when the server process ends. `fd` is this process's end of a socketpair. The main thread reads
requests from `fd` and passes them to other threads (`dispatch.py`). Every request gets a reply. If the server process
ends or stops this process, the other end of the socketpair is closed. This process then kills its child processes and
exits at once. It joins no thread, because a thread may hang in a regular expression.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import socket
import sys
import warnings
from pathlib import Path

from serverpy.errors import ConfigurationError
from serverpy.extraction import messages
from serverpy.extraction.messages import Configure, Role
from serverpy.logs import StderrHandler, TextFormatter
from serverpy.memory.heap import settle
from serverpy.parent import end_with_parent
from serverpy.ytdlp import limits
from serverpy.ytdlp.channel import Inbox, Outbox
from serverpy.ytdlp.session import impersonation, strip_tests

# Modules that are hidden, so that yt-dlp treats them as not installed: those for media tags, cookie stores of browsers,
# file attributes, web sockets (which cannot go through the filtering proxy), and the charset detection of `requests`,
# because yt-dlp detects charsets itself. This saves 7 MB and 100 modules. cffi with its C parser takes another 1.3 MB.
# Without cffi, Cryptodome calls its library through ctypes, which is as fast. curl_cffi does not need cffi.
UNUSED = ("mutagen", "sqlite3", "secretstorage", "xattr", "websockets", "charset_normalizer", "chardet", "cffi")


def main() -> None:
    role: Role = "download" if sys.argv[1] == "download" else "extract"
    end_with_parent(int(sys.argv[3]))
    handler = StderrHandler()
    handler.setFormatter(TextFormatter("worker: %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sock = socket.socket(fileno=int(sys.argv[2]))
    _close_inherited(sock.fileno())
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # setting None in sys.modules is the documented way to make an import fail
    impersonation.hide()
    strip_tests.install()
    warnings.filterwarnings("ignore", message="Unable to find acceptable character detection", module="requests")
    code = 1
    try:
        code = serve(role, sock)
    finally:
        logging.shutdown()
        os._exit(code)  # exit without joining the threads, which may hang; nothing must be cleaned up


def _close_inherited(kept: int) -> None:
    """Close every file descriptor except `kept` and those of standard input, output and error. The event loop of the
    server process does not close its descriptors when it starts the worker process, and if several processes serve
    clients, each has an inheritable listening socket."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(3, kept)
    os.closerange(kept + 1, soft_limit)


def serve(role: Role, sock: socket.socket) -> int:
    """Pass requests to threads until the server process closes its end of the socket. Return the exit code. Raises
    `MessageTooLarge` or `msgspec.DecodeError` if a message is invalid."""
    inbox = Inbox(sock)
    first = next(inbox, None)
    if not isinstance(first, Configure):
        return 1 if first else 0
    outbox = Outbox(sock)
    limits.set_data_limit(role, first.options.limits)

    # `dispatch` imports yt-dlp, so it is imported after the modules in UNUSED are hidden and the memory limit is set.
    from serverpy.ytdlp.dispatch import Dispatcher

    try:
        dispatcher = Dispatcher(role, first.options, Path(first.directory), outbox)
    except ConfigurationError as error:
        outbox.send(messages.error_reply(0, error))
        return 1
    settle()
    outbox.send(dispatcher.ready())
    try:
        for request in inbox:
            dispatcher.take(request, inbox)
    finally:
        dispatcher.close()
        shutil.rmtree(first.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    main()
