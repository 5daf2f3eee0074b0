"""Log lines are text for people, or JSON for machines."""

from __future__ import annotations

import json
import logging
import sys

from serverpy.logs import JsonFormatter, log_config
from serverpy.settings import load_settings


def test_a_json_line_holds_the_message_the_extra_and_the_exception() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.getLogger("a.b").makeRecord(
            "a.b", logging.WARNING, "file", 1, "gave %s", ("up",), sys.exc_info(), extra={"stream": "7"}
        )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["level"], read["logger"], read["message"], read["stream"]) == ("warning", "a.b", "gave up", "7")
    assert read["exception"].endswith("ValueError: broken")
    assert read["time"].endswith("Z")


def test_the_configuration_can_be_applied_in_every_style() -> None:
    for style in ("text", "json"):
        config = log_config(load_settings().log_level, style)
        assert config["handlers"]["stderr"]["formatter"] == style
        assert set(config["formatters"]) == {"text", "json"}
        assert config["root"]["level"] == "INFO"
