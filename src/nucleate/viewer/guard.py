"""Restrict access to a browser on this machine that uses the printed address.

The address of the page contains a random token as the first part of its path, and so do all
addresses on the page. Pages of other sites do not have the token, and cannot read responses; DNS
rebinding is detected by the Host header.
"""

from __future__ import annotations

import asyncio
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' "
    "'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",  # the token is in the address
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
BODY_SECONDS = 60.0  # time limit for the body of a request
BODY_BYTES = 1 << 20  # size limit of a body that is not an image


class Guard:
    """Middleware that rejects requests without access, and adds security headers.

    Args:
        app: the application.
        token: first part of every path.
        port: port of the server, for the Host and Origin headers.
        image_bytes: size limit of images sent to a path that ends in `/images`.
        body_seconds: time limit for the body of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        port: int,
        image_bytes: int = 0,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app, self._token = app, token
        end = "" if port == 80 else f":{port}"  # browsers omit the default port
        self._hosts = {f"127.0.0.1{end}", f"localhost{end}"}
        self._image_bytes, self._seconds = image_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, or reject: 400 foreign Host, 403 foreign page, 404 no token, 413, 408."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refused = self._refuse(scope, Headers(scope=scope))
        if refused is not None:
            await _no(*refused)(scope, receive, send)
            return
        if scope["path"] == f"/{self._token}":  # addresses on the page are relative to the slash
            await RedirectResponse(f"/{self._token}/", 307, HEADERS)(scope, receive, send)
            return
        body = await self._body(receive, self._most(scope["path"]))
        if isinstance(body, int):
            words = "The request is too large or too slow."
            await _no(body, words)(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def given() -> Message:
            return whole.pop() if whole else await receive()

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        inner = {**scope, "path": scope["path"].removeprefix(f"/{self._token}") or "/"}
        inner["raw_path"] = inner["path"].encode()
        await self._app(inner, given, sent)

    def _refuse(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        if headers.get("host", "") not in self._hosts:
            return 400, "This server accepts requests only under its own name."
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return 403, "Requests from other sites are not allowed."
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not (
            scope["method"] == "GET"  # a link to the page, such as in a mail, may open it
            and scope["path"] == f"/{self._token}/"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        ):
            return 403, "Requests from other sites are not allowed."
        first = scope["path"].lstrip("/").split("/")[0]
        if not secrets.compare_digest(first.encode(), self._token.encode()):
            return 404, "There is nothing here. Open the address that nucleate printed."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._most(scope["path"]):
            return 413, "The request is too large."
        return None

    def _most(self, path: str) -> int:
        return self._image_bytes if path.endswith("/images") else BODY_BYTES

    async def _body(self, receive: Receive, most: int) -> bytes | int:
        """Return the body of a request, or the status code of an error."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return 400
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        return 413
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return 408


def _no(status: int, words: str) -> PlainTextResponse:
    """Return the response to a rejected request."""
    return PlainTextResponse(words, status, {**HEADERS, "connection": "close"})
