"""Plugin for yt-dlp with extractors that misbehave as real extractors may do. Tests of the worker use them. Their pages
are `http://…/probe/<what>?to=<argument>`."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from yt_dlp.downloader.external import FFmpegFD
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking import Request
from yt_dlp.networking.impersonate import ImpersonateTarget
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
from yt_dlp.utils import ExtractorError, Popen

Info = dict[str, Any]


class ProbeIE(InfoExtractor):  # type: ignore[misc]  # yt-dlp has no types
    IE_NAME = "probe:one"
    _VALID_URL = r"https?://[^/]+/probe/(?P<id>\w+)"

    def _real_extract(self, url: str) -> Info:
        what = self._match_id(url)
        argument = parse_qs(urlsplit(url).query).get("to", [""])[0]
        found = getattr(self, f"_probe_{what}")(argument)
        if what == "generator":
            return {"id": what, "title": what, "formats": [found]}
        return {"id": what, "title": json.dumps(found), "url": "http://192.0.2.1/nothing.mp4", "ext": "mp4"}

    def _probe_child(self, argument: str) -> Any:
        """Run a child process for `argument` seconds, as an extractor runs a JavaScript runtime."""
        started = time.time()
        Popen.run(["/bin/sleep", argument], stdout=subprocess.PIPE)
        return [started, time.time()]

    def _probe_orphan(self, argument: str) -> Any:
        """Start a child process, and do not wait for its end."""
        return Popen(["/bin/sleep", "3600"]).pid

    def _probe_hang(self, argument: str) -> Any:
        """Hang for an hour without reacting to cancellation, as a slow regular expression does."""
        threading.Event().wait(3600)

    def _probe_generator(self, argument: str) -> Any:
        """Return a format whose `fragments` is a function, as in the formats of some live streams. The function lists
        one fragment: the file at the URL `argument`."""
        listed = {"protocol": "http_dash_segments_generator", "fragments": lambda _: [{"url": argument}]}
        return {"format_id": "listed", "url": argument, "ext": "mp4", **listed}

    def _probe_backtrack(self, argument: str) -> Any:
        """Hold the interpreter lock for longer than any test waits, as a regular expression with catastrophic
        backtracking does."""
        re.match(r"(a+)+$", "a" * 50 + "b")

    def _probe_freeze(self, argument: str) -> Any:
        """Hold the interpreter lock for `argument` seconds. `PyDLL` does not release the lock during a call."""
        ctypes.PyDLL(None).usleep(int(1e6 * float(argument)))

    def _probe_compute(self, argument: str) -> Any:
        """Compute for `argument` seconds of CPU time. Returns the number of seconds of real time that the computation
        took."""
        began, until = time.monotonic(), time.thread_time() + float(argument)
        while time.thread_time() < until:
            sum(range(1000))
        return time.monotonic() - began

    def _probe_held(self, argument: str) -> Any:
        """Wait until the test creates a file at the path `argument`."""
        pause = threading.Event()
        while not Path(argument).exists():
            pause.wait(0.01)

    def _probe_surrogate(self, argument: str) -> Any:
        raise ExtractorError("Half a pair: \ud800", expected=True)

    def _probe_exit(self, argument: str) -> Any:
        """Raise an exception that `except Exception` does not catch."""
        raise SystemExit

    def _probe_memory(self, argument: str) -> Any:
        """Allocate `argument` bytes without touching them."""
        return len(bytearray(int(argument)))

    def _probe_heap(self, argument: str) -> Any:
        """Allocate `argument` bytes in small blocks, and free all blocks except the last. The C library cannot return
        the memory of these blocks to the system by itself. Returns the memory of this process, in bytes, before the
        blocks were freed."""
        library = ctypes.CDLL(None)
        library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        blocks = [library.malloc(2000) for _ in range(int(argument) // 2000)]
        for block in blocks:
            ctypes.memset(block, 1, 2000)
        most = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
        for block in blocks[:-1]:
            library.free(block)
        return most

    def _probe_fill(self, argument: str) -> Any:
        """Fill the memory with small objects until a MemoryError occurs. If `argument` is "hidden", raises an
        ExtractorError in place of the MemoryError."""
        _leave(64)
        filling: list[Info] = []
        try:
            while True:
                filling.append({"number": str(len(filling))})
        except MemoryError:
            if argument != "hidden":
                raise
            # real extractors, too, often raise a new error in an `except` block without `from`
            raise ExtractorError("The page could not be parsed.", expected=True)  # noqa: B904

    def _probe_run(self, argument: str) -> Any:
        """Run the JavaScript runtime named `argument` under the memory limits of the worker."""
        script = "console.log(Array.from({length: 300000}, (_, at) => ({at, text: 'x' + at})).length)"
        runtime = self._downloader._js_runtimes[argument]
        found = Popen.run([runtime.info.path, "eval", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return [found[2], found[0].decode().strip(), resource.getrlimit(resource.RLIMIT_DATA)[0]]

    def _probe_read(self, argument: str) -> Any:
        return len(self._download_webpage(argument, "read"))

    def _probe_die(self, argument: str) -> Any:
        os.kill(os.getpid(), 9)

    def _probe_keyerror(self, argument: str) -> Any:
        nothing: Info = {}
        return nothing["http://192.0.2.1/secret?token=1"]

    def _probe_cookies(self, argument: str) -> Any:
        """Set a cookie. Returns the names of the cookies that the extraction had before that."""
        before = [cookie.name for cookie in self.cookiejar]
        self._set_cookie(urlsplit(argument).hostname, "probe", "left behind")
        return before

    def _probe_environment(self, argument: str) -> Any:
        return {
            "variables": sorted(name for name in os.environ if "proxy" in name.lower() or "SERVERPY" in name),
            "path": os.listdir(os.environ["PATH"]),
            "ffmpeg": [FFmpegPostProcessor().available, FFmpegFD.available()],
        }

    def _probe_noproxyheader(self, argument: str) -> Any:
        return self._ask(Request(argument, headers={"Ytdl-Request-Proxy": "__noproxy__"}))

    def _probe_noproxyargument(self, argument: str) -> Any:
        return self._ask(Request(argument, proxies={"all": None}))

    def _probe_impersonated(self, argument: str) -> Any:
        return self._ask(Request(argument, extensions={"impersonate": ImpersonateTarget()}))

    def _probe_browser(self, argument: str) -> Any:
        """Download the page `argument`, which requires the impersonation of a browser."""
        return self._download_webpage(argument, "browser", impersonate=True, require_impersonation=True)

    def _probe_like_browser(self, argument: str) -> Any:
        """Download the page `argument`. Impersonates a browser if that is possible, and otherwise downloads the page
        without impersonation."""
        return self._download_webpage(argument, "like_browser", impersonate="chrome")

    def _probe_plain(self, argument: str) -> Any:
        return self._ask(Request(argument))

    def _probe_ftp(self, argument: str) -> Any:
        """Request an ftp URL. Returns the result of the request, and whether a client has connected to the host and
        port of the URL."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.5)
            try:
                answer = self._ask(Request(f"ftp://127.0.0.1:{server.getsockname()[1]}/film.mp4"))
                server.accept()[0].close()
            except TimeoutError:
                return [answer, "nobody came"]
            return [answer, "somebody came"]

    def _ask(self, request: Request) -> str:
        try:
            return f"{self._downloader.urlopen(request).status}"
        except Exception as error:  # noqa: BLE001  # the test compares the text of any error
            return f"{type(error).__name__}: {error}"

    def _probe_swallow(self, argument: str) -> Any:
        """Continue after every error, as some extractors do."""
        for _ in range(1000):
            try:
                self._download_webpage(argument, "swallow")
            except Exception:  # noqa: BLE001
                continue
        return "done"


