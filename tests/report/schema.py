"""The published schema of report.json."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

FILE = Path(__file__).parents[2] / "docs" / "report.schema.json"


@cache
def validator() -> Draft202012Validator:
    schema: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def faults(report: Any) -> list[str]:
    """Where a report is not as the schema says, and how."""
    return [f"{each.json_path}: {each.message}" for each in validator().iter_errors(report)]
