"""Tests of playlist items over HTTP: items whose URL only yt-dlp understands, items with the title of the playlist, and
items without media."""

from __future__ import annotations

import pytest

from tests.server import Server


def test_a_playlist_item_whose_url_only_yt_dlp_understands_is_streamed(server: Server) -> None:
    answer = server.get("/tube/playlist/own-addresses", item="1")
    assert (answer.status, answer.body) == (200, server.get("/tube/watch/item-2").body)


def test_a_client_cannot_request_a_url_that_only_yt_dlp_understands(server: Server) -> None:
    host = server.site.http.partition("://")[2]
    for prefix in ("", "yt-dlp:SampleTubeOwn:"):
        answer = server.get(f"{prefix}sampletube:{host}/tube/watch/item-2")
        assert (answer.status, answer.code) == (400, "invalid_url")


def test_info_states_no_url_for_a_playlist_item_that_a_client_cannot_request(server: Server) -> None:
    entries = server.get("/tube/playlist/own-addresses", path="/info").json()["entries"]
    assert [entry["url"] for entry in entries] == [None, None]


def test_an_item_whose_url_only_yt_dlp_understands_fails_with_the_error_of_its_page(server: Server) -> None:
    answers = [server.get("/tube/playlist/own-addresses", item="2"), server.get("/tube/watch/gone")]
    assert len({(answer.status, answer.code) for answer in answers}) == 1


@pytest.mark.parametrize(
    ("item", "title", "duration"),
    [
        (None, "Its title in the list", "7"),
        ("2", "SampleTube film_ item-2", "7"),
        ("3", "Its title in the list", "8.5"),
    ],
)
def test_the_fields_of_a_transparent_item_replace_those_of_its_page(
    server: Server, item: str | None, title: str, duration: str
) -> None:
    page = "/tube/playlist/transparent"
    answer = server.get(page) if item is None else server.get(page, item=item)
    assert answer.headers["content-disposition"].startswith(f'inline; filename="{title}.mp4"')
    assert answer.headers["x-duration"] == duration
    assert answer.body == server.get("/tube/watch/item-2").body


@pytest.mark.parametrize("page", ["own-addresses", "list-12"])
def test_the_title_of_any_other_item_is_the_title_of_its_page(server: Server, page: str) -> None:
    answer = server.get(f"/tube/playlist/{page}", verb="HEAD")
    assert "SampleTube film" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("item", "page", "title"),
    [
        ("1", "/media/prog-180.mp4", "prog-180"),
        ("2", "/tube/watch/item-2", "SampleTube film_ item-2"),
        ("3", "/tube/watch/item-2", "SampleTube film_ item-2"),
        ("4", "/media/audio.mp3", "Its title in the list"),
    ],
)
def test_an_item_that_names_no_extractor_is_streamed(server: Server, item: str, page: str, title: str) -> None:
    answer = server.get("/tube/playlist/keyless", item=item)
    assert (answer.status, answer.body) == (200, server.get(page).body)
    assert answer.headers["content-disposition"].startswith(f'inline; filename="{title}.')


def test_info_states_the_url_of_a_transparent_item_although_its_fields_replace_those_of_that_page(
    server: Server,
) -> None:
    entries = server.get("/tube/playlist/transparent", path="/info").json()["entries"]
    page = f"{server.site.http}/tube/watch/item-2"
    assert [(entry["title"], entry["duration"], entry["url"]) for entry in entries] == [
        ("Its title in the list", 7, page),
        (None, 7, page),
        ("Its title in the list", 8.5, None),
    ]


def test_without_the_parameter_item_the_first_playlist_item_that_has_media_is_streamed(server: Server) -> None:
    assert server.get("/tube/playlist/first-gone").body == server.get("/tube/watch/item-2").body


def test_an_item_without_media_is_an_error_if_the_client_has_requested_this_item(server: Server) -> None:
    answers = [server.get("/tube/playlist/first-gone", item=item) for item in ("1", "2", "4")]
    assert [answer.status for answer in answers[1:]] == [403, 422]
    assert answers[0].status == server.get("/tube/watch/gone").status


def test_a_playlist_without_any_media_fails_with_the_error_of_its_first_item(server: Server) -> None:
    answer = server.get("/tube/playlist/all-gone")
    assert (answer.status, answer.code) == (403, "login_required")
