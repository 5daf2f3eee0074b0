"""Removal of the test cases from yt-dlp's extractors, because only yt-dlp's own tests read them. An import hook deletes
the test cases of a module as soon as the module is loaded, so that the next module can reuse the memory. This saves 1.5
MB if a process has extracted a page of a site without an extractor of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_PACKAGE = "yt_dlp.extractor."
_TEST_CASES = ("_TESTS", "_TEST", "_WEBPAGE_TESTS")


def install() -> None:
    """Install the import hook. Call this before yt-dlp is imported."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Import hook for yt-dlp's own extractors. The hook has no effect on plugins."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(_PACKAGE):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for kind in vars(module).values():
            if isinstance(kind, type) and kind.__module__ == module.__name__:
                _remove_tests(kind)


def _remove_tests(kind: type) -> None:
    getattr(kind, "_RETURN_TYPE", None)  # yt-dlp computes it from the test cases and caches it
    for name in _TEST_CASES:
        if name in vars(kind):
            delattr(kind, name)
