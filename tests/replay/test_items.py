"""Tests of playlists of replayed sites whose items replace the title and other fields of their own pages."""

from __future__ import annotations

import pytest

from tests.replay.results import is_whole_film
from tests.replay.sites import PAGES
from tests.server import Server


@pytest.mark.parametrize(
    ("name", "item", "title", "duration"),
    [
        ("twitch-collection", None, "The title in the collection", "10"),
        ("twitch-collection", "1", "The title in the collection", "10"),
        ("podcast", None, "Episode 1", "1"),
        ("podcast", "2", "Episode 2", "2"),
        ("reddit-link", None, "A link", "10.027"),
    ],
)
def test_the_title_and_duration_that_the_outer_page_states_replace_those_of_the_page_of_the_item(
    replayed: Server, name: str, item: str | None, title: str, duration: str
) -> None:
    """The duration of an HLS playlist takes precedence over that of the page, because it is exact."""
    page = PAGES[name][1]
    answer = replayed.get(page) if item is None else replayed.get(page, item=item)
    assert is_whole_film(name, answer)
    assert f'filename="{title}.' in answer.headers["content-disposition"]
    assert answer.headers["x-duration"] == duration


def test_info_states_the_urls_of_items_without_the_data_that_yt_dlp_adds_to_them(replayed: Server) -> None:
    entries = replayed.get(PAGES["podcast"][1], path="/info").json()["entries"]
    assert [entry["url"] for entry in entries] == [f"https://cdn.podcast.example/{number}.mp3" for number in (1, 2)]
    assert [(entry["title"], entry["duration"]) for entry in entries] == [("Episode 1", 1), ("Episode 2", 2)]


def test_info_lists_the_parts_of_a_video_beside_the_formats_of_the_first(replayed: Server) -> None:
    page = PAGES["bilibili-parts"][1]
    found = replayed.get(page, path="/info").json()
    assert (found["kind"], found["title"]) == ("video", "A film of ten seconds p01 part 1")
    assert found["formats"]
    assert [(entry["item"], entry["url"]) for entry in found["entries"]] == [(n, f"{page}?p={n}") for n in (1, 2)]


@pytest.mark.parametrize(
    ("item", "title"),
    [(None, "p01 part 1"), ("1", "p01 part 1"), ("2", "p02 part 2")],
)
def test_the_parameter_item_selects_a_part_of_a_video(replayed: Server, item: str | None, title: str) -> None:
    page = PAGES["bilibili-parts"][1]
    answer = replayed.get(page) if item is None else replayed.get(page, item=item)
    assert is_whole_film("bilibili-parts", answer)
    assert f'filename="A film of ten seconds {title}.mp4"' in answer.headers["content-disposition"]


def test_a_part_that_a_video_does_not_have_is_refused(replayed: Server) -> None:
    answer = replayed.get(PAGES["bilibili-parts"][1], item="3")
    assert (answer.status, answer.json()["code"]) == (404, "item_not_found")
