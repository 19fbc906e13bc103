"""What is sent to the pages: a login, a logout, an action.  Each only from a form of ours."""

from __future__ import annotations

import secrets
from functools import partial
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from frappe_jobs.web.actions import ACTIONS, noted
from frappe_jobs.web.audit import Deed
from frappe_jobs.web.bench_pages import Pages
from frappe_jobs.web.door import COOKIE, FORM_COOKIE, address_of
from frappe_jobs.web.guard import is_of_our_pages
from frappe_jobs.web.looks import address
from frappe_jobs.web.view import NotHere

#: Bytes of a form, its arguments included; and seconds that a login form may be open.
LONGEST_FORM, FORM_TTL = 1_000_000, 3600

STRANGE = "This form is too old, or is none of these pages. Open the page again, and repeat it."
WRONG = "The name or the password is wrong."
LATER = "That was tried too often. Try again in {} s."

Form = list[tuple[str, str]]


class Forms:
    """Takes them."""

    def __init__(self, pages: Pages) -> None:
        self._pages, self._door = pages, pages.door

    # --- the login

    def show_login(self, request: Request, said: str = "", status: int = 200) -> Response:
        if self._door.access.is_open or self._door.visitor(request):
            return RedirectResponse(next_of(request.query_params.get("next")), 303)
        nonce = secrets.token_urlsafe(24)
        token = self._door.form_token(f"login {nonce}")
        target = next_of(request.query_params.get("next"))
        made = self._pages.html(
            "login.html", token=token, said=said, next=target,
            by_password=bool(self._door.access.hashes),
        )  # fmt: skip
        response = HTMLResponse(made, status)
        self._door.set_cookie(response, FORM_COOKIE, nonce, FORM_TTL)
        return response

    async def log_in(self, request: Request) -> Response:
        form = dict(await read_form(request))
        return await run_in_threadpool(self._log_in, request, form)

    def _log_in(self, request: Request, form: dict[str, str]) -> Response:
        nonce = self._door.form_cookie(request)
        if not (nonce and self._is_ours(request, f"login {nonce}", form.get("token", ""))):
            return self.show_login(request, STRANGE, 403)
        name = form.get("name", "")
        found = self._door.log_in(request, name, form.get("password", ""))
        if not isinstance(found, str):
            self._note(request, name, "login", "refused")
            if found is None:
                return self.show_login(request, WRONG, 403)
            response = self.show_login(request, LATER.format(found), 429)
            response.headers["retry-after"] = str(found)
            return response
        self._note(request, name, "login", "logged in")
        response = RedirectResponse(next_of(form.get("next")), 303)
        self._door.set_cookie(response, COOKIE, found, self._door.access.session_hours * 3600)
        self._door.forget_cookie(response, FORM_COOKIE)
        return response

    async def log_out(self, request: Request) -> Response:
        form = dict(await read_form(request))
        return await run_in_threadpool(self._log_out, request, form)

    def _log_out(self, request: Request, form: dict[str, str]) -> Response:
        visitor = self._door.visitor(request)
        if visitor and not self._is_ours(request, visitor.bound_to, form.get("token", "")):
            return self._pages.sorry(403, "Not done", STRANGE)
        self._door.log_out(request)
        response = RedirectResponse("/login", 303)
        self._door.forget_cookie(response, COOKIE)
        return response

    # --- an action

    async def act(self, request: Request) -> Response:
        form = await read_form(request)
        return await run_in_threadpool(self._act, request, form)

    def _act(self, request: Request, form: Form) -> Response:
        visitor, name = self._door.visitor(request), request.path_params["name"]
        if visitor is None:
            return RedirectResponse("/login", 303)
        token = next((value for key, value in form if key == "token"), "")
        if not self._is_ours(request, visitor.bound_to, token):
            return self._pages.sorry(403, "Not done", STRANGE)
        if name not in ACTIONS:
            raise NotHere
        done = noted(self._pages.view_of(visitor.person, form), name, address_of(request))
        seal = self._pages.seal(done.said) if done.said else None
        return RedirectResponse(address(done.to, said=done.said, seal=seal), 303)

    def _is_ours(self, request: Request, bound_to: str, token: str) -> bool:
        return is_of_our_pages(request) and self._door.is_from_form(bound_to, token)

    def _note(self, request: Request, name: str, what: str, outcome: str) -> None:
        self._pages.audit.note(Deed(name, what, "", "", address_of(request), outcome))


async def read_form(request: Request) -> Form:
    """What a form of ours has sent; nothing of what is too long, or of another kind."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        return []
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            return []
    read = partial(parse_qsl, keep_blank_values=True, max_num_fields=100)
    try:
        return read(body.decode("utf-8"))
    except ValueError:
        return []


def next_of(target: str | None) -> str:
    """Where to go on: a page of ours, whatever the address says."""
    is_ours = target and target.startswith("/") and not target.startswith(("//", "/\\", "/log"))
    return target if target and is_ours and target.isprintable() else "/"
