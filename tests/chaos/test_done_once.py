"""Workers killed around the commit: what each job writes is there once

Some are killed by chance, some processes kill themselves just before their commit, or between it
and the record that says that the job has ended.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acme import once, tasks
from chaos.crew import Crew
from contract.conftest import Server
from proxy import Proxy
from sqlalchemy import text

import frappe_jobs as frappe
from frappe_jobs.ledger.record import FINISHED
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(900)

PORTS = {"postgres": 5432, "mariadb": 3306}
#: Rows that the jobs add to: few enough that two often meet.
ROWS = 20
#: As the drivers send it; "SET AUTOCOMMIT = 0" is none.
COMMIT = re.compile(rb"\bCOMMIT\0?$")
#: Rows of a loop after which it commits.
BATCH = 100


@pytest.fixture
def broker(pair: Any) -> str:
    return str(pair[1])


@pytest.fixture
def config(config: dict[str, Any]) -> dict[str, Any]:
    """With records that are there at the end, however long it takes."""
    return config | {"rq_results_ttl": 24 * 3600}


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


def test_each_row_of_a_long_loop_counts_once(
    scene: Any, rows: None, pair: Any, random: Any, size: Callable[..., Any], found: Any
) -> None:
    """SIGTERM to its worker, kill -9, and a timeout that is near, again and again."""
    count, stops, kills = size((30_000, 6, 6), (2_000, 1, 1))
    begun = scene.bench.path / "begun"
    killed: Counter[str] = Counter()
    how = ["stop"] * stops + ["kill"] * kills
    random.shuffle(how)
    began = time.monotonic()
    seconds = size(0.0, 0.002)
    with Crew(scene.bench, "--concurrency", "1", "--quiet", size=1) as crew:
        job = frappe.enqueue(once.long_loop, count=count, rows=ROWS, seconds=seconds, timeout=10)
        for number, what in enumerate(how):
            far = count * (number + 1) // (len(how) + 1)
            wait_until(lambda far=far: _lines(begun) >= far, 120)
            if what == "kill":
                killed[crew.kill(random)] += 1
            else:
                crew.replace_one(random)
                killed["SIGTERM"] += 1
        assert job.wait(300) == count
        crew.assert_alive()
        put_off = job.attempt - 1 - kills
    with frappe.site("site1") as session:
        total = session.db.scalar(text("SELECT sum(balance) FROM account"))
    twice = _lines(begun) - count
    hit = ", ".join(f"{many} {kind}" for kind, many in sorted(killed.items()))
    found(
        f"{pair[0]}: a loop of {count:,} rows that each add 1, {hit}, a timeout of 10 s, put off "
        f"{put_off} times: the sum is {total:,}; {twice} rows were begun twice; "
        f"{time.monotonic() - began:.0f} s"
    )
    assert (total, job.attempt > stops) == (count, True)
    assert twice <= BATCH * kills


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("pair", [("postgres", "redis"), ("mariadb", "redis")], ids="-".join)
def test_a_commit_whose_reply_is_lost_counts_once(
    scene: Any, rows: None, pair: Any, random: Any, size: Callable[..., Any], found: Any
) -> None:
    jobs = size(2_000, 60)
    file = scene.bench.sites / "site1" / "site_config.json"
    config = json.loads(file.read_text())
    began = time.monotonic()
    with Proxy(f"x://{config['db_host']}:{config.get('db_port') or PORTS[pair[0]]}") as proxy:
        scene.bench.write("site1/site_config.json", config | {"db_port": proxy.port})
        proxy.cut_off(lambda data: bool(COMMIT.search(data)) and random.random() < 0.5)
        with Crew(scene.bench, "--concurrency", "2", "--quiet", size=1) as crew:
            sent = frappe.enqueue_many(
                {"method": once.count, "number": number, "rows": ROWS} for number in range(jobs)
            )
            scene.wait_for_all(300, crew.assert_alive)
            said = crew.logs.count("was done before")
        cut = proxy.cut
        scene.bench.write("site1/site_config.json", config)
    with frappe.site("site1") as session:
        total = session.db.scalar(text("SELECT sum(balance) FROM account"))
    ends = Counter((job.get_status(), job.result == n) for n, job in enumerate(sent))
    found(
        f"{pair[0]}: {jobs:,} jobs that add 1, {cut:,} commits whose reply was cut off: the sum is "
        f"{total:,}, {ends[FINISHED, True]:,} finished with their result; {said:,} were found "
        f"done; {time.monotonic() - began:.0f} s"
    )
    assert (total, ends) == (jobs, Counter({(FINISHED, True): jobs}))
    assert cut > jobs / 4
