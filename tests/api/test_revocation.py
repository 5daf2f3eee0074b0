"""A test that a running server accepts new keys and rejects revoked keys without a restart, and cuts the streams of a
revoked key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serverpy.access.key import Key
from serverpy.access.key_file import add, revoke
from serverpy.access.keys import digest_of
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.links import path_in, post
from tests.server import Server, serving
from tests.wire import request

FILM = "/media/large-64.mp4"


def give(path: Path, name: str) -> dict[str, str]:
    """Add a key to the keys file. The secret of the key is the same as its name. Returns the header field that sends
    the key."""
    add(path, lambda _keys: Key(name=name, digest=digest_of(name.encode())))
    return {"Authorization": f"Bearer {name}"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    give(path, "first")
    return path


@pytest.fixture
def keyed(site: SampleSite, path: Path) -> Iterator[Server]:
    with serving(site, require_key=True, api_keys_file=path) as server:
        yield server


def test_the_streams_of_a_revoked_key_are_cut_but_the_streams_of_other_keys_continue(keyed: Server, path: Path) -> None:
    bob, al = give(path, "bob"), give(path, "al")
    wait_for(lambda: keyed.ask("/stream", headers=al).status == 400)
    link = path_in(post(keyed, {"url": f"{keyed.site.http}{FILM}"}, headers=bob).json())
    with (
        keyed.open(FILM, headers=bob, receive_bytes=4096) as cut,
        keyed.send(request(link, "127.0.0.1"), receive_bytes=4096) as linked,
        keyed.open(FILM, headers=al, receive_bytes=4096) as kept,
    ):
        assert (cut.status, kept.status) == (200, 200)
        assert all(len(stream.read(1)) > 0 for stream in (cut, linked, kept))
        revoke(path, "bob")
        wait_for(lambda: keyed.health()["streams"] == 1, seconds=10)
        answer = cut.rest()
        assert (answer.complete, len(answer.body) < 64 << 20) == (False, True)
        assert not linked.rest().complete
        assert keyed.ask(link).code == "link_invalid"
        assert keyed.ask("/stream", headers=bob).status in (401, 429), (
            "429 if too many requests had a new key that the server had not read yet"
        )
    wait_for(lambda: keyed.health()["streams"] == 0)
    assert "relay: revoked, " in keyed.log
    metrics = keyed.ask("/metrics").body.decode()
    assert 'serverpy_streams_ended_total{end="revoked"} 2.0' in metrics
    assert 'serverpy_refused_total{code="key_invalid"}' in metrics
