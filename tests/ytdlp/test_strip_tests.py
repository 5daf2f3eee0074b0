"""Test that the worker removes the test cases of yt-dlp's extractors, and changes nothing else in them."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, sys
from serverpy.ytdlp.session import strip_tests
if sys.argv[1] == "light":
    strip_tests.install()
from yt_dlp.extractor.vimeo import VimeoIE
from yt_dlp.extractor.youtube import YoutubeIE, YoutubeTabIE
kinds = VimeoIE, YoutubeIE, YoutubeTabIE
print(json.dumps([[kind.__name__, kind._VALID_URL, kind._RETURN_TYPE, "_TESTS" in vars(kind)] for kind in kinds]))
"""


def kinds(how: str) -> list[list[object]]:
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, timeout=240, check=True)
    found: list[list[object]] = json.loads(done.stdout)
    return found


def test_removing_the_test_cases_of_an_extractor_leaves_its_other_attributes_unchanged() -> None:
    stock, light = kinds("stock"), kinds("light")
    assert [kind[:3] for kind in light] == [kind[:3] for kind in stock]
    assert all(kind[3] for kind in stock)
    assert not any(kind[3] for kind in light)
