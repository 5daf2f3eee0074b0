"""Tests of the output of `serverpy get`: progress bars, a line for each finished job, reports to a parent process, and
no control codes from titles."""

from __future__ import annotations

import io
import os

import msgspec
import pytest
from rich.console import Console
from rich.progress import Progress

from serverpy.cli.jobs import Began, Done, Event, Failed, Job, Listed, Moved, OutputClosed, Present, Reading
from serverpy.cli.progress import Bars, Lines, Report, Reports, SizeColumn, line_of, make_progress
from serverpy.cli.terminal import one_line, size

JOB = Job((0,), "http://example.org/1")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Done("film.mp4", 1536), "film.mp4: done, 1.5 KiB"),
        (Done("film.mp4", 1536, 512), "film.mp4: done, 1.5 KiB (resumed after 512 bytes)"),
        (Present("film.mp4"), "film.mp4: already downloaded"),
        (Failed("busy", "Not now."), "serverpy: http://example.org/1: Not now. [busy]"),
        (Began("film.mp4", 0, None), None),
        (Moved(1), None),
        (Reading(), None),
        (Listed(), None),
        (OutputClosed(), None),
    ],
)
def test_a_finished_job_is_reported_by_one_line(event: Event, line: str | None) -> None:
    assert line_of(JOB, event) == line


def test_the_line_of_a_failed_playlist_item_has_the_number_of_the_item() -> None:
    failed = Failed("busy", "Not now.")
    assert line_of(Job((0, 3), JOB.url, 3), failed) == "serverpy: http://example.org/1 item 3: Not now. [busy]"


def test_lines_are_written_to_stderr_without_line_breaks_or_control_codes_from_messages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Lines().see(JOB, Failed("extraction_failed", "Oh\n\x1b[2J\u202eno"))
    assert capsys.readouterr() == ("", "serverpy: http://example.org/1: Oh [2J no [extraction_failed]\n")


def test_a_progress_bar_shows_file_name_and_bytes_and_disappears_at_the_end() -> None:
    screen = io.StringIO()
    progress = make_progress(Console(file=screen, force_terminal=True, width=120, color_system=None))
    with progress:
        bars = Bars(progress)
        bars.see(JOB, Began("[red]film\x1b[2J.mp4", 1 << 20, 4 << 20))
        bars.see(JOB, Moved(2 << 20))
        progress.refresh()
        assert (progress.tasks[0].completed, progress.tasks[0].total) == (2 << 20, 4 << 20)
        bars.see(JOB, Done("film.mp4", 4 << 20))
        assert progress.tasks == []
    shown = screen.getvalue()
    assert "[red]film [2J.mp4" in shown
    assert "2.0 MiB of 4.0 MiB" in shown
    assert "film.mp4: done, 4.0 MiB" in shown


@pytest.mark.parametrize("event", [Listed(), Present("film.mp4"), Failed("busy", "No."), OutputClosed()])
def test_the_progress_bar_of_a_page_is_shown_only_while_the_page_is_extracted(event: Event) -> None:
    screen = io.StringIO()
    progress = make_progress(Console(file=screen, force_terminal=True, width=120, color_system=None))
    with progress:
        bars = Bars(progress)
        for _ in range(2):
            bars.see(JOB, Reading())
        assert [task.total for task in progress.tasks] == [None]
        progress.refresh()
        bars.see(JOB, event)
        assert progress.tasks == []
    assert "reading the page…" in screen.getvalue()


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [(0, None, ""), (512, None, "512 bytes"), (3 << 20, None, "3.0 MiB"), (0, 5 << 30, "0 bytes of 5.0 GiB")],
)
def test_progress_is_shown_in_binary_units(done: int, total: int | None, shown: str) -> None:
    progress = Progress(auto_refresh=False)
    progress.add_task("film.mp4", total=total, completed=done)
    assert SizeColumn().render(progress.tasks[0]).plain == shown


def test_a_job_that_starts_again_keeps_its_one_progress_bar() -> None:
    progress = Progress(console=Console(file=io.StringIO()), auto_refresh=False)
    bars = Bars(progress)
    bars.see(JOB, Began("film.mp4", 5, 9))
    bars.see(JOB, Began("film.mp4", 0, 9))
    assert [task.completed for task in progress.tasks] == [0]


def test_a_page_that_is_fetched_twice_at_the_same_time_has_two_progress_bars() -> None:
    """The page of a playlist may list the same media page twice."""
    progress = Progress(console=Console(file=io.StringIO()), auto_refresh=False)
    bars = Bars(progress)
    first, second = Job((0, 1), JOB.url), Job((0, 2), JOB.url)
    bars.see(first, Began("film.mp4", 0, 9))
    bars.see(second, Began("film (2).mp4", 0, 9))
    bars.see(first, Done("film.mp4", 9))
    bars.see(second, Moved(5))
    assert [(task.description, task.completed) for task in progress.tasks] == [("film (2).mp4", 5)]


@pytest.mark.parametrize("event", [Began("a", 1, None), Moved(5), Done("a", 5), Present("a"), Failed("busy", "No.")])
def test_a_parent_process_can_decode_the_reports_of_a_child_process(event: Event) -> None:
    reading, writing = os.pipe()
    try:
        Reports(writing).see(Job((1, 2), "http://example.org/ü", 2), event)
        assert msgspec.json.decode(os.read(reading, 4096), type=Report) == Report("http://example.org/ü", 2, event)
    finally:
        os.close(reading)
        Reports(writing).say("writing to a parent that has ended is not an error")
        os.close(writing)


def test_sizes_are_shown_in_binary_units() -> None:
    assert [size(count) for count in (0, 1023, 1024, 5 << 20, 3 << 40, 9 << 50)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "5.0 MiB", "3.0 TiB", "9216.0 TiB",
    ]  # fmt: skip


def test_control_characters_are_removed_from_text_that_the_terminal_shows() -> None:
    assert one_line(" a\x1b]0;title\x07\r\nb\u2028c\x9b1m\u202e ") == "a ]0;title b c 1m"
