"""Benches, and who looks at their pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from browser import chromium
from playwright.sync_api import Browser
from web.visitor import HASH, USERS, Visitor

from frappe_jobs.web import examination
from frappe_jobs.web.app import make_app
from frappe_jobs.web.door import COOKIE
from frappe_jobs.web.guard import LOOPBACK
from frappe_jobs.web.sessions import Sessions


@pytest.fixture(autouse=True)
def no_doctor_stays() -> Iterator[None]:
    """What still looks at a test's bench ends with the test."""
    yield
    examination.end_all()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real one, for those who see."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(bench) -> Callable[..., Visitor]:
    """Lets somebody look at the bench's pages."""
    app = make_app(bench.use(), LOOPBACK)
    return lambda **options: Visitor(app, **options)


@pytest.fixture
def anybody(visit: Callable[..., Visitor]) -> Visitor:
    """Where nobody logs in."""
    return visit()


@pytest.fixture
def guarded(make_bench):
    """A bench where people log in."""
    bench = make_bench(frappe_jobs_web={"users": USERS})
    bench.use()
    return bench


@pytest.fixture
def known(guarded) -> Callable[[str], Visitor]:
    """Somebody who has logged in there; test_door.py has how, which takes long on purpose."""
    here = guarded.use()
    app = make_app(here, LOOPBACK)
    sessions = Sessions(here.in_force, is_searchable=here.broker.is_searchable)

    def come(name: str) -> Visitor:
        visitor = Visitor(app)
        visitor.cookies.set(COOKIE, sessions.begin(name, HASH, hours=1))
        return visitor

    return come


@pytest.fixture
def visit_of() -> Callable[..., Visitor]:
    """Lets anybody look at the pages of that bench."""
    return lambda bench: Visitor(make_app(bench.use(), LOOPBACK))


@pytest.fixture
def visit_shared(shared, visit_of: Callable[..., Visitor]) -> Visitor:
    """Anybody, before the pages of a bench with a worker."""
    return visit_of(shared)
