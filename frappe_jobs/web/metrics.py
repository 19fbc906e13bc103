"""The metrics behind the door of the pages: Prometheus comes in with a name and a password."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from frappe_jobs.errors import needing
from frappe_jobs.runtime import Runtime, load
from frappe_jobs.web.access import Person
from frappe_jobs.web.door import Door
from frappe_jobs.web.view import NotHere

ASK = {"www-authenticate": 'Basic realm="frappe_jobs", charset="UTF-8"'}


class Metrics:
    """Answers at ``/metrics`` where ``frappe_jobs_metrics`` is set."""

    def __init__(self, here: Runtime, door: Door) -> None:
        self._here, self._door = here, door

    def show(self, request: Request) -> Response:
        """For those who see all sites, whatever their role: there are figures of the whole bench.

        Raises NotHere, ConfigError.
        """
        if not self._here.settings.metrics:
            raise NotHere
        person = self._person(request)
        if isinstance(person, int):
            later = {"retry-after": str(person)}
            return PlainTextResponse("That was tried too often.\n", 429, later)
        if person is None:
            return PlainTextResponse("Who asks? Give a name and a password.\n", 401, ASK)
        if not person.sees_all:
            raise NotHere
        with needing("metrics", ["prometheus_client"]):
            text, kind = load("metrics")(self._here)
        return Response(text, media_type=kind)

    def _person(self, request: Request) -> Person | int | None:
        if visitor := self._door.visitor(request):
            return visitor.person
        given = credentials(request.headers.get("authorization", ""))
        if given is None:
            return None
        found = self._door.check(request, *given)
        return self._door.access.people[given[0]] if found is True else found or None


def credentials(header: str) -> tuple[str, str] | None:
    """Name and password of HTTP's Basic authentication; None if it is none."""
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(coded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None
