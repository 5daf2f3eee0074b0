"""Measurement of a server's memory without streams: after its start, after the first extraction, and after an idle
time.

    python scripts/base_memory.py [--idle 5]

The script starts `serverpy serve --demo`, whose worker ends after `--idle` idle seconds, and prints three figures for
each process (except the sample site), in MB of 10^6 bytes. PSS: each shared page counts in equal parts for all
processes that share it, including processes outside of this tree. Anonymous: memory of this process alone. RSS: what
PSS would be if no other process on the machine used the same libraries. Run the script twice after a change of the
code, because the first run compiles bytecode.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil

FIGURES = ("Pss", "Anonymous", "Rss")
SETTLE_SECONDS = 1.0
START_SECONDS = 120.0
"""Seconds within which the server and its sample site must start."""
END_SECONDS = 60.0
"""Seconds after `--idle` within which the idle worker must end."""


def figures(process: psutil.Process) -> dict[str, float]:
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {name: sizes[name] for name in FIGURES}


def processes(server: psutil.Process) -> dict[str, psutil.Process]:
    found = {"server": server}
    for child in server.children(recursive=True):
        if "serverpy.ytdlp.main" in child.cmdline():
            found["worker"] = child
    return found


def show(label: str, server: psutil.Process) -> None:
    found = {name: figures(process) for name, process in processes(server).items()}
    found["tree"] = {figure: sum(each[figure] for each in found.values()) for figure in FIGURES}
    for name, sizes in found.items():
        print(f"{label:18}{name:8}" + "".join(f"{figure} {sizes[figure]:5.1f}   " for figure in FIGURES))


@contextlib.contextmanager
def serving(idle: float) -> Iterator[tuple[psutil.Process, str]]:
    """Run a server with the sample site. Yields the process of the server, and the URL of a request that makes the
    server extract the sample page."""
    command = [sys.executable, "-m", "serverpy", "serve", "--demo", "--port", "0", "--worker-idle", str(idle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        late = threading.Timer(START_SECONDS, child.kill)  # killing the server ends its stdout, so `readline` returns
        late.start()
        try:
            said = ""
            while "curl" not in said:
                line = child.stdout.readline()
                if not line:
                    raise SystemExit(
                        f"the server ended, or was not ready within {START_SECONDS:g} s: run `serverpy serve --demo` "
                        "to see why"
                    )
                said += line
            late.cancel()
            server, page = re.search(r"ready at (\S+)/", said), re.search(r"sample page: (\S+)", said)
            assert server is not None
            assert page is not None
            yield psutil.Process(child.pid), f"{server[1]}/info?url={quote(page[1], safe='')}"
        finally:
            late.cancel()
            child.terminate()
            child.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=float, default=5.0)
    idle: float = parser.parse_args().idle
    with serving(idle) as (server, extraction):
        time.sleep(SETTLE_SECONDS)
        show("started", server)
        with urllib.request.urlopen(extraction, timeout=60) as answer:
            answer.read()
        time.sleep(SETTLE_SECONDS)
        show("first extraction", server)
        deadline = time.monotonic() + idle + END_SECONDS
        while "worker" in processes(server):
            if time.monotonic() > deadline:
                sys.exit(f"The idle worker process has not ended within {END_SECONDS:g} s of its idle time.")
            time.sleep(SETTLE_SECONDS)
        show("idle", server)


if __name__ == "__main__":
    main()
