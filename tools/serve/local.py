"""A server in this process: one engine behind one socket."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from skipc.compiler.extras import require
from skipc.tools.serve.errors import ServeError
from skipc.tools.serve.metrics import EXTRA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    from skipc.tools.serve.service import Answer, Service

    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]

_BACKLOG = 2048


def listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; port 0 takes a free one.

    Raises:
        ServeError: It cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise ServeError(
            f"--host {host} --port {port}: {reason}. Give another port, or 0 for a free one."
        ) from cause


def serve(service: Service, listener: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM, then answers what came before that.

    Raises:
        ExtraMissingError: uvicorn is not installed.
    """
    uvicorn = require("uvicorn", EXTRA)
    config = uvicorn.Config(
        application(service),
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
    )
    server = uvicorn.Server(config)
    with closing(listener), _stopping(server), closing(service):
        service.start()
        server.run(sockets=[listener])


@contextmanager
def _stopping(server: Any) -> Iterator[None]:
    """Lets signals end the server and nothing else; uvicorn sends them again at its end."""

    def stop(number: int, frame: object) -> None:
        server.should_exit = True

    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def application(service: Service) -> Callable[[Event, Receive, Send], Awaitable[None]]:
    """Returns the service as an ASGI application."""

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        body = bytearray()
        more = True
        while more and len(body) <= service.most_bytes:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        answering = asyncio.ensure_future(
            service.answer(scope["method"], scope["path"], headers, bytes(body))
        )
        leaving = asyncio.ensure_future(_left(receive))
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not answering.done():
            answering.cancel()  # the request leaves the queue
            return
        await _send(answering.result(), send, close=more)

    return app


async def _left(receive: Receive) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(answer: Answer, send: Send, close: bool) -> None:
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    if close:  # the rest of what was sent is not read
        headers["connection"] = "close"
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    await send({"type": "http.response.body", "body": answer.body})
