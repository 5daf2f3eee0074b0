"""Tests of each format and method on replayed sites: their requests pass what the sites check (cookies, `Referer`,
signatures)."""

from __future__ import annotations

import io

import av
import pytest

from tests.media.mp4.films import packets
from tests.replay.results import SINGLE
from tests.replay.sites import PAGES
from tests.server import Server
from tests.wire import Answer


@pytest.mark.soak  # a child process for each page takes seconds
@pytest.mark.parametrize("name", [name for name in SINGLE if name != "twitch-live"])
def test_all_methods_send_the_same_packets_of_each_format(replayed: Server, name: str) -> None:
    page = PAGES[name][1]
    ids = [each["id"] for each in replayed.get(page, path="/info").json()["formats"]]
    for number, id_ in enumerate(ids):
        methods = ("relay", "embedded", "subprocess") if number == len(ids) - 1 else ("relay", "embedded")
        answers = [replayed.get(page, format=id_, method=method) for method in methods]
        assert [(answer.status, answer.complete) for answer in answers] == [(200, True)] * len(methods), id_
        first, *others = map(content_of, answers)
        assert all(each == first for each in others), id_


def content_of(answer: Answer) -> list[str] | bytes:
    """Return the digests of all packets of an MP4, or the bytes of a file in another format."""
    if b"ftyp" not in answer.body[:64]:
        return answer.body
    with av.open(io.BytesIO(answer.body)) as container:
        kinds = [stream.type for stream in container.streams]
    return [packet.digest for kind in kinds for packet in packets(answer.body, kind)]
