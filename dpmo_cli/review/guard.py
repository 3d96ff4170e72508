"""What stands before the page's server: it lets only the page itself in, and small bodies."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-dpmo-token"
MAX_BODY_BYTES = 4 * 2**20
"""Bodies above this are refused; a mask of a whole large photo has some hundred kB."""

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
        b" connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_READING = ("GET", "HEAD")
_LOGGED = (400, 404, 405)
Refusal = tuple[int, str]
"""Status and reason."""
_TOO_LARGE = 413, f"the body is larger than {MAX_BODY_BYTES} bytes"


class Guard:
    """ASGI middleware that refuses what can't come from the page.

    Refused are other Host headers (a foreign name that was pointed at this machine), requests
    that another site's page makes, posts without the token that was drawn at the start or that
    are no JSON, and large bodies. Each refusal is one line of the log, and the server goes on.

    Args:
        app: what is guarded.
        hosts: the Host headers that are ours, with port.
        token: to be shown with each post.
        log: takes one line for each refusal.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str], token: str, log: Callable[[str], None]
    ) -> None:
        self._app, self._hosts, self._token, self._log = app, hosts, token, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # There are no WebSockets here.
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
                if message["status"] in _LOGGED:
                    self._log(_line(scope, f"answered {message['status']}"))
            await send(message)

        refused = self._refusal(scope)
        body = b""
        if refused is None:
            whole = await _body(receive)
            refused = _TOO_LARGE if whole is None else None
            body = whole or b""
        if refused is None:
            try:
                await self._app(scope, _again(body, receive), send_guarded)
                return
            except Exception as error:
                # What no route expects ends one request, in one line.
                words = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
                refused = 500, words
        status, why = refused
        self._log(_line(scope, f"{'failed' if status == 500 else 'refused'}: {why}"))
        if not started:
            await _answer(send, status, why)

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is refused, None for one that may pass."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        refused = self._stranger(headers, scope["path"])
        if refused is None and scope["method"] not in _READING:
            refused = self._unfit_post(headers)
        return refused

    def _stranger(self, headers: Mapping[str, list[str]], path: str) -> Refusal | None:
        """Why a request is none of this page's."""
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 421, f"the Host is {_shown(' '.join(hosts))}, not this server's"
        origins = headers.get("origin", [])
        if any(one.lower() not in {f"http://{host}" for host in self._hosts} for one in origins):
            return 403, f"the Origin is {_shown(' '.join(origins))}, not this page"
        # A link on another page may lead to the page itself, and to nothing else.
        site = _first(headers, "sec-fetch-site", "none")
        if site not in ("same-origin", "none") and path != "/":
            return 403, f"another site's page asked for it ({_shown(site)})"
        return None

    def _unfit_post(self, headers: Mapping[str, list[str]]) -> Refusal | None:
        """Why a post is none that the page makes."""
        if _first(headers, "sec-fetch-site", "same-origin") != "same-origin":
            return 403, "another page asked for it, or none"
        given = _first(headers, TOKEN_HEADER, "")
        if not secrets.compare_digest(given.encode("latin-1"), self._token.encode()):
            return 403, "the token is missing or of another start; load the page again"
        if _first(headers, "content-type", "").split(";")[0].strip() != "application/json":
            return 415, "the body is not said to be application/json"
        length = _first(headers, "content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return _TOO_LARGE
        return None


def _first(headers: Mapping[str, list[str]], name: str, otherwise: str) -> str:
    return headers.get(name, [otherwise])[0]


async def _body(receive: Receive) -> bytes | None:
    """A whole body; None where it goes on beyond the limit, whatever it announced."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be received once more; then what else comes."""
    waiting = [body]

    async def receive_again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receive_again


async def _answer(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _line(scope: Scope, what: str) -> str:
    return f"dpmo: {scope['method']} {_shown(scope['path'])}: {what}"


def _shown(text: str) -> str:
    """A stranger's text on one short line, without control characters."""
    return text[:120].encode("unicode_escape").decode("ascii")
