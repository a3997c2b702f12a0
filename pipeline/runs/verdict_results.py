"""What people say of pairs of rows, and what becomes of it. Imports nothing heavy: the command line
reads it first.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.errors import InputError

VerdictWord = Literal["same", "different", "withdrawn"]
VERDICT_WORDS: tuple[VerdictWord, ...] = ("same", "different", "withdrawn")
"""What a person can say of a pair; `withdrawn` takes back what was said before."""

TABLE_SUFFIXES = (".csv", ".parquet")
"""Suffixes of files of verdicts."""

_LONGEST = {"who": 200, "comment": 10_000}


def check_text(name: Literal["who", "comment"], text: str | None, prefix: str = "") -> None:
    """Raise `InputError`, whose message begins with `prefix`, for a text that is empty or long."""
    most = _LONGEST[name]
    if text is not None and not 0 < len(text.strip()) <= len(text) <= most:
        raise InputError(
            f"{prefix}`{name}` has {len(text):,} characters: give 1 to {most:,}, not only spaces"
        )


@dataclass(frozen=True)
class GivenVerdict:
    """A verdict on two rows `a` and `b`, each named by its row id or its path.

    `who` and `comment` may be left out; `origin` says where it was read, for messages. Raise
    `InputError` for another word, and for texts that are empty or too long.
    """

    a: int | str
    b: int | str
    verdict: VerdictWord
    comment: str | None = None
    who: str | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICT_WORDS:
            raise InputError(
                f"{self.prefix}the verdict {self.verdict!r} is none of {', '.join(VERDICT_WORDS)}"
            )
        check_text("who", self.who, self.prefix)
        check_text("comment", self.comment, self.prefix)

    @property
    def prefix(self) -> str:
        """The beginning of a message about it."""
        return f"{self.origin}: " if self.origin else ""


@dataclass(frozen=True)
class VerdictsGiven:
    """What was added to the verdicts of a gallery, and how many count now.

    `recorded` entries were added; `unchanged` ones stood there already. `same` and `different`
    pairs count. `without_verdict` rows of a file had none.
    """

    gallery: str
    version: int
    recorded: int
    unchanged: int
    same: int
    different: int
    without_verdict: int = 0


@dataclass(frozen=True)
class ListedVerdict:
    """A verdict that counts: on the rows `a` and `b` with their paths, by `who`, `given_at` a time
    (UTC), when the gallery had the version `seen_version`.
    """

    a: int
    b: int
    verdict: VerdictWord
    who: str
    given_at: datetime
    seen_version: int
    comment: str | None
    path_a: str
    path_b: str


@dataclass(frozen=True)
class VerdictList:
    """The verdicts that count in a version, oldest first.

    `withdrawn` pairs have none any more; `verdicts_without_row` are on rows that the version does
    not have. `contradictions` are sentences, each about a pair.
    """

    gallery: str
    version: int
    verdicts: tuple[ListedVerdict, ...]
    withdrawn: int
    verdicts_without_row: int
    contradictions: tuple[str, ...]
