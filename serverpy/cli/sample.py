"""The command `serverpy sample`, which runs only the sample media site."""

from __future__ import annotations

import os
import signal
import threading

import click

from serverpy.cli.standard import ignore_lost_text_of
from serverpy.errors import ConfigurationError
from serverpy.extras import SAMPLE

DEFAULT_PORT = 8001


HELP = "Serve generated media and their pages on loopback, until interrupted."


@click.command("sample", help=HELP)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option("--https-port", type=click.IntRange(0, 65535), help="Also serve over HTTPS on this port.")
@click.option("--with-parent", is_flag=True, hidden=True, help="Exit when stdin is closed.")
def command(port: int, https_port: int | None, with_parent: bool) -> None:
    if with_parent:
        threading.Thread(target=_end_with_parent, name="with-parent", daemon=True).start()
    SAMPLE.require("The sample site")
    from serverpy.sample import site  # a late import, because `--help` does not need this heavy module

    ignore_lost_text_of("stdout")
    try:
        site.main(port, https_port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on port {port}: {error.strerror}; choose another port") from None


def _end_with_parent() -> None:
    """End this process when its parent, which holds the other end of stdin's pipe, is gone for any reason."""
    # Read the descriptor and not sys.stdin, because sys.stdin has a lock that the interpreter needs at exit.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
