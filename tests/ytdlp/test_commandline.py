"""Tests of the URL that a yt-dlp child of the method `subprocess` reads from its stdin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from serverpy.streaming.child.process import in_memory

READ = """
import sys
from serverpy.ytdlp.commandline import url_from
print(ascii(url_from(sys.stdin.buffer)))
"""


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX"])
def test_a_child_reads_the_url_that_the_server_wrote_in_any_locale(locale: str) -> None:
    url = "https://host.example/\u00fc\u65e5\U0001f3ac?\udcff#\n"
    for utf8 in ("0", "1"):
        environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
        with in_memory(url) as file:
            printed = subprocess.check_output([sys.executable, "-c", READ], stdin=file, env=environment)
        assert printed.decode().strip() == ascii(url)
