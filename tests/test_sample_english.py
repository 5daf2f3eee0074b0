"""Tests that scripts/sample_english.py finds every kind of text, and draws the same sample for the same seed."""

from __future__ import annotations

from pathlib import Path

from scripts.sample_english import Text, collect, draw, raised_classes, texts_of

MODULE = '''#!/usr/bin/env python
"""A made-up module."""
# Two lines
# are one comment.
LIMIT = 1  # type: ignore[misc]  # the reason
"""What an attribute means."""

# --- a section
def test_a_fact(name):  # noqa: E302
    log.warning("a message")
    parser.add_argument("--seed", help="a help text")
    Field(description="a description")
    setting("a setting", default=1)
    translate(Broken("an error"))
    raise Broken(f"an {name} error" if name else "another error")
'''
TEXTS = {
    *((2, "docstring", "A made-up module."), (6, "docstring", "What an attribute means.")),
    *((3, "comment", "Two lines are one comment."), (5, "comment", "the reason"), (9, "test name", "a fact")),
    *((10, "log", "a message"), (11, "help", "a help text"), (12, "description", "a description")),
    *((13, "description", "a setting"), (14, "error", "an error")),
    *((15, "error", "an {name} error"), (15, "error", "another error")),
}


def test_texts_of_every_kind_are_found_and_their_directives_are_left_out() -> None:
    assert texts_of("made.py", MODULE, raised_classes(MODULE)) == {Text("made.py", *each) for each in TEXTS}


def test_the_same_seed_gives_the_same_sample(tmp_path: Path) -> None:
    module = tmp_path / "serverpy" / "made.py"
    module.parent.mkdir()
    module.write_text("".join(f"# comment {number}\npass\n" for number in range(200)), encoding="utf-8")
    texts = collect(tmp_path)
    first, again, other = (draw(texts, seed, 50) for seed in ("a", "a", "b"))
    assert (len(first), first == again, first == other) == (50, True, False)
