"""The pages of a bench, as they are shown, and while they are open."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.runtime import Runtime
from frappe_jobs.web import live
from frappe_jobs.web.access import ANYBODY, Person
from frappe_jobs.web.audit import Audit
from frappe_jobs.web.bench_picture import BenchPicture
from frappe_jobs.web.door import Door, Visitor
from frappe_jobs.web.looks import address, make_environment
from frappe_jobs.web.pages import PAGES
from frappe_jobs.web.runs import Runs
from frappe_jobs.web.sessions import Sessions
from frappe_jobs.web.view import NOT_HERE, NotHere, Page, View

#: Pages that may be open at once.
MOST_OPEN = 500


class Pages:
    """The pages of one bench."""

    def __init__(self, here: Runtime) -> None:
        broker = here.broker
        self.here, self.environment = here, make_environment()
        self.sessions = Sessions(here.in_force, is_searchable=broker.is_searchable)
        self.audit = Audit(here.in_force, is_searchable=broker.is_searchable)
        self.door = Door(here.settings, self.sessions)
        self.runs = Runs(here.in_force, is_searchable=broker.is_searchable)
        self.picture, self.hub = BenchPicture(here), live.Hub()
        #: Stands in pictures that many see for the token of each one's forms.
        self.gap = secrets.token_hex(16)

    def view(self, person: Person, query: str) -> View:
        return self.view_of(person, tuple(parse_qsl(query, keep_blank_values=False)))

    def view_of(self, person: Person, pairs: Sequence[tuple[str, str]]) -> View:
        return View(self.here, self.picture, self.audit, self.runs, person, pairs)

    def html(self, template: str, **values: Any) -> str:
        return self.environment.get_template(template).render(**values)

    def whole(
        self, visitor: Visitor, page: Page, values: Mapping[str, Any], query: str = ""
    ) -> str:
        """A page with all that is around it."""
        token = "" if visitor.person.name == "" else self.door.form_token(visitor.bound_to)
        menu = [one for one in PAGES if one.in_menu and one.is_for(visitor.person)]
        is_live = page.live and not values.get("is_still")
        stream = address("/live", page=page.path, query=unsaid(query)) if is_live else None
        return self.html(
            "whole.html", page=page, menu=menu, person=visitor.person, token=token, stream=stream,
            query=query, bench=self.here.settings.bench_id, **values,
        )  # fmt: skip

    def warm(self) -> None:
        """Look at each page once, so that the first visitor waits for no template and no import."""
        for page in PAGES:
            self.environment.get_template(page.template)
        for page in PAGES:
            if page.in_menu and self._look(page, ANYBODY, "")[0] == "away":
                return

    # --- a page

    def show(self, page: Page, request: Request) -> Response:
        visitor = self.door.visitor(request)
        query = request.url.query
        if visitor is None:
            return RedirectResponse(address("/login", next=address_within(request)), 303)
        if not page.is_for(visitor.person):
            raise NotHere
        values = {"heading": ""} | dict(page.read(self.view(visitor.person, query)))
        said = self._said(request.query_params.get("said"), request.query_params.get("seal"))
        status = 400 if values.get("wrong") else 200
        return HTMLResponse(self.whole(visitor, page, {**values, "said": said}, query), status)

    def _said(self, said: str | None, seal: str | None) -> str | None:
        if said and seal and secrets.compare_digest(self.seal(said).encode(), seal.encode()):
            return said
        return None

    # --- the same while it is open

    async def stream(self, request: Request) -> Response:
        visitor = await run_in_threadpool(self.door.visitor, request)
        page = next((one for one in PAGES if one.path == request.query_params.get("page")), None)
        if visitor is None or page is None or not page.live or not page.is_for(visitor.person):
            return Response(status_code=204)  # a browser then asks no more
        if self.hub.watchers >= MOST_OPEN:
            return Response("Too many pages are open.", 503)
        query = request.query_params.get("query", "")
        person = visitor.person
        key = page.path, query, person.role, person.sites
        look = partial(run_in_threadpool, self._look, page, person, query)

        async def is_allowed() -> bool:
            return await run_in_threadpool(self._is_still, request, person)

        token = await run_in_threadpool(self._token, visitor)

        async def events() -> Any:
            async for event in self.hub.follow(key, look, page.pace, is_allowed):
                yield event.replace(self.gap.encode(), token.encode())

        return StreamingResponse(
            events(), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    def _token(self, visitor: Visitor) -> str:
        return "" if visitor.person.name == "" else self.door.form_token(visitor.bound_to)

    def _is_still(self, request: Request, person: Person) -> bool:
        """Whether who looks is who they were; while that cannot be asked they see no news."""
        try:
            visitor = self.door.visitor(request)
        except FrappeJobsError:
            return True
        return visitor is not None and visitor.person == person

    def _look(self, page: Page, person: Person, query: str) -> live.News:
        try:
            values = page.read(self.view(person, query))
            made = self.html(page.template, person=person, token=self.gap, **values)
        except NotHere:
            return "gone", NOT_HERE
        except FrappeJobsError as error:
            return "away", str(error)
        return "picture", made

    def sorry(self, status: int, title: str, text: str) -> Response:
        return HTMLResponse(self.html("sorry.html", title=title, text=text), status)

    def seal(self, said: str) -> str:
        """Shows that these pages have said it: what an address says could be anybody's."""
        return self.door.form_token(f"said {said}")


def unsaid(query: str) -> str:
    """The parameters without what was said once, so that who sees the same shares a picture."""
    pairs = [pair for pair in parse_qsl(query) if pair[0] not in ("said", "seal")]
    return urlencode(pairs)


def address_within(request: Request) -> str:
    """The path and the parameters of an address, to come back to."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")
