"""The pages as an ASGI app: which address gives which page, and what becomes of errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from frappe_jobs.errors import BrokerError, ConfigError, DatabaseUnavailable, FrappeJobsError
from frappe_jobs.runtime import Runtime
from frappe_jobs.web.bench_pages import Pages
from frappe_jobs.web.door import Door
from frappe_jobs.web.forms import Forms
from frappe_jobs.web.guard import Guard
from frappe_jobs.web.looks import STATIC
from frappe_jobs.web.metrics import Metrics
from frappe_jobs.web.pages import PAGES
from frappe_jobs.web.view import NOT_HERE, NotHere

AWAY = (BrokerError, DatabaseUnavailable)
BROKEN = "That was our mistake. What happened stands in the log of the pages."
#: That read for pages at once.
THREADS = 4


def make_app(here: Runtime, hosts: Collection[str]) -> Starlette:
    """The pages of that bench; they are known under these hosts and those of the configuration."""
    pages = Pages(here)
    forms = Forms(pages)
    routes: list[Route | Mount] = [
        Route(page.path, partial(pages.show, page), name=page.title) for page in PAGES
    ]
    routes += [
        Route("/live", pages.stream),
        Route("/metrics", Metrics(here, pages.door).show),
        Route("/login", forms.show_login, methods=["GET"]),
        Route("/login", forms.log_in, methods=["POST"]),
        Route("/logout", forms.log_out, methods=["POST"]),
        Route("/act/{name}", forms.act, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    guard = Middleware(Guard, hosts=partial(known_hosts, pages.door, frozenset(hosts)))
    app = Starlette(
        routes=routes, middleware=[guard], exception_handlers=handlers(pages),
        lifespan=few_threads,
    )  # fmt: skip
    app.state.pages = pages
    return app


@asynccontextmanager
async def few_threads(_: Starlette) -> AsyncIterator[None]:
    """Of the many that might read at once each would keep memory of its own."""
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


def known_hosts(door: Door, hosts: frozenset[str]) -> Collection[str]:
    """These and those of the file; of a file that is wrong the pages say so themselves."""
    try:
        return hosts.union(door.access.hosts)
    except ConfigError:
        return hosts


def handlers(pages: Pages) -> Mapping[Any, Any]:
    """What is answered to errors: in words, and never a traceback."""

    def not_here(request: Request, error: Exception) -> Response:
        return pages.sorry(404, "Not here", NOT_HERE)

    def away(request: Request, error: Exception) -> Response:
        return pages.sorry(503, "Out of reach", str(error))

    def wrong(request: Request, error: Exception) -> Response:
        return pages.sorry(400, "Not done", str(error))

    def broken(request: Request, error: Exception) -> Response:
        return pages.sorry(500, "It went wrong", BROKEN)

    return {
        500: broken, 404: not_here, NotHere: not_here, FrappeJobsError: wrong,
        **dict.fromkeys(AWAY, away),
    }  # fmt: skip
