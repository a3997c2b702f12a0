"""How a browser gets in: a link that works once, and the cookie that it is exchanged for."""

import hashlib
import hmac
import secrets

_LINKS_HELD = 100


class Entrance:
    """Compares tokens, and makes and takes one-time links.

    With the token None everyone is let in. The cookie holds a value that is derived from the token:
    it holds as long as the token, and does not tell it.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._links: list[str] = []
        key = (token or "").encode()
        self.cookie = hmac.new(key, b"regallery cookie", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Whether a text is the token, compared in constant time.

        >>> Entrance("0123456789abcdef").is_token("0123456789abcdee")
        False
        """
        return self._token is None or _equal(given, self._token)

    def is_cookie(self, given: str) -> bool:
        """Whether a text is what the cookie holds, compared in constant time."""
        return self._token is None or _equal(given, self.cookie)

    def new_link(self) -> str:
        """A word that lets a browser in once; of many that nobody used, the oldest end."""
        link = secrets.token_urlsafe(32)
        self._links = [*self._links, link][-_LINKS_HELD:]
        return link

    def use_link(self, given: str) -> bool:
        """Whether a word was a link that nobody has used; it is used from now on."""
        found = [link for link in self._links if _equal(given, link)]
        self._links = [link for link in self._links if link not in found]
        return bool(found)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