class ProbeTwoIE(InfoExtractor):  # type: ignore[misc]  # yt-dlp has no types
    """Extractor of four kinds of playlists: with a failing item among others, with only a failing item, with endlessly
    many items, or with very large items."""

    IE_NAME = "probe:two"
    _VALID_URL = r"https?://[^/]+/probe2/(?P<id>\w+)"

    def _real_extract(self, url: str) -> Info:
        what = self._match_id(url)
        good = {"id": "good", "title": "Good", "url": "http://192.0.2.1/good.mp4", "ext": "mp4"}
        if what == "mixed":
            entries: Any = [good, {"id": "bad", "title": "No address"}, good]
        elif what == "bad":
            entries = [{"id": "bad", "title": "No address"}]
        elif what == "endless":
            entries = (self.url_result(f"{url}?{number}", ProbeIE, title=f"Item {number}") for number in range(10**9))
        else:
            entries = [{**good, "id": str(number), "description": "x" * 20_000} for number in range(900)]
        result: Info = self.playlist_result(entries, what, what)
        return result


class ProbeThreeIE(InfoExtractor):  # type: ignore[misc]  # yt-dlp has no types
    """Extractor of a video of two parts, as Bilibili's (`same`) and RTP's (`label`), and of a video that is also in a
    playlist (`list`). The list of the parts of `fails` cannot be extracted, and that of `complete` has their media."""

    IE_NAME = "probe:three"
    _VALID_URL = r"https?://[^/]+/probe3/(?P<id>\w+)(?:\?p=(?P<part>\d))?"

    def _real_extract(self, url: str) -> Info:
        what, part = self._match_valid_url(url).group("id", "part")
        labels = {"playlist_label": "multi-part episode"} if what == "label" else {}
        video_id = "other" if what in ("label", "list") else what
        media = [{"id": f"{n}", "title": f"Part {n}", "url": f"http://192.0.2.1/{n}.mp4", "ext": "mp4"} for n in (1, 2)]
        if part or not self._yes_playlist(what, video_id, **labels):
            return media[int(part or 1) - 1]
        if what == "fails":
            raise ExtractorError("No list", expected=True)
        entries = media if what == "complete" else [self.url_result(f"{url}?p={n}", ProbeThreeIE) for n in (1, 2)]
        result: Info = self.playlist_result(entries, what, "All")
        return result


def _leave(mebibytes: int) -> None:
    """Limit this process to `mebibytes` MiB more memory than it uses now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [data] = [line for line in status.splitlines() if line.startswith("VmData")]
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(data.split()[1]) * 1024 + mebibytes * 1024 * 1024, hard))
