"""One SQLite site under load: web processes, workers and a scheduler that all read, then write

Requests and jobs change one account, too: the ones read it for update, the others are run again.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from acme import tasks
from chaos.crew import Crew

import frappe_jobs as frappe
from frappe_jobs import runtime

pytestmark = pytest.mark.timeout(900)

#: A process of a web server: waits for the start, then says what has gone wrong.
WEB = """
import json, sys, time
import frappe_jobs as frappe

own, requests, pace = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])


def request(number):
    with frappe.site("site1"):
        if number % 4 == 0:
            frappe.get_all("Account", fields=["name", "balance"])
            time.sleep(0.01)
            frappe.new_doc("Account", name=f"{own} {number}").insert()
            frappe.enqueue("acme.tasks.read_then_add", name=f"job of {own} {number}")
        elif number % 4 == 1:
            account = frappe.get_doc("Account", own)
            time.sleep(0.01)
            account.deposit()
            frappe.enqueue("acme.tasks.read_then_add", name=f"{number} of {own}", track_job=True)
        elif number % 4 == 2:
            account = frappe.get_doc("Account", "shared", for_update=True)
            time.sleep(0.01)
            account.deposit()
            frappe.enqueue("acme.tasks.deposit", account="shared", enqueue_after_commit=True)
        else:
            frappe.get_all("Account", fields="*", limit=50)
            frappe.get_recent_tasks()


with frappe.site("site1"):
    frappe.get_doc("Account", own)
print("ready", flush=True)
sys.stdin.read()
began, failed = time.monotonic(), []
for number in range(requests):
    time.sleep(max(0, began + number * pace - time.monotonic()))
    try:
        request(number)
    except Exception as error:
        failed.append(repr(error)[:300])
print(json.dumps(failed))
"""

WEBS = ("web1", "web2", "web3")
A_SECOND = 15


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_nothing_fails_and_no_update_is_lost(scene, size, found):
    seconds = size(120, 4)
    requests, pace = seconds * A_SECOND // len(WEBS), len(WEBS) / A_SECOND
    with frappe.site("site1"):
        tasks.install()
        for name in (*WEBS, "shared"):
            frappe.new_doc("Account", name=name).insert()
        often = {"method": "acme.tasks.often", "frequency": "Cron", "cron_format": "* * * * * *"}
        frappe.new_doc("Scheduled Job Type", **often).insert()
    started = [web(scene.bench, own, requests, pace) for own in WEBS]
    with Crew(scene.bench, "--concurrency", "2", "--quiet"), scene.bench.process("schedule"):
        for one in started:
            assert one.stdout.readline() == "ready\n"
        for one in started:
            one.stdin.close()
        failed = [error for one in started for error in json.loads(one.stdout.read())]
        for one in started:
            one.stdout.close()
            assert one.wait(60) == 0
        mine = {"acme.tasks.read_then_add", "acme.tasks.deposit"}
        jobs = [one for one in runtime.current().ledger.records("site1")]
        for one in jobs:
            if one.message.method in mine:
                frappe.get_job(one.message.job_id).wait(120)
    records = runtime.current().ledger.records("site1")
    lost = [one for one in records if one.status == "failed"]
    deposits = len(WEBS) * len(range(2, requests, 4))
    with frappe.site("site1"):
        balance = frappe.get_doc("Account", "shared").balance
    found(
        f"{requests * len(WEBS)} requests in {seconds} s: {len(failed)} failed; {len(jobs)} jobs: "
        f"{len(lost)} failed, {sum(one.attempt > 1 for one in records)} run again; "
        f"{2 * deposits - balance} of {2 * deposits} deposits on one account lost"
    )
    assert (failed, lost) == ([], [])
    assert balance == 2 * deposits


def web(bench, own, requests, pace):
    return subprocess.Popen(
        [sys.executable, "-c", WEB, own, str(requests), str(pace)],
        cwd=bench.path, env=bench.environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
