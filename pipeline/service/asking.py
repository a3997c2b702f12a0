"""What handlers read from a request: its JSON, and numbers, row ids and texts in it."""

import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from pipeline.errors import InputError
from pipeline.service.faults import Refused

_LARGEST = 2**63 - 1
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


async def json_body(request: Request) -> dict[str, Any]:
    """The object that a request holds; raise `Refused` for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "the body must be JSON, with Content-Type: application/json")
    try:
        written = (await request.body()).decode("utf-8-sig")
        found = json.loads(written, parse_constant=_refuse_constant)
        if _SURROGATE.search(written):
            _check_characters(found)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise Refused(400, "the body must be a JSON object")
    return found


def _check_characters(found: Any) -> None:
    """Raise ValueError for half a surrogate pair, which no file or answer can hold."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "it has half of a surrogate pair, which is not a valid character"
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def check_fields(body: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise `InputError` for a field that a request cannot have: it would be overlooked."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise InputError(
            f"the field {unknown[0]!r} is not known; known fields are {', '.join(known)}"
        )


@dataclass(frozen=True)
class Whole:
    """A whole number that a request may give, from `least` to `most`."""

    name: str
    least: int = 0
    most: int = _LARGEST

    def of(self, given: Any, default: int) -> int:
        """The number in a text or in JSON; the default for None. Raise `InputError` if wrong."""
        return default if given is None else self.read(given)

    def read(self, given: Any) -> int:
        """The number in a text or in JSON; raise `InputError` if it is none, or out of range."""
        value = given
        if isinstance(given, str) and given.isascii() and len(given) < 20:
            digits = given.removeprefix("-")
            value = int(given) if digits.isdecimal() else given
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"`{self.name}` must be a whole number, not {given!r:.40}")
        if not self.least <= value <= self.most:
            told = f"{self.least} to {self.most}, not {value!r:.40}"
            raise InputError(f"`{self.name}` must be from {told}")
        return value


def row_ids(given: Any, name: str, most: int) -> list[int]:
    """Row ids in a JSON list, or in a text with commas; raise `InputError` if wrong or many."""
    values = given.split(",") if isinstance(given, str) else given
    if not isinstance(values, list) or not values:
        raise InputError(f"`{name}` must be a list of row ids")
    if len(values) > most:
        raise InputError(f"`{name}` has {len(values):,} row ids: at most {most:,} are taken")
    return [Whole(name).read(each) for each in values]


def text(given: Any, name: str) -> str | None:
    """A text of JSON, or None; raise `InputError` for anything else."""
    if given is not None and not isinstance(given, str):
        raise InputError(f"`{name}` must be a text, not {given!r:.40}")
    return given
