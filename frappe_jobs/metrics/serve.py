"""The server of the metrics: one process, on an address of this machine unless told otherwise."""

from __future__ import annotations

import socket
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from frappe_jobs.errors import ConfigError
from frappe_jobs.metrics.families import page
from frappe_jobs.runtime import Runtime

#: Seconds that somebody who asks may take for it.
PATIENCE = 10


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each question, so that a slow one holds nobody up."""

    daemon_threads = True


class Server6(Server):
    """The same, on an address of version 6."""

    address_family = socket.AF_INET6


class Handler(WSGIRequestHandler):
    """Logs nothing: Prometheus asks every few seconds."""

    timeout = PATIENCE

    def log_message(self, *_: Any) -> None:
        pass


def serve(here: Runtime, host: str, port: int, say: Callable[[str], None]) -> None:
    """Answer at /metrics until the process is told to end; ``say`` hears where.

    Raises ConfigError if it cannot listen there.
    """
    kind = Server6 if ":" in host else Server
    try:
        server = make_server(host, port, _answering(here), kind, Handler)
    except OSError as error:
        raise ConfigError(
            f"The metrics cannot be served at {host}:{port}: {error.strerror or error}. Give "
            "another --host or --port."
        ) from None
    with server:
        shown = f"[{host}]" if ":" in host else host
        say(f"The metrics are at http://{shown}:{server.server_port}/metrics.")
        say("ready")
        server.serve_forever()


def _answering(here: Runtime) -> Any:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return []
        if environ["PATH_INFO"] != "/metrics":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"The metrics are at /metrics.\n"]
        text, kind = page(here)
        start("200 OK", [("Content-Type", kind)])
        return [text]

    return answer
