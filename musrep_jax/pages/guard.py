"""Access control of the local page, and the security headers of its responses."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # Everything that a page loads comes from here; `blob:` is the recording that was dropped.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
"""Headers of every response. There is no CORS: no header lets another site's page read one."""


_MAX_SHOWN = 200
"""Characters of a header that a response repeats."""


class RequestGuard:
    """Middleware that accepts only requests to this machine's address, from its own pages.

    A page of another site can make a browser send requests here, but not without its own name in
    `Origin`; and it can give its own name the address 127.0.0.1 ("DNS rebinding"), but then that
    name stands in `Host`. Addresses in figures cannot be made to lead elsewhere.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        """Wraps an app.

        Args:
            app: of the page.
            host: the name or address that the page was started with, which may call it too.
        """
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forwards a request, or refuses it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        status, place = 403, None if origin is None else parse_origin(origin)
        if not is_allowed_host(host, self._host):
            refusal = (
                f"this page does not answer to the name {host[:_MAX_SHOWN]!r}: use its address."
            )
        elif origin is not None and place is None:
            status, refusal = 400, "the header Origin is no address."
        elif place is not None and place != host:
            refusal = "a page of another site may not use this one."
        else:
            await self._app(scope, receive, send_with_headers)
            return
        response = JSONResponse({"error": refusal}, status_code=status)
        await response(scope, receive, send_with_headers)


def parse_origin(origin: str) -> str | None:
    """Returns host and port of an `Origin` header, "" for "null", or None if it is no address.

    Another port is another site: whatever else serves pages on this machine is not this page.

    >>> parse_origin("http://127.0.0.1:8765")
    '127.0.0.1:8765'

    Args:
        origin: the header.
    """
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def is_allowed_host(host: str, own: str) -> bool:
    """Returns whether a `Host` header names this machine in a way that no other site can arrange.

    Args:
        host: of the header, perhaps with a port.
        own: the configured name.

    Example:
        >>> is_allowed_host("127.0.0.1:8765", "127.0.0.1")
        True
        >>> is_allowed_host("evil.example", "127.0.0.1")
        False
    """
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    if name in ("localhost", own.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
