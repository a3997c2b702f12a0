"""Who may ask: host name, origin and token of a request, checked before anything else."""

import ipaddress
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.service.entrance import Entrance
from pipeline.service.faults import fault
from pipeline.service.settings import ServiceSettings

_COOKIE = "regallery"
_ENTER = "/enter/"
_HEALTH = "/healthz"
_OTHER_SITES = ("cross-site", "same-site")


class Guard:
    """ASGI middleware that refuses requests which nobody of this service can have meant.

    421 for a host name that is not the service's own (a page elsewhere that has its name point
    here, DNS rebinding); 403 for a request from a page of another origin; 401 without the token.
    No token is needed for the health, one-time links, and `public` paths: the files of the page,
    which hold no data.
    """

    def __init__(
        self, app: ASGIApp, settings: ServiceSettings, entrance: Entrance, public: frozenset[str]
    ) -> None:
        self._app = app
        self._public = public | {_HEALTH}
        self._entrance = entrance
        self._names = settings.own_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope) if scope["type"] == "http" else fault(404, "no web sockets")
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_own(host, scope):
            return fault(
                421, "this service has another host name; name it when the service is started"
            )
        is_public = scope["path"] in self._public or scope["path"].startswith(_ENTER)
        if not _is_of_page(headers, host, is_public):
            return fault(403, "the request comes from a page of another origin")
        if not is_public and not self._has_token(headers, scope):
            return fault(
                401,
                "the token is missing or wrong: send it as Authorization: Bearer TOKEN, or open the"
                " one-time link that the service printed",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _is_own(self, host: str, scope: Scope) -> bool:
        name = host_name(host)
        if name in self._names:
            return True
        # The address that the client connected to: only a name can be made to point here.
        address = (scope.get("server") or ("",))[0]
        return same_address(name, address)

    def _has_token(self, headers: Headers, scope: Scope) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if given:
            return scheme.lower() == "bearer" and self._entrance.is_token(given.strip())
        return self._entrance.is_cookie(_cookies(headers).get(cookie_name(scope), ""))


def cookie_name(scope: Scope) -> str:
    """The name of the cookie: browsers send it to every port, and each service has its own."""
    port = (scope.get("server") or ("", None))[1]
    return f"{_COOKIE}_{port or 0}"


def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without the port.

    >>> host_name("LocalHost:8765"), host_name("[::1]:80")
    ('localhost', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_of_page(headers: Headers, host: str, is_public: bool) -> bool:
    """Whether a request comes from the service's own page, or from no page at all; a link to a
    public path may be on any page.
    """
    if "origin" in headers:
        origin = headers["origin"].lower()
        return origin.partition("://")[2] == host.lower()
    return is_public or headers.get("sec-fetch-site") not in _OTHER_SITES


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        held = SimpleCookie("; ".join(headers.getlist("cookie")))
    except CookieError:
        return {}
    return {name: each.value for name, each in held.items()}


def same_address(one: str, other: str) -> bool:
    """Whether two texts are one IP address; an IPv4 address has a form in IPv6, too.

    >>> same_address("192.0.2.7", "::ffff:192.0.2.7"), same_address("evil.example", "evil.example")
    (True, False)
    """
    try:
        first, second = (ipaddress.ip_address(each) for each in (one, other))
    except ValueError:
        return False
    mapped = getattr(second, "ipv4_mapped", None)
    return first in (second, mapped)
