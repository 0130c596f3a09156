"""Serve the page until Ctrl+C."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nucleate.errors import ConfigError
from nucleate.viewer.app import make_app
from nucleate.viewer.contents import Content
from nucleate.viewer.guard import Guard
from nucleate.viewer.queue import Queue

_HOST = "127.0.0.1"
_AT_ONCE = 64  # maximum number of connections
ASK_S = 10.0  # time limit for the header of a request; slower connections are closed


class Prompt(H11Protocol):
    """HTTP protocol that closes silent connections, which would otherwise block all others."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Continue waiting until the header of the request is complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._rest()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._rest()
        elif self._late is None:
            self._late = self.loop.call_later(ASK_S, self.transport.close)

    def _rest(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def bound(port: int) -> socket.socket:
    """Return a listening socket that is reachable only from this machine.

    Raises:
        ConfigError: the port is in use, or privileged.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
        listening.listen()  # connections wait until the server runs
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"--port {port}: cannot be used ({error.strerror}). Choose another port, or 0 for any "
            "free one."
        ) from error
    return listening


def make_server(
    shown: list[Content], queue: Queue | None, listening: socket.socket, token: str
) -> uvicorn.Server:
    """Create the server; `run(sockets=[listening])` starts it."""
    most = 0 if queue is None else queue.limits.megabytes << 20
    port = listening.getsockname()[1]
    guarded = Guard(make_app(shown, queue), token, port, image_bytes=most)
    config = uvicorn.Config(
        guarded, log_level="error", access_log=False, lifespan="off", server_header=False,
        limit_concurrency=_AT_ONCE, timeout_keep_alive=15, timeout_graceful_shutdown=2,
        proxy_headers=False, ws="none", http=Prompt,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve_until_stopped(
    shown: list[Content],
    queue: Queue | None,
    port: int,
    scratch: Path | None,
    say: Callable[[str], None],
) -> None:
    """Print the address, open the browser, and serve until Ctrl+C.

    Args:
        shown: images to show.
        queue: queue for dropped images; None to accept none.
        port: port; 0 for any free port.
        scratch: folder that only this user can read, for a page that redirects the browser: all
            users of a machine can see its arguments, which must not contain the token. None opens
            no browser.
        say: called with the address.

    Raises:
        ConfigError: the port cannot be used.
    """
    listening = bound(port)
    token = secrets.token_urlsafe(16)
    address = f"http://{_HOST}:{listening.getsockname()[1]}/{token}/"
    server = make_server(shown, queue, listening, token)
    say(address)
    if scratch is not None:
        way = scratch / "nucleate.html"
        way.write_text(f'<meta http-equiv="refresh" content="0; url={address}">', "utf-8")
        threading.Thread(target=webbrowser.open, args=[way.as_uri()], daemon=True).start()
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            server.run(sockets=[listening])
    finally:
        listening.close()
        if queue is not None:
            queue.close()
