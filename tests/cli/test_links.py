"""Tests of `serverpy links sign` and `serverpy links verify`, which need the secret of the server, but no running
server."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from serverpy.access.link_secrets import FILE_NAME
from serverpy.api.link_query import LinkQuery
from serverpy.cli.main import cli
from serverpy.errors import ConfigurationError, LinkInvalid, ServerPYError
from serverpy.sample.site import SampleSite
from tests.server import serving

PAGE = "https://example.org/watch?v=1"
SECRET = "the-secret-of-the-server"


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in an empty directory, with STATE_DIR in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVERPY_STATE_DIR", str(tmp_path / "state"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["links", *arguments])


def printed(*arguments: str) -> str:
    done = run(*arguments)
    assert (done.exit_code, done.exception) == (0, None)
    return done.stdout.removesuffix("\n")


def error(*arguments: str) -> ServerPYError:
    done = run(*arguments)
    assert isinstance(done.exception, ServerPYError)
    return done.exception


def test_the_command_links_verify_shows_the_parameters_and_limits_that_links_sign_got() -> None:
    options = ("--to", "mp4", "--uses", "3", "--bytes", "1GiB", "--network", "2001:db8::1", "--item", "2", "--download")
    link = printed("sign", PAGE, *options, "--ttl", "60")
    assert link.startswith("http://127.0.0.1:8000/s/")
    found = json.loads(printed("verify", "--json", link))
    expires = datetime.fromisoformat(found.pop("expires")).timestamp()
    assert 50 < expires - datetime.now().timestamp() <= 60
    assert found == {
        "route": "stream", "url": PAGE, "to": "mp4", "item": 2, "download": True, "network": "2001:db8::/64",
        "uses": 3, "bytes": 1 << 30,
    }  # fmt: skip
    shown = printed("verify", link).splitlines()
    assert shown[:3] == ["route: stream", f"url: {PAGE}", "to: mp4"]
    assert printed("verify", urlsplit(link).path.split("/")[2]) == "\n".join(shown)


def test_each_parameter_of_a_link_is_an_option_of_links_sign() -> None:
    help_text = printed("sign", "--help")
    for name in LinkQuery.model_fields.keys() - {"url"}:
        assert f"--{name.replace('_', '-')}" in help_text
    for name in ("--max-size", "--max_size"):
        link = printed("sign", PAGE, "--height", "720", "--codec", "vp9", "--lang", "de", name, "50MB")
        found = json.loads(printed("verify", "--json", link))
        assert (found["height"], found["codec"], found["lang"], found["max_size"]) == (720, "vp9", "de", 50_000_000)


def test_the_command_links_verify_reads_a_link_without_the_file_name() -> None:
    link = printed("sign", PAGE)
    shown = printed("verify", link)
    without = link.rpartition("/")[0]
    assert printed("verify", without) == printed("verify", f"{without}/") == shown


def test_the_command_links_verify_reports_a_link_as_expired_even_while_a_server_still_accepts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link, now = printed("sign", PAGE, "--ttl", "60"), time.time()
    assert "expired" not in json.loads(printed("verify", "--json", link))
    monkeypatch.setattr("serverpy.cli.links.time.time", lambda: now + 90)
    done = run("verify", link)
    assert (done.exit_code, "expired: true" in done.stdout.splitlines()) == (0, True)
    assert done.stderr.startswith("serverpy: the link has expired; a server accepts it for another ")
    assert json.loads(run("verify", "--json", link).stdout)["expired"] is True


def test_the_command_links_sign_prints_json_with_the_fields_url_and_expires() -> None:
    document = json.loads(printed("sign", "--json", PAGE))
    assert document.keys() == {"url", "expires"}
    assert document["expires"].endswith("Z")


@pytest.mark.parametrize(
    ("options", "base"),
    [
        ((), "http://127.0.0.1:8000/s/"),
        (("--host", "::1", "--port", "80", "--root-path", "/films"), "http://[::1]:80/films/s/"),
        (("--public-url", "https://media.example/x/", "--root-path", "/films"), "https://media.example/x/s/"),
        (("--public-url", "https://media.example", "--root-path", "/films/"), "https://media.example/films/s/"),
    ],
)
def test_a_signed_link_begins_with_public_url_or_else_with_host_and_port_and_root_path(
    options: tuple[str, ...], base: str
) -> None:
    assert printed("sign", PAGE, *options).startswith(base)


@pytest.mark.parametrize(
    "options",
    [("--host", "0.0.0.0"), ("--host", "::"), ("--host", "0"), ("--host", "::ffff:0.0.0.0"), ("--port", "0")],
)
def test_a_link_without_an_address_that_clients_can_reach_is_not_signed_unless_public_url_is_set(
    options: tuple[str, ...],
) -> None:
    (line,) = str(error("sign", PAGE, *options)).splitlines()
    assert "PUBLIC_URL" in line
    assert printed("sign", PAGE, *options, "--public-url", "https://media.example").startswith(
        "https://media.example/s/"
    )


def test_a_server_with_the_same_secret_accepts_a_link_signed_on_the_command_line(
    site: SampleSite, tmp_path: Path
) -> None:
    with serving(site, link_secret=SECRET) as server:
        link = printed("sign", f"{site.http}/page/prog", "--link-secret", SECRET, "--port", str(server.port))
        answer = server.ask(urlsplit(link).path, verb="HEAD")
        assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")


def test_the_command_links_sign_creates_the_secret_file_but_links_verify_does_not(tmp_path: Path) -> None:
    assert "signed links need LINK_SECRET" in str(error("verify", "abc"))
    assert not (tmp_path / "state").exists()
    printed("sign", PAGE)
    assert (tmp_path / "state" / FILE_NAME).exists()
    assert isinstance(error("verify", "abc"), LinkInvalid)


@pytest.mark.parametrize("state", ["none", "/proc/serverpy"])
def test_the_command_links_sign_fails_without_link_secret_if_state_dir_cannot_be_used(state: str) -> None:
    assert isinstance(error("sign", PAGE, "--state-dir", state), ConfigurationError)
    assert printed("sign", PAGE, "--state-dir", state, "--link-secret", SECRET)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--uses", "0"), "`uses`"),
        (("--ttl", "x"), "`ttl`"),
        (("--height", "tall"), "`height`: must be a number of pixels, or `max`."),
        (("--max-size", "big"), "`max_size`"),
        (("--to", "slideshow"), "slideshow"),
        (("--route", "feed"), "`route`"),
        (("--network", "client"), "on the command line, name an IP address or a network"),
        (("--format", "all+all"), "must not merge `all`"),
    ],
)
def test_the_error_of_the_command_links_sign_names_the_invalid_parameter(options: tuple[Any, ...], name: str) -> None:
    done = run("sign", PAGE, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert name in done.stderr


@pytest.mark.parametrize(
    "arguments", [["sign"], ["sign", "ftp://a/"], ["sign", PAGE, "--colour", "red"], ["verify"], ["nonsense"]]
)
def test_invalid_arguments_of_the_links_commands_exit_with_status_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
