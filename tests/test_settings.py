"""Tests of the settings. They come from options, environment variables and a file, and are validated once. An error
reports each invalid setting in one line without showing a secret."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serverpy.engine import worker_options
from serverpy.errors import ConfigurationError
from serverpy.extraction.sites import Sites
from serverpy.memory.profile import LARGE, SMALL
from serverpy.net.ports import BAD_PORTS
from serverpy.options import Identity, Limits, Network, Targets, Timeouts
from serverpy.settings import Settings, load_settings
from serverpy.settings.types import format_size, mask_password, parse_size, parse_size_of_media

SECRET, OTHER_SECRET = "correct-horse-battery-staple", "another-secret-of-the-server"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Run the test in an empty directory, which contains no settings file. Returns the directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults(**overrides: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    return str(caught.value).splitlines()


def test_settings_have_the_documented_default_values() -> None:
    settings = load_settings(profile="small")
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert (settings.extract_workers, settings.max_children, settings.chunk_bytes) == (2, 2, 65536)
    assert (settings.wait_seconds, settings.extract_timeout, settings.stall_timeout) == (15, 60, 60)
    assert (settings.connect_timeout, settings.drain_seconds, settings.link_ttl) == (10, 30, 21600)
    assert settings.worker_idle == 300
    assert (settings.method, settings.cache_ttl, settings.cache_size) == ("auto", 300, 1000)
    assert (settings.state_url, settings.rate_limit) == ("memory://", "60/minute")
    assert (settings.allow_networks, settings.allow_sites, settings.deny_sites) == ((), (), ())
    assert settings.deny_ports == BAD_PORTS
    assert settings.generic_extractor
    assert not settings.gc_after_stream
    assert (settings.max_duration, settings.max_bytes, settings.proxy) == (None, None, None)
    assert (settings.log_level, settings.log_format) == ("info", "text")
    assert (settings.link_secret, settings.root_path) == ((), "")
    assert (settings.allowed_hosts, settings.public_url, settings.open) == ((), None, False)


def test_the_profile_determines_the_values_of_the_settings_that_are_not_set() -> None:
    settings = load_settings(profile="large", max_workers=3)
    assert (settings.max_workers, settings.queue_chunks) == (3, LARGE.queue_chunks)
    assert (settings.max_streams, settings.memory_budget) == (LARGE.max_streams, LARGE.memory_budget)


@pytest.mark.parametrize("text", ["0", "none", ""])
def test_the_idle_limit_of_workers_can_be_turned_off(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERPY_WORKER_IDLE", text)
    assert load_settings().worker_idle == 0


def test_the_profile_auto_allows_at_least_as_many_streams_as_the_profile_small() -> None:
    assert load_settings().max_streams >= SMALL.max_streams


def test_environment_variables_override_the_settings_file_and_command_line_options_override_both(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nothing_set / "serverpy.toml").write_text('port = 1\nworkers = 2\nMAX_BYTES = "1GiB"\nallow_sites = ["a", "b"]\n')
    monkeypatch.setenv("SERVERPY_WORKERS", "3")
    monkeypatch.setenv("SERVERPY_EXTRACT_WORKERS", "4")
    settings = load_settings(extract_workers=5, host=None)
    assert (settings.port, settings.workers, settings.extract_workers) == (1, 3, 5)
    assert (settings.max_bytes, settings.allow_sites) == (1 << 30, ("a", "b"))


def test_the_variable_serverpy_config_names_another_settings_file(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nothing_set / "serverpy.toml").write_text("port = 1\n")
    (nothing_set / "other.toml").write_text("port = 2\n")
    monkeypatch.setenv("SERVERPY_CONFIG", "other.toml")
    assert load_settings().port == 2
    monkeypatch.setenv("SERVERPY_CONFIG", "")
    assert load_settings().port == 8000
    monkeypatch.setenv("SERVERPY_CONFIG", "nowhere.toml")
    assert faults() == ["SERVERPY_CONFIG: there is no file nowhere.toml"]


def test_an_unknown_key_in_the_settings_file_is_an_error(nothing_set: Path) -> None:
    (nothing_set / "serverpy.toml").write_text("prot = 1\n[server]\nport = 2\n")
    assert faults() == [
        "serverpy.toml: prot is not a setting of ServerPY",
        "serverpy.toml: server is not a setting of ServerPY",
    ]


@pytest.mark.parametrize("content", [b"port = ", b"\xff"])
def test_a_settings_file_that_is_not_toml_is_an_error(nothing_set: Path, content: bytes) -> None:
    (nothing_set / "serverpy.toml").write_bytes(content)
    assert faults()[0].startswith("serverpy.toml is not valid TOML: ")


def test_a_duplicate_key_in_the_settings_file_is_an_error(nothing_set: Path) -> None:
    (nothing_set / "serverpy.toml").write_text("port = 1\nPORT = 2\n")
    assert len(faults()) == 1


def test_a_settings_file_that_cannot_be_read_is_an_error(nothing_set: Path) -> None:
    (nothing_set / "serverpy.toml").mkdir()
    assert faults() == ["serverpy.toml cannot be read: Is a directory"]


def test_an_unknown_serverpy_variable_in_the_environment_logs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SERVERPY_PROT", "1")
    with caplog.at_level(logging.WARNING):
        load_settings(port=3)
    assert caplog.messages == ["SERVERPY_PROT is not a setting of ServerPY"]


def test_an_unknown_settings_option_is_an_error() -> None:
    assert faults(prot=1) == ["prot is not a setting of ServerPY"]


@pytest.mark.parametrize(
    ("text", "items"), [("a,b", ("a", "b")), (" a  b,\tc, ", ("a", "b", "c")), ("", ()), ("none", ()), ("a", ("a",))]
)
def test_the_items_of_a_setting_may_be_separated_by_commas_or_spaces(
    text: str, items: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVERPY_DENY_SITES", text)
    assert load_settings().deny_sites == items


def test_the_setting_allow_sites_accepts_the_words_all_and_none() -> None:
    assert load_settings(allow_sites="all").allow_sites == ()
    assert load_settings(allow_sites="none").allow_sites == ("none",)


@pytest.mark.parametrize(
    ("values", "hosts"),
    [
        ({}, {"127.0.0.1"}),
        ({"host": "0.0.0.0", "allowed_hosts": "Media.Example., a_b c"}, {"0.0.0.0", "media.example", "a_b", "c"}),
        ({"host": "::", "allowed_hosts": "bücher.example"}, {"xn--bcher-kva.example"}),
        ({"host": "Box", "public_url": "https://Media.Example:8443/path/"}, {"box", "media.example"}),
        ({"public_url": "http://bücher.example"}, {"127.0.0.1", "xn--bcher-kva.example"}),
        ({"public_url": "http://[::1]:8000"}, {"127.0.0.1"}),
        ({"public_url": "none", "allowed_hosts": "none"}, {"127.0.0.1"}),
        ({"open": True, "allowed_hosts": "media.example"}, None),
        ({"require_key": True, "api_keys_file": "keys.toml", "allowed_hosts": "media.example"}, None),
    ],
)
def test_the_accepted_hosts_come_from_the_settings_allowed_hosts_and_public_url_and_host(
    values: dict[str, Any], hosts: set[str] | None
) -> None:
    assert load_settings(**values).served_hosts == hosts


@pytest.mark.parametrize(
    "name", ["http://media.example", "media.example:80", "a/b", "*.example", "[::1]", "a..b", "ａ b"]
)
def test_an_item_of_allowed_hosts_must_be_a_host_name(name: str) -> None:
    (fault,) = faults(allowed_hosts=(name,))
    assert fault.startswith("ALLOWED_HOSTS: each item must be a host name")


@pytest.mark.parametrize(
    "url",
    [
        "media.example",
        "ftp://a",
        "https://",
        "https://u:p@a",
        "https://a?b",
        "https://a#b",
        "https://a:x",
        "http://a_/b c",
    ],
)
def test_public_url_must_be_an_http_or_https_url(url: str) -> None:
    (fault,) = faults(public_url=url)
    assert fault == "PUBLIC_URL: must be an address such as https://media.example.org"


def test_deny_ports_accepts_only_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERPY_DENY_PORTS", "25, 22")
    assert load_settings().deny_ports == {22, 25}
    monkeypatch.setenv("SERVERPY_DENY_PORTS", "ssh")
    assert len(faults()) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("64KiB", 65536), ("512 MiB", 1 << 29), ("4gib", 1 << 32), ("1.5KiB", 1536), ("7B", 7)],
)
def test_a_size_in_the_settings_may_have_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["64KB", "64K", "-1", "1e9", "", "KiB", "0.3KiB", "١"])
def test_an_invalid_size_in_the_settings_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_size(text)


def test_the_error_for_an_invalid_size_lists_the_accepted_units() -> None:
    with pytest.raises(ValueError, match=r"a number with B, KiB, MiB, GiB or TiB$"):
        parse_size("abc")
    with pytest.raises(ValueError, match=r"a number with B, KiB, MiB, GiB, TiB, KB, MB, GB or TB$"):
        parse_size_of_media("abc")


@given(st.integers(0, 1 << 50))
def test_a_formatted_size_is_parsed_to_the_same_size(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_each_invalid_setting_is_reported_on_one_line_that_names_the_source_of_its_value(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nothing_set / "serverpy.toml").write_text("workers = 0\n")
    monkeypatch.setenv("SERVERPY_PORT", "eighty")
    assert faults(profile="huge") == [
        "SERVERPY_PORT: must be a valid integer, unable to parse string as an integer",
        "workers in serverpy.toml: must be greater than or equal to 1",
        "PROFILE: must be 'auto', 'small', 'medium' or 'large'",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("max_workers", 0),
        ("chunk_bytes", 1),
        ("memory_budget", "1KiB"),
        ("wait_seconds", "inf"),
        ("wait_seconds", "nan"),
        ("stall_timeout", 0),
        ("method", "magic"),
        ("trusted_proxies", "10.0.0.0/99"),
        ("cors_origins", "example.org"),
        ("cors_origins", "https://example.org/path"),
        *(("cors_origins", f"https://{text}") for text in ("u@a.example", "*.a.example", "a.example:x", "[::g]", "")),
        ("cors_origins", ["https://a\t.example"]),
        ("cors_origins", "ftp://example.org"),
        ("proxy", "ftp://host"),
        ("proxy", "http://"),
        ("proxy", "http://host"),
        ("proxy", "https://host:1"),
        ("proxy", "http://host:99999"),
        ("rate_limit", "lots"),
        ("rate_limit", "1/minute;1/minute"),
        ("rate_limit", "2/minute;1 per 60 seconds"),
        ("rate_limit", "0/minute"),
        ("rate_limit", "3 per 0 seconds"),
        ("rate_limit", "1/367 days"),
        ("rate_limit", "1/9999999999999years"),
        ("rate_limit", "9" * 10 + "/minute"),
        ("rate_limit", "9" * 6000 + "/minute"),
        ("rate_limit", "\u0661/minute"),
        ("max_bytes", "9" * 5000),
        ("source_address", "example.org"),
        ("ca_file", "/nowhere.pem"),
        ("cookies_file", "/"),
        ("link_secret", "short"),
        ("link_secret", f"{SECRET},short"),
        ("link_secret", [f"{SECRET} with blanks"]),
        *(("root_path", path) for path in ("media", "/a//b", "/a b", "/a?b", "//", "http://a/")),
        *(("root_path", path) for path in ("/../x", "/.", "/a/..", "/a/./b")),
        ("max_bytes", "0"),
        ("max_duration", "-1"),
        ("log_level", "loud"),
        ("host", ""),
        ("allow_networks", ("a b",)),
    ],
)
def test_an_invalid_value_of_a_setting_is_refused(name: str, value: object) -> None:
    assert [line.partition(":")[0] for line in faults(**{name: value})] == [name.upper()]


def test_rate_limit_accepts_its_shortest_and_longest_windows_and_root_path_accepts_dots() -> None:
    for rate in ("1/second", "999999999/366 days", "1/year;1/month;1/day", "1 per 2 hours; 10/day"):
        assert load_settings(rate_limit=rate).rate_limit == rate
    assert load_settings(root_path="/..a/.b/c..").root_path == "/..a/.b/c.."


def test_the_error_for_an_empty_host_does_not_mention_items_because_host_is_not_a_list() -> None:
    assert faults(host="") == ["HOST: must be one word without commas or spaces, and not empty"]
    assert faults(allow_networks=("a b",))[0].startswith("ALLOW_NETWORKS: each item must be one word")


def test_settings_that_contradict_each_other_are_refused() -> None:
    assert "MEMORY_BUDGET" in faults(queue_chunks=100, chunk_bytes="1MiB", memory_budget="64MiB")[0]


def test_an_unsupported_value_of_a_setting_is_refused_and_not_ignored() -> None:
    assert faults(state_url="redis://localhost") == ["STATE_URL: only memory:// is available in this version"]


def test_require_key_is_refused_unless_api_keys_file_is_set(nothing_set: Path) -> None:
    (fault,) = faults(require_key=True)
    assert fault.startswith("REQUIRE_KEY: set API_KEYS_FILE, too; ")
    settings = load_settings(
        require_key=True, api_keys_file="keys.toml"
    )  # the file may be missing: `--create-key` creates it
    assert settings.api_keys_file == nothing_set / "keys.toml"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Example.org.:443", "https://example.org"),
        ("http://example.org:80", "http://example.org"),
        ("https://example.org:80", "https://example.org:80"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("http://[2001:DB8:0::1]:8000", "http://[2001:db8::1]:8000"),
        ("http://192.0.2.1", "http://192.0.2.1"),
        ("*", "*"),
    ],
)
def test_an_origin_in_cors_origins_is_stored_in_the_form_in_which_browsers_send_it(written: str, sent: str) -> None:
    assert load_settings(cors_origins=written).cors_origins == (sent,)


def test_the_admin_networks_are_loopback_unless_they_are_set() -> None:
    assert load_settings().admin_networks == ("127.0.0.0/8", "::1")
    assert load_settings(admin_networks="10.0.0.0/8 ::1").admin_networks == ("10.0.0.0/8", "::1")
    assert load_settings(admin_networks="none").admin_networks == ()


def test_secret_settings_are_masked_and_do_not_appear_in_errors() -> None:
    settings = load_settings(link_secret=[SECRET, OTHER_SECRET], proxy="socks5h://me:hush@proxy:1080")
    assert not any(secret in repr(settings) + str(settings) for secret in (SECRET, OTHER_SECRET))
    assert "hush" not in repr(settings) + str(settings)
    assert "socks5h://me:***@proxy:1080" in repr(settings)
    assert "hush" not in repr(settings.model_copy(update={"state_url": "redis://:hush@host"}))
    for name, value in (("link_secret", "hush"), ("proxy", "nope://me:hush@x")):
        with pytest.raises(ConfigurationError) as caught:
            load_settings(**{name: value})
        assert "hush" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_the_groups_of_settings_have_the_same_values_and_defaults_as_the_settings(nothing_set: Path) -> None:
    defaults = load_settings(profile="small")
    assert (defaults.timeouts, defaults.targets(), defaults.network) == (Timeouts(), Targets(), Network())
    assert (defaults.sites, defaults.identity) == (Sites(), Identity())
    assert defaults.limits == Limits()
    (nothing_set / "cookies.txt").touch()
    settings = load_settings(stall_timeout=1, deny_sites="a", cookies_file="cookies.txt", max_children=7)
    assert settings.timeouts == Timeouts(stall=1)
    assert settings.sites == Sites(deny=("a",))
    assert settings.identity == Identity(cookies_file=str(nothing_set / "cookies.txt"))
    assert settings.limits.max_children == 7
    assert settings.targets(own=(("::1", 80),)) == Targets(own=(("::1", 80),))


def test_the_repr_of_the_worker_options_does_not_contain_the_password_of_the_proxy() -> None:
    settings = load_settings(proxy="http://me:hush@proxy:1")
    assert settings.network.proxy == "http://me:hush@proxy:1"
    assert "hush" not in repr(worker_options(settings, settings.targets()))


def test_masking_a_url_changes_only_its_password() -> None:
    assert mask_password("http://user@[::1]:1/") == "http://user@[::1]:1/"
    assert mask_password("http://user:p@ss@[::1]:1/") == "http://user:***@[::1]:1/"


def test_link_secret_may_contain_several_secrets_in_the_settings_file_and_in_the_environment(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nothing_set / "serverpy.toml").write_text(f'link_secret = ["{OTHER_SECRET}"]\n')
    assert [each.get_secret_value() for each in load_settings().link_secret] == [OTHER_SECRET]
    monkeypatch.setenv("SERVERPY_LINK_SECRET", f"{SECRET}, {OTHER_SECRET}")
    assert [each.get_secret_value() for each in load_settings().link_secret] == [SECRET, OTHER_SECRET]


def test_the_state_directory_follows_the_xdg_specification(nothing_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert load_settings().state_dir == Path("/var/state/serverpy")
    monkeypatch.setenv("HOME", "/home/a")
    for ignored in ("", "relative/state"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert load_settings().state_dir == Path("/home/a/.local/state/serverpy")
    assert load_settings(state_dir="none").state_dir is None
    assert load_settings(state_dir="here").state_dir == nothing_set / "here"
    assert load_settings(state_dir="~/x").state_dir == Path("/home/a/x")


@pytest.mark.parametrize(("text", "path"), [("", ""), ("/", ""), ("/media/", "/media"), ("/a/b-c.d~", "/a/b-c.d~")])
def test_a_root_path_has_no_slash_at_its_end(text: str, path: str) -> None:
    assert load_settings(root_path=text).root_path == path


def test_settings_cannot_be_changed_after_they_are_loaded() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.port = 1


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


NUMBERS = st.integers(1, 10**6)
SECONDS = st.floats(0.001, 1e9, allow_nan=False)
WORDS = st.lists(st.from_regex(r"[a-z0-9.:/\[\]*-]{1,20}", fullmatch=True).filter(lambda w: w not in ("none", "all")))
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "port": st.integers(0, 65535),
        "profile": st.sampled_from(["auto", "small", "medium", "large"]),
        "max_workers": NUMBERS,
        "max_streams": NUMBERS,
        "wait_seconds": SECONDS,
        "worker_idle": st.just(0) | SECONDS,
        "max_duration": st.none() | SECONDS,
        "max_bytes": NUMBERS,
        "gc_after_stream": st.booleans(),
        "generic_extractor": st.booleans(),
        "allow_networks": WORDS,
        "allow_sites": WORDS,
        "deny_ports": st.frozensets(st.integers(0, 65535)),
        "cors_origins": st.sampled_from([(), ("*",), ("https://a.example", "http://b.example:8080")]),
        "trusted_proxies": st.sampled_from([(), ("10.0.0.0/8", "::1")]),
        "link_secret": st.lists(
            st.text(
                st.characters(min_codepoint=33, codec="utf-8", exclude_categories=["C", "Z"], exclude_characters=",")
            ).map(lambda text: text + SECRET)
        ),
        "state_dir": st.sampled_from(["none", "/var/state", "state"]),
        "root_path": st.sampled_from(["", "/media"]),
        "proxy": st.sampled_from([None, "http://u:p%2C@h:1", "socks5://[::1]:9"]),
        "rate_limit": st.sampled_from(["none", "60/minute", "1 per 2 hours; 10/day"]),
        "cookies_file": st.sampled_from([None, "cookies.txt", "none.txt"]),
    },
)


@given(VALUES)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_settings_passed_in_the_environment_are_loaded_unchanged(nothing_set: Path, values: dict[str, Any]) -> None:
    (nothing_set / "cookies.txt").touch()
    (nothing_set / "none.txt").touch()
    (nothing_set / "serverpy.toml").unlink(missing_ok=True)
    settings = load_settings(**values)
    # A settings file in the working directory of a child process must have no effect on the settings in its
    # environment.
    (nothing_set / "serverpy.toml").write_text('proxy = "http://elsewhere:1"\nmax_duration = 5\nprot = 1\n')
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.to_environment().items():
            patch.setenv(name, value)
        assert load_settings() == settings


def test_a_child_process_loads_the_settings_of_its_parent_from_the_environment(nothing_set: Path) -> None:
    settings = load_settings(port=1234, link_secret=SECRET, allow_networks=["127.0.0.1:8001", "10.0.0.0/8"])
    code = "from serverpy.settings import load_settings; s = load_settings(); print(s.port, *s.allow_networks)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings.to_environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1234 127.0.0.1:8001 10.0.0.0/8\n", "")
