"""Test of the wheel in every supported Python: an installation with all extras, a running server, and streams from it.

    python scripts/pythons.py [--wheel FILE] [--python PROGRAM]... [--tests PATH]...

The script looks for the versions that `pyproject.toml` names, on the PATH and among those of pyenv. For each version,
it creates an empty environment, installs the wheel with the versions of requirements-dev.lock, starts `serverpy serve
--demo` and streams one page by each method. It prints a line for each version, and exits with 1 if a version fails or
no interpreter is found; a missing version is only reported. `--tests` also installs the development dependencies into
each environment, and runs these tests of the checkout there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
STARTED = re.compile(r"ready at (http://\S+)/\n.*?(http://\S+)/page/prog\n", re.DOTALL)
START_SECONDS = 120.0
"""Seconds within which a server and its sample site must start."""
SECONDS = 600.0
TEST_SECONDS = 3600.0

FILE_PAGES = {"relay": "/page/prog", "embedded": "/page/prog", "subprocess": "/page/prog"}
SEGMENT_PAGES = ("/page/hls-ts", "/page/hls-fmp4", "/page/hls-aes")


class Failure(Exception):
    """Error that is raised if the wheel does not work in an environment."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wheel", type=Path, help="the wheel to install (default: build it from this checkout)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        help="an interpreter to test, instead of the versions found on the PATH and in pyenv",
    )
    parser.add_argument(
        "--tests", action="append", default=[], help="tests of this checkout to run in each environment as well"
    )
    asked = parser.parse_args()
    pythons = {program: find(program) for program in asked.python or versions()}
    failed = False
    with tempfile.TemporaryDirectory(prefix="serverpy-pythons-") as scratch:
        wheel = asked.wheel or build(Path(scratch))
        for name, python in pythons.items():
            if python is None:
                print(f"{name}: not on this machine", flush=True)
                continue
            try:
                print(f"{name}: {check(python, wheel, Path(scratch) / Path(name).name, asked.tests)}", flush=True)
            except (Failure, subprocess.SubprocessError, OSError) as error:
                failed = True
                print(f"{name}: FAILED: {error}", flush=True)
    return 1 if failed or not any(pythons.values()) else 0


def versions() -> list[str]:
    """Return the Python versions that the classifiers in pyproject.toml name, such as `python3.11`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    return [f"python{line.removeprefix(prefix)}" for line in project["classifiers"] if line.startswith(prefix)]


def find(program: str) -> str | None:
    """Return the path of an interpreter that runs and can create environments, or None if there is no such interpreter.
    Each candidate is run, because a shim of pyenv may exist for a version that is not installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    version = Path(program).name.removeprefix("python")
    found = [shutil.which(program), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True)]
    return next((path for path in found if path is not None and _runs(path)), None)


def _runs(path: str) -> bool:
    return subprocess.run([path, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0


def build(scratch: Path) -> Path:
    """Build the wheel of this checkout and return its path."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(scratch), str(ROOT)])
    (wheel,) = scratch.glob("*.whl")
    return wheel


def check(python: str, wheel: Path, folder: Path, tests: list[str]) -> str:
    """Test the wheel in a new environment of one interpreter. Returns a summary. Raises Failure if a test fails."""
    run([python, "-m", "venv", str(folder)])
    lock = [line for line in (ROOT / "requirements-dev.lock").read_text().splitlines() if "--hash" not in line]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line.rstrip("\\ ") for line in lock))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "install", "-c", str(constraints), f"{wheel}[all]"])
    done = run([str(folder / "bin" / "serverpy"), "doctor"], cwd=folder)
    if "pip install 'serverpy-stream" in done:
        raise Failure(f"an extra is missing although all extras were installed. Output of `serverpy doctor`:\n{done}")
    with serving(folder) as (server, site):
        streamed = sum(each(server, site) for each in (files, segments))
    version = run([str(folder / "bin" / "python"), "-c", "import platform; print(platform.python_version())"]).strip()
    passed = run_tests(folder, pip, constraints, tests) if tests else ""
    return f"{version} works: {streamed} streams{passed}"


def run_tests(folder: Path, pip: list[str], constraints: Path, tests: list[str]) -> str:
    """Run tests of the checkout with the packages installed in the environment. Returns the summary for the report."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    run([*pip, "install", "-c", str(constraints), *group])
    command = [str(folder / "bin" / "python"), "-m", "pytest", "-p", "no:cacheprovider", *tests]
    return f"; tests: {run(command, ROOT, TEST_SECONDS).strip().splitlines()[-1]}"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, str]]:
    """Run a server and its sample site. Yields the origin (scheme, host and port) of the server, then that of the
    site."""
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [folder / "bin" / "serverpy", "serve", "--demo", "--port", "0"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while (started := STARTED.search(log.read_text())) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failure(
                    f"the server ended, or was not ready within {START_SECONDS:g} s. Its log:\n{log.read_text()}"
                )
        yield started[1], started[2]
        process.terminate()
        if process.wait(60) or "Traceback" in log.read_text():
            raise Failure(
                f"the server exited with status {process.returncode} or logged a traceback:\n{log.read_text()}"
            )
    finally:
        process.kill()
        process.wait()


def files(server: str, site: str) -> int:
    """Stream a file by each method. Returns the number of streams. Raises Failure if a stream's bytes differ from the
    file on the sample site."""
    wanted = hashlib.sha256(get(f"{site}/media/prog.mp4")).hexdigest()
    for method, page in FILE_PAGES.items():
        if hashlib.sha256(stream(server, f"{site}{page}", method)).hexdigest() != wanted:
            raise Failure(f"the bytes streamed by {method} differ from the file on the sample site")
    return len(FILE_PAGES)


def segments(server: str, site: str) -> int:
    """Stream each HLS page by relay and by embedded. Returns the number of streams. Raises Failure if the bytes of the
    two methods differ."""
    for page in SEGMENT_PAGES:
        relayed, embedded = (stream(server, f"{site}{page}", method) for method in ("relay", "embedded"))
        if not relayed or fragments(relayed) != fragments(embedded):
            raise Failure(f"{page}: relay and embedded differ")
    return 2 * len(SEGMENT_PAGES)


def fragments(film: bytes) -> bytes:
    """Return the bytes of a fragmented MP4 that are the same by relay and by embedded: those from the first `styp` box
    on, with each `sidx` box turned into a `free` box. The boxes before the first `styp` differ, because only relay
    states the duration in them."""
    return film[max(0, film.find(b"styp")) :].replace(b"sidx", b"free")


def stream(server: str, page: str, method: str) -> bytes:
    return get(f"{server}/stream?method={method}&url={quote(page, safe='')}")


def get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        raise Failure(f"{url} was refused: {json.loads(error.read())}") from error


def run(command: list[str], cwd: Path | None = None, seconds: float = SECONDS) -> str:
    """Run a command and return its output. Raises Failure with the command's last lines of output if its exit status is
    not 0."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise Failure(f"{' '.join(command[:4])} … failed (exit status {done.returncode}):\n{last}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
