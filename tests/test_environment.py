"""Tests that the processes that run yt-dlp get only the environment variables that a Python interpreter needs."""

from __future__ import annotations

from pathlib import Path

import pytest

import serverpy
from serverpy.environment import passed_on
from serverpy.streaming.child.command import environment
from serverpy.streaming.child.files import ChildFiles
from serverpy.streaming.child.options import ChildOptions
from tests.extraction.workers import process_of, running

NEEDED = {
    "PATH": "/usr/bin", "HOME": "/home/a", "TMPDIR": "/var/tmp", "TZ": "Europe/Berlin", "LANG": "de_DE.UTF-8",
    "LC_ALL": "C.UTF-8", "LC_CTYPE": "C", "SSL_CERT_FILE": "/ca.pem", "SSL_CERT_DIR": "/ca", "PYTHONPATH": "/a:/b",
    "PYTHONHOME": "/python", "PYTHONUTF8": "1", "LD_LIBRARY_PATH": "/lib",
}  # fmt: skip
KEPT_BACK = dict.fromkeys(
    (
        "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET",
        "GITHUB_TOKEN", "DATABASE_URL", "SERVERPY_LINK_SECRET", "serverpy_link_secret", "SERVERPY_PROXY",
        "SERVERPY_API_KEYS_FILE", "SERVERPY_COOKIES_FILE", "SERVERPY_STATE_URL", "REDIS_URL", "REDIS_PASSWORD",
        "http_proxy", "HTTPS_PROXY",
        "all_proxy", "NO_PROXY", "no_proxy", "SSH_AUTH_SOCK", "NETRC", "LC_SECRET", "PYTHON_TOKEN", "PYTHONSTARTUP",
        "PYTHONINSPECT", "PYTHONOPTIMIZE", "XDG_CONFIG_HOME", "path", "KUBERNETES_PORT",
    ),
    "secret",
)  # fmt: skip


def test_only_variables_that_a_python_interpreter_needs_are_passed_to_yt_dlp_processes() -> None:
    assert passed_on({**NEEDED, **KEPT_BACK, "LD_PRELOAD": "/a.so", "SSLKEYLOGFILE": "/keys"}) == NEEDED
    assert passed_on({}) == {}


async def test_the_environment_of_a_worker_contains_no_secret_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEPT_BACK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    async with running() as workers:
        given = (await process_of(workers)).environ()
    assert "secret" not in given.values()
    assert given["TZ"] == "Europe/Berlin"
    assert given["PATH"]


def test_the_environment_of_a_yt_dlp_child_contains_no_secret_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**NEEDED, **KEPT_BACK}.items():
        monkeypatch.setenv(name, value)
    given = environment(ChildOptions(proxy_url=lambda: "http://127.0.0.1:1"), ChildFiles(tmp_path))
    assert "secret" not in given.values()
    assert given["TZ"] == "Europe/Berlin"
    assert (given["PATH"], given["HOME"]) == (str(tmp_path / "empty"), str(tmp_path / "empty"))
    assert given["PYTHONPATH"] == str(Path(serverpy.__file__).parents[1])
