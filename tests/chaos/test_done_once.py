"""Workers killed around the commit: what each job writes is there once

Some are killed by chance, some processes kill themselves just before their commit, or between it
and the record that says that the job has ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from acme import once, tasks
from chaos.conftest import IS_FULL
from chaos.crew import Crew
from contract.conftest import Server, server
from sqlalchemy import text

import frappe_jobs as frappe
from frappe_jobs.ledger.record import FINISHED
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(900)

SERVERS = {
    "sqlite": None,
    "postgres": ("POSTGRES_URL", "postgresql+psycopg://root@127.0.0.1:5432/postgres"),
    "mariadb": ("MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306"),
}
#: Each database on each broker; in the short form each once.
PAIRS = [
    (database, broker)
    for broker in ("redis", "rabbitmq")
    for database in SERVERS
    if IS_FULL or (database == "mariadb") == (broker == "rabbitmq")
]
#: Rows that the jobs add to: few enough that two often meet.
ROWS = 20


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def broker(pair: Any) -> str:
    return str(pair[1])


@pytest.fixture
def database(pair: Any) -> Iterator[Server]:
    if (where := SERVERS[pair[0]]) is None:
        yield Server("sqlite")
    else:
        yield from server(pair[0], *where)


@pytest.fixture
def rows(scene: Any, database: Server) -> Any:
    scene.bench.write("site1/site_config.json", database.config("site1"))
    with frappe.site("site1"):
        tasks.install()
        for number in range(ROWS):
            frappe.new_doc("Account", name=str(number)).insert()


def test_each_job_counts_once(
    scene: Any, rows: None, pair: Any, random: Any, size: Callable[..., Any], found: Any
) -> None:
    jobs, kills, deaths = size((5_000, 40, 300), (60, 2, 8))
    dying = random.sample(range(jobs), 2 * deaths)
    how = dict.fromkeys(dying[:deaths], "behind") | dict.fromkeys(dying[deaths:], "before")
    killed: Counter[str] = Counter()
    began = time.monotonic()
    with Crew(scene.bench, "--concurrency", "2", "--quiet") as crew:
        sent = frappe.enqueue_many(
            {"method": once.count, "number": number, "rows": ROWS, "die": how.get(number, "")}
            for number in range(jobs)
        )
        for moment in sorted(random.sample(range(jobs), kills), reverse=True):
            wait_until(lambda left=moment: scene.open() <= left, 120)
            killed[crew.kill(random)] += 1
        scene.wait_for_all(300, crew.assert_alive)
        said = crew.logs.count("was done before")
    with frappe.site("site1") as session:
        total = session.db.scalar(text("SELECT sum(balance) FROM account"))
    ends = Counter((job.get_status(), job.result == n) for n, job in enumerate(sent))
    hit = ", ".join(f"{count} {kind}" for kind, count in sorted(killed.items()))
    found(
        f"{pair[0]}: {jobs:,} jobs that add 1, {kills} kills ({hit}), {deaths} deaths just before "
        f"and {deaths} behind the commit: the sum is {total:,}, {ends[FINISHED, True]:,} finished "
        f"with their result; {said} were found done; {time.monotonic() - began:.0f} s"
    )
    assert (total, ends) == (jobs, Counter({(FINISHED, True): jobs}))
