"""Picture and sound that a page offers apart come out of one GET as one MP4 that can be sought."""

from __future__ import annotations

from serverpy.sample.make import ensure_media
from tests.media.mp4.films import packets
from tests.server import Server


def test_a_pair_of_plain_tracks_is_one_file_of_known_length(server: Server) -> None:
    answer = server.get("/tube/watch/pair")
    assert (answer.status, answer.complete) == (200, True)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-serverpy-method"] == "relay"
    media = ensure_media()
    assert packets(answer.body, "video") == packets((media / "video-only.mp4").read_bytes(), "video")
    assert packets(answer.body, "audio") == packets((media / "audio-only.mp4").read_bytes(), "audio")
