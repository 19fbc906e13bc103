"""A site whose database accepts connections and never answers: its jobs wait, the others' run."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from acme import tasks
from sqlalchemy import make_url, text

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.errors import BrokerUnavailable, DatabaseUnavailable
from frappe_jobs.ledger.away import LONGEST_REST, TRIED, AwaySites
from frappe_jobs.standalone.database import UNTIL_CONNECTED, _time_limits, make_engine
from frappe_jobs.testing import wait_until

SICK = "sick"
DRIVERS = ("mysql+pymysql", "postgresql+psycopg")


class Silent:
    """A server that lets everybody connect, and says nothing."""

    def __init__(self) -> None:
        self.tries: list[float] = []
        self._kept: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                self._kept.append(self._listener.accept()[0])
            except OSError:
                return
            self.tries.append(time.monotonic())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._kept:
            one.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_connecting_has_a_time_limit_of_its_own(silent: Silent, driver: str) -> None:
    url = make_url(f"{driver}://acme:geheim-123@127.0.0.1:{silent.port}/acme")
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="is out of reach") as caught:
        make_engine(url, 1).connect()
    assert time.monotonic() - began < 10
    assert "geheim-123" not in str(caught.value)


@pytest.mark.parametrize(
    "query, limits",
    [("", (1, 1, 1)), ("?connect_timeout=7", (None, 1, 1)), ("?read_timeout=9", (1, None, 1))],
)
def test_what_the_url_says_of_it_stays(query: str, limits: tuple[Any, ...]) -> None:
    found = _time_limits(make_url(f"mysql+pymysql://acme@127.0.0.1/acme{query}"), 1)
    assert tuple(found.get(name) for name in ("connect_timeout", *UNTIL_CONNECTED)) == limits


@pytest.fixture
def slow() -> Any:
    """The servers of the contract tests, if they are there."""
    return {
        "mysql+pymysql": ("mysql+pymysql://root@127.0.0.1:3306", "SELECT SLEEP(1.5)"),
        "postgresql+psycopg": ("postgresql+psycopg://root@127.0.0.1:5432/postgres",
                               "SELECT pg_sleep(1.5)"),
    }  # fmt: skip


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_statement_may_take_longer_than_that(slow: Any, driver: str) -> None:
    url, statement = slow[driver]
    try:
        connection = make_engine(make_url(url), 1).connect()
    except DatabaseUnavailable as error:
        pytest.skip(f"No {driver} answers: {error}")
    with connection:
        connection.execute(text(statement))


@contextmanager
def site(bench: Any, config: dict[str, Any]) -> Iterator[str]:
    bench.write(f"{SICK}/site_config.json", config)
    yield SICK
    shutil.rmtree(bench.sites / SICK)


def url_of(silent: Silent) -> dict[str, Any]:
    return {"frappe_jobs_database_url": f"mysql+pymysql://acme@127.0.0.1:{silent.port}/acme"}


@pytest.mark.timeout(240)
def test_its_jobs_wait_and_the_other_sites_do_not_starve(make_bench: Any, silent: Silent) -> None:
    bench = make_bench(frappe_jobs_db_connect_timeout=1)
    bench.use()
    with site(bench, url_of(silent)), bench.worker("--concurrency", "2"):
        with frappe.site("site1"):
            tasks.install()
        with frappe.site(SICK):
            sick = [frappe.enqueue(tasks.install, timeout=60, retry=1) for _ in range(6)]
        began = time.monotonic()
        with frappe.site("site1"):
            healthy = [frappe.enqueue(tasks.read_accounts) for _ in range(6)]
        for job in healthy:
            job.wait(60)
        wait_until(lambda: len(silent.tries) >= 3, 60)
        took = time.monotonic() - began
        # At first each process may meet one; then one at a time, ever more rarely.
        assert len(silent.tries) <= 3 + took / 2
        assert {job.get_status() for job in sick} <= {"queued", "started"}
        bench.write(f"{SICK}/site_config.json", {"db_type": "sqlite"})
        for job in sick:
            job.wait(LONGEST_REST + 60)


def test_a_job_that_waited_for_its_database_keeps_its_retries(make_bench: Any) -> None:
    bench = make_bench()
    bench.use()
    with site(bench, {"frappe_jobs_database_url": "sqlite:///no/such.db"}):
        with frappe.site(SICK):
            job = frappe.enqueue(tasks.install)
        with bench.worker():
            wait_until(lambda: job.get_status() == "queued" and job.attempt >= 2, 20)
            ledger = runtime.current().ledger
            assert ledger.redis.hget(ledger._key("record", job.message_id), "retries") == "0"
            job.cancel()


# --- who tries


@pytest.fixture
def away(bench: Any) -> AwaySites:
    return AwaySites(runtime.current().ledger, trial=5)


def another() -> AwaySites:
    """What another process knows."""
    return AwaySites(runtime.current().ledger, trial=5)


def over(site: str) -> None:
    """Its rest is over."""
    ledger = runtime.current().ledger
    ledger.redis.delete(ledger._key("rest", site))


def test_a_site_that_was_never_away_is_asked_about_once_in_a_while(away: AwaySites) -> None:
    assert [away.rest("site1") for _ in range(3)] == [0, 0, 0]
    another().note_away("site1")
    assert away.rest("site1") == 0, "it is trusted for a moment"
    assert away.rest("site2") == 0


def test_one_tries_at_a_time_and_ever_more_rarely(away: AwaySites) -> None:
    for expected in (1, 2, 4, 8, 16, LONGEST_REST, LONGEST_REST):
        assert away.note_away("site1") == expected
        assert 0 < another().rest("site1") <= expected
        over("site1")
        assert another().rest("site1") == 0
        assert 0 < away.rest("site1") <= 2, "another one tries it"


def test_who_reached_it_lets_all_go_on(away: AwaySites) -> None:
    away.note_away("site1")
    over("site1")
    assert away.rest("site1") == 0
    away.note_reached("site1")
    assert [one.rest("site1") for one in (another(), another())] == [0, 0]
    assert another().note_away("site1") == 1, "it is counted anew"


def test_who_did_not_try_leaves_it_to_the_next(away: AwaySites) -> None:
    away.note_away("site1")
    over("site1")
    assert away.rest("site1") == 0
    away.note_untried("site1")
    assert another().rest("site1") == 0
    ledger = runtime.current().ledger
    assert ledger.redis.get(ledger._key("rest", "site1")) == TRIED


def test_a_redis_that_is_away_says_so(make_bench: Any) -> None:
    make_bench(redis_queue="redis://127.0.0.1:1/0").use()
    with pytest.raises(BrokerUnavailable):
        AwaySites(runtime.current().ledger, trial=5).rest("site1")
