"""Answers in JSON that are harmless wherever they are shown."""

import json
from typing import Any

from starlette.responses import Response

from pipeline.report.plain import plain


class JsonAnswer(Response):
    """An answer in JSON, in ASCII and without a character that HTML has a meaning for."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as JSON: dataclasses become objects, times ISO 8601, and NaN null."""
        text = json.dumps(plain(content), allow_nan=False, separators=(",", ":"))
        for character in "<>&\x7f":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return text.encode("ascii")
