"""The server of the pages: one process, on an address of this machine unless told otherwise."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection

import uvicorn

from frappe_jobs.errors import ConfigError
from frappe_jobs.runtime import Runtime
from frappe_jobs.web.access import Access, access_of
from frappe_jobs.web.app import make_app
from frappe_jobs.web.guard import LOOPBACK
from frappe_jobs.web.memory import give_back_freed


def serve(here: Runtime, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the pages until the process is told to end; ``say`` hears where they are.

    Raises ConfigError: for another address than this machine's own somebody must be able to log in.
    """
    access = access_of(here.settings)
    hosts = hosts_of(host, access)
    listening = _listen(host, port)
    give_back_freed()
    app = make_app(here, hosts)
    app.state.pages.warm()
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=1, lifespan="on", timeout_keep_alive=30,
    )  # fmt: skip
    shown = f"[{host}]" if ":" in host else host
    who = "read-only, without a login" if access.is_open else "for those who log in"
    say(f"The pages are at http://{shown}:{listening.getsockname()[1]}/ ({who}).")
    say("ready")
    uvicorn.Server(config).run(sockets=[listening])


def hosts_of(host: str, access: Access) -> Collection[str]:
    """By which names the pages are reached; raises ConfigError if nobody could be kept out."""
    if host in LOOPBACK or _is_loopback(host):
        return {*LOOPBACK, host}
    if access.is_open:
        raise ConfigError(
            f"{host!r} can be reached from other machines, and nobody logs in here. Name users "
            "under 'frappe_jobs_web' in common_site_config.json (docs/web.md), or use 127.0.0.1."
        )
    if host in ("0.0.0.0", "::"):
        if not access.hosts:
            raise ConfigError(
                f"{host!r} stands for every address of this machine: name those that people use "
                "under 'hosts' of 'frappe_jobs_web' in common_site_config.json."
            )
        return LOOPBACK
    return {*LOOPBACK, host.lower()}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"The pages cannot be served at {host}:{port}: {error.strerror or error}. Give another "
            "--host or --port."
        ) from None
    # asyncio asks for it only where it has made the socket: without it a page that goes out in two
    # parts waits 40 ms for the browser's word that it has the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
