"""Settings and result of the service. Imports nothing heavy: the command line reads it first."""

import ipaddress
import re
import socket
from dataclasses import dataclass, field

from pipeline.errors import InputError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names of this machine that no other machine can reach."""

_TOKEN = re.compile(r"[!-~]{16,4096}")


@dataclass(frozen=True)
class ServiceSettings:
    """Where the service listens, who may ask for what, and how much.

    Raise `InputError` for a number out of range, a token that is short or has other characters
    than visible ASCII, and for a service that other machines reach without a token.
    """

    host: str = "127.0.0.1"
    """Address to listen on. Other machines reach only another than that of the loopback."""
    port: int = 8765
    """Port to listen on; 0 for any free one."""
    token: str | None = field(default=None, repr=False)
    """What every request must show; None to let in everyone who reaches the service."""
    names: tuple[str, ...] = ()
    """More host names under which the service is asked, such as that of a reverse proxy."""
    proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies, whose word for the client's address is taken."""
    allow_verdicts: bool = False
    """Let requests record verdicts."""
    allow_erase: bool = False
    """Let requests erase rows."""
    max_body_bytes: int = 32 * 2**20
    """Bytes of the largest body of a request."""
    max_pixels: int = 20_000_000
    """Pixels of the largest picture in a request."""
    max_results: int = 1000
    """Rows in the longest list of an answer."""
    max_queries: int = 64
    """Queries in one request."""
    requests_per_second: float = 100.0
    """Requests of one client, on average."""
    burst: int = 400
    """Requests of one client at once."""
    body_seconds: float = 10.0
    """Seconds that a body may take, and one more for each 16 KiB of it."""
    batch_ms: float = 3.0
    """Milliseconds for which a search waits for others, to be computed with them."""
    threads: int = 0
    """Threads of a search; 0 for as many as there are cores."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise InputError(f"`port` must be from 0 (any free one) to 65535, not {self.port}")
        for name in ("max_body_bytes", "max_pixels", "max_results", "max_queries", "burst"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        for name in ("requests_per_second", "body_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name):g}")
        if self.threads < 0:
            raise InputError(f"`threads` must be 0 (all cores) or more, not {self.threads}")
        if not 0 <= self.batch_ms <= 1000:
            raise InputError(f"`batch_ms` must be from 0 to 1000, not {self.batch_ms:g}")
        for name in (*self.names, self.host):
            if not name or re.search(r"[\s/@]", name) or name == "*":
                raise InputError(f"{name!r} is not the name or address of a machine")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise InputError(
                "the token must have 16 to 4,096 visible ASCII characters, no spaces: make one"
                " with: openssl rand -hex 32"
            )
        if self.token is None and not self.is_loopback:
            raise InputError(
                f"other machines reach {self.host}: a service there needs a token; without one it"
                " can only listen on 127.0.0.1"
            )

    @property
    def own_names(self) -> frozenset[str]:
        """The host names and addresses under which it may be asked, in lower case.

        >>> "localhost" in ServiceSettings(names=("Gallery.example",)).own_names
        True
        """
        own = {name.lower().strip("[]") for name in (self.host, *self.names)}
        if self.is_loopback or self.is_everywhere:
            own |= set(LOOPBACK_NAMES)
        return frozenset(own | ({socket.gethostname().lower()} if self.is_everywhere else set()))

    @property
    def is_everywhere(self) -> bool:
        """Whether it listens on all addresses of the machine.

        >>> ServiceSettings(host="0.0.0.0", token="0123456789abcdef").is_everywhere
        True
        """
        return self.host in ("0.0.0.0", "::")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the service.

        >>> ServiceSettings().is_loopback
        True
        """
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class Served:
    """A service that has ended: the `address` and the galleries that it `served`, the `answers`
    that it gave (None for replicas, which count their own), and the seconds that it was up.
    """

    address: str
    served: tuple[str, ...]
    answers: int | None
    up_seconds: float
