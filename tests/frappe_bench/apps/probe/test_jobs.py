"""Tests as an app has them, run by Frappe's own runner (test_testing.py starts it)."""

from __future__ import annotations

import frappe
from frappe.tests.utils import FrappeTestCase
from probe import tasks

import frappe_jobs
from frappe_jobs import runtime
from frappe_jobs.errors import HostError
from frappe_jobs.frappe_bench.host.job_id import site_and_id
from frappe_jobs.testing import clock, enqueued, rolled_back, run_due, run_jobs

MARK = "frappe_jobs_test: "


def todos(**filters):
    found = frappe.get_all(
        "ToDo", {"description": ("like", f"{MARK}%"), **filters}, ["description"]
    )
    return sorted(row.description.removeprefix(MARK) for row in found)


def write(text):
    return frappe.get_doc(doctype="ToDo", description=MARK + text).insert()


class TestRolledBack(FrappeTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        write("of the class")
        frappe.db.after_commit.add(lambda: cls.committed.append("the class"))
        cls.committed = []

    def setUp(self):
        self.enterContext(rolled_back(frappe.local.site))
        clock.reset()
        self.addCleanup(clock.reset)

    def test_a_job_sees_what_is_not_committed_and_what_it_commits_is_rolled_back(self):
        mine = write("mine")
        job = frappe.enqueue(tasks.write_todo, text=f"{MARK}the job's")
        [waiting] = enqueued(tasks.write_todo)
        self.assertEqual(site_and_id(job.id), (frappe.local.site, waiting.id))
        [ran] = run_jobs()
        self.assertEqual((ran.status, ran.user), ("finished", "Administrator"))
        self.assertEqual(todos(), ["mine", "of the class", "the job's"])
        frappe.enqueue_doc("ToDo", mine.name, "db_set", fieldname="status", value="Closed")
        frappe.get_cached_doc("ToDo", mine.name)
        run_jobs()
        mine.reload()
        self.assertEqual(mine.status, "Closed")
        self.assertEqual(frappe.get_cached_doc("ToDo", mine.name).status, "Closed")
        frappe.db.commit()
        self.assertEqual(self.committed, [])  # its commit is still to come

    def test_the_others_work_is_gone(self):
        self.assertEqual(todos(), ["of the class"])
        self.assertEqual(enqueued(), [])
        write("left over")
        frappe.db.commit()

    def test_what_waits_for_the_commit_is_sent_then(self):
        frappe.enqueue(tasks.nothing, queue="short", enqueue_after_commit=True, n=1)
        self.assertEqual((enqueued(), run_jobs()), ([], []))
        frappe.db.commit()
        self.assertEqual(len(enqueued(tasks.nothing, queue="short", kwargs={"n": 1})), 1)
        frappe.enqueue(tasks.nothing, enqueue_after_commit=True, n=2)
        frappe.db.rollback()
        frappe.enqueue(tasks.nothing, enqueue_after_commit=True, n=3)
        self.assertEqual([job.kwargs for job in run_jobs(commit=True)], [{"n": 1}, {"n": 3}])

    def test_a_failure_raises_its_own_error_and_is_rolled_back(self):
        write("mine")
        frappe.enqueue(tasks.write_todo, text=f"{MARK}lost", fail=True)
        with self.assertRaisesRegex(ValueError, "lost failed"):
            run_jobs()
        self.assertEqual(todos(), ["mine", "of the class"])
        self.assertTrue(frappe.get_all("Error Log", {"error": ("like", f"%{MARK}lost failed%")}))

    def test_a_failed_statement_leaves_the_transaction_whole(self):
        write("mine")
        frappe.enqueue(tasks.ask_nowhere)
        self.assertEqual(run_jobs(fail_fast=False)[0].status, "failed")
        self.assertEqual(todos(), ["mine", "of the class"])

    def test_retries_are_due_by_the_clock(self):
        job = frappe.enqueue(tasks.tries, retry=frappe_jobs.Retry(max=1, interval=3600))
        run_jobs()
        self.assertEqual(len(enqueued()), 1)
        clock.move(hours=1)
        [ran] = run_jobs()
        self.assertEqual((ran.status, ran.result, ran.id in job.id), ("finished", 2, True))

    def test_a_tracked_job_and_its_callback(self):
        job = frappe.enqueue(tasks.follow, text="news", track_job=True, job_name="follow")
        run_jobs(commit=True)
        [task] = frappe.get_all("Background Task", {"task_id": job.task_id}, ["*"])
        self.assertEqual((task.status, task.progress, task.stage), ("Completed", 100, "reading"))

    def test_what_is_due_runs(self):
        frappe.get_doc(
            doctype="Scheduled Job Type", method="probe.tasks.tick", frequency="Daily"
        ).insert()
        before = int(frappe.db.get_default("probe_ticks") or 0)
        self.assertEqual(run_due("probe.tasks.tick"), [])
        clock.move(days=1)
        [ran] = run_due(tasks.tick)
        self.assertEqual((ran.status, ran.name), ("finished", "probe.tasks.tick"))
        self.assertEqual(int(frappe.db.get_default("probe_ticks")), before + 1)
        self.assertEqual(run_due(tasks.tick), [])

    def test_a_job_is_in_test_mode_and_its_user_is_the_tests(self):
        frappe.set_user("Guest")
        frappe.enqueue(tasks.look)
        frappe.set_user("Administrator")
        [ran] = run_jobs()
        self.assertEqual((ran.result["user"], ran.result["in_test"]), ("Guest", True))
        self.assertEqual(ran.result["site"], frappe.local.site)

    def test_a_statement_that_would_commit_is_refused(self):
        if frappe.db.db_type != "mariadb":
            self.skipTest("PostgreSQL and SQLite can roll it back")
        with self.assertRaisesRegex(HostError, "MariaDB commits"):
            frappe.db.sql_ddl("create table frappe_jobs_test (n int)")


class TestPlain(FrappeTestCase):
    """Without more: in the transaction of Frappe's test case, on the bench's own server."""

    def test_a_job_is_part_of_the_tests_transaction(self):
        write("not committed")
        frappe.enqueue(tasks.write_todo, text=f"{MARK}the job's")
        writes = frappe.db.transaction_writes
        [ran] = [job for job in run_jobs() if job.method == "probe.tasks.write_todo"]
        self.assertEqual(ran.status, "finished")
        self.assertEqual(todos(), ["not committed", "the job's"])
        self.assertEqual(frappe.db.transaction_writes, writes)
        frappe.db.rollback()
        self.assertEqual(todos(), [])

    def test_the_bench_is_the_same_again(self):
        before = runtime.current()
        with rolled_back(frappe.local.site):
            self.assertIsNot(runtime.current(), before)
        self.assertIs(runtime.current(), before)
