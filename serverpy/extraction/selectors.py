"""The checks of a format selector that do not need yt-dlp. The selector comes from a client, and yt-dlp's selector
language can combine every format with every other (`all+all`), which would keep a CPU busy and fill the memory.
`ytdlp/page/selector_filters.py` guards against slow regular expressions in a selector."""

from __future__ import annotations

import io
import re
import tokenize

from serverpy.errors import InvalidParameter

MAX_SELECTOR_CHARACTERS = 1000
_MAX_PARTS = 10


def check_selector(selector: str) -> None:
    """Raise InvalidParameter if `selector` is empty or too long, has an unmatched closing bracket, or merges too many
    formats."""
    if len(selector) > MAX_SELECTOR_CHARACTERS:
        raise InvalidParameter(f"The format selector is longer than {MAX_SELECTOR_CHARACTERS} characters.")
    if selector.strip() in ("", "-"):
        raise InvalidParameter("Invalid format selector. Use yt-dlp's syntax, such as `best[height<=720]`.")
    if "+" in selector and re.search(r"\ball\b", selector):
        raise InvalidParameter("The format selector must not merge `all`. Use `mergeall`.")
    if "+" in selector and max(selector.count(","), selector.count("+")) > _MAX_PARTS:
        raise InvalidParameter("The format selector merges too many formats. Use fewer `+` and `,`.")
    if _closes_too_much(selector):
        raise InvalidParameter("The format selector has a closing bracket without an opening one.")


def _closes_too_much(selector: str) -> bool:
    """Return whether the selector has a closing bracket without an opening one. Since Python 3.12, the tokenizer that
    yt-dlp uses does not check this, and yt-dlp would treat `b)` as `b`."""
    depth = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(selector).readline):
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
            if depth < 0:
                return True
    except (tokenize.TokenError, SyntaxError):
        return False  # the text is not valid, and yt-dlp's own parser reports the syntax error
    return False
