"""Count the products of a run by kind, and the pairs that they left to be scored."""

import threading
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Account:
    """Pairs of rows by the kind of product made for them, and the number that got their `score`.

    `leading`: codes of the leading principal dimensions, from `fewest` to `most` of them; `codes`:
    codes of all dimensions; `floats`: float32; `halves`: float16. A pair counts once for each
    product made for it: if codes leave a pair open, it may be multiplied again in float32. `+`
    joins the accounts of two runs.

    >>> Account(codes=90, scored=9) + Account(floats=10, scored=10)
    Account(leading=0, fewest=0, most=0, codes=90, floats=10, halves=0, scored=19)
    """

    leading: int = 0
    fewest: int = 0
    most: int = 0
    codes: int = 0
    floats: int = 0
    halves: int = 0
    scored: int = 0

    def __add__(self, other: "Account") -> "Account":
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
        }
        numbers = [count for count in (self.fewest, other.fewest) if count]
        sums |= {"fewest": min(numbers, default=0), "most": max(self.most, other.most)}
        return Account(**sums)

    @property
    def pairs(self) -> int:
        """The number of products made."""
        return self.leading + self.codes + self.floats + self.halves

    @property
    def share_scored(self) -> float:
        """The number of scored pairs, as a share of the products; 0 if there are none."""
        return self.scored / max(1, self.pairs)

    def figures(self) -> dict[str, int | float]:
        """All counts by name, with the sum of `pairs` and the `share_scored`."""
        return asdict(self) | {"pairs": self.pairs, "share_scored": self.share_scored}

    def __str__(self) -> str:
        kinds = {
            f"codes of {self._dimensions()} dimensions": self.leading,
            "codes": self.codes,
            "float32": self.floats,
            "float16": self.halves,
        }
        made = [f"{count / self.pairs:.1%} of {kind}" for kind, count in kinds.items() if count]
        return f"products {', '.join(made) or 'none'}; {self.share_scored:.2%} of pairs scored"

    def _dimensions(self) -> str:
        return f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"


class Ledger:
    """Add up the accounts of a run; any number of threads may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = Account()

    def add(self, account: Account) -> None:
        """Add an account to the sum."""
        with self._lock:
            self.total += account
