"""Who comes in: by a session, by a trusted proxy's header, or anybody where nobody logs in."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from frappe_jobs.config import Settings
from frappe_jobs.web.access import ANYBODY, Access, Person, access_of
from frappe_jobs.web.passwords import fits
from frappe_jobs.web.sessions import Sessions, same_proof

#: Of a session, and of a login form that was shown.
COOKIE, FORM_COOKIE = "frappe_jobs_session", "frappe_jobs_login"


@dataclass(frozen=True)
class Visitor:
    """Who somebody is, and what the tokens of their forms are bound to."""

    person: Person
    bound_to: str


class Door:
    """Lets people in."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._settings, self._sessions = settings, sessions

    @property
    def access(self) -> Access:
        """Raises ConfigError."""
        return access_of(self._settings)

    def visitor(self, request: Request) -> Visitor | None:
        """None: they must log in.  Raises BrokerUnavailable, ConfigError."""
        access = self.access
        if access.is_open:
            return Visitor(ANYBODY, "anybody")
        if name := self._named_by_proxy(request, access):
            return Visitor(access.people[name], f"proxy {name}") if name in access.people else None
        token = request.cookies.get(cookie_name(COOKIE, access))
        found = self._sessions.find(token) if token else None
        if token is None or found is None:
            return None
        name, known = found
        if name not in access.hashes or not same_proof(access.hashes[name], known):
            return None  # taken out of the file, or their password is another one
        return Visitor(access.people[name], f"session {token}")

    def _named_by_proxy(self, request: Request, access: Access) -> str | None:
        """Only the proxy may say so: anybody can send a header."""
        if access.trusted_header is None or address_of(request) not in access.trusted_proxies:
            return None
        return request.headers.get(access.trusted_header)

    def form_token(self, bound_to: str) -> str:
        """What a form must bring back; raises BrokerUnavailable."""
        return self._sessions.token_for(bound_to)

    def is_from_form(self, bound_to: str, given: str) -> bool:
        """Whether that is the token of a form that this visitor was shown."""
        return secrets.compare_digest(self.form_token(bound_to).encode(), given.encode())

    def check(self, request: Request, name: str, password: str) -> bool | int:
        """Whether that is the user's password; a number: not looked at, for so many seconds."""
        address, access = address_of(request), self.access
        if rest := self._sessions.rest(address, name):
            return rest
        self._sessions.note_try(address, name)
        if not fits(password, access.hashes.get(name)):
            return False
        self._sessions.note_success(address, name)
        return True

    def log_in(self, request: Request, name: str, password: str) -> str | int | None:
        """A new session's token; None: refused; a number: refused for so many seconds."""
        found, access = self.check(request, name, password), self.access
        if found is not True:
            return found or None
        return self._sessions.begin(name, access.hashes[name], access.session_hours)

    def log_out(self, request: Request) -> None:
        if token := request.cookies.get(cookie_name(COOKIE, self.access)):
            self._sessions.end(token)

    def set_cookie(self, response: Response, cookie: str, value: str, seconds: int) -> None:
        """A cookie that no script reads and no other site's form brings."""
        access = self.access
        response.set_cookie(
            cookie_name(cookie, access), value, max_age=seconds, path="/", httponly=True,
            samesite="lax", secure=access.https,
        )  # fmt: skip

    def form_cookie(self, request: Request) -> str | None:
        return request.cookies.get(cookie_name(FORM_COOKIE, self.access))

    def forget_cookie(self, response: Response, cookie: str) -> None:
        self.set_cookie(response, cookie, "", 0)


def cookie_name(cookie: str, access: Access) -> str:
    """Over TLS no other host of the domain can set it."""
    return f"__Host-{cookie}" if access.https else cookie


def address_of(request: Request) -> str:
    """Whose connection it is; behind a proxy the proxy's."""
    return request.client.host if request.client else "?"
