"""The pages of scheduled jobs, of Background Tasks and of the doctor."""

from __future__ import annotations

from acme import tasks
from web.visitor import asked

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.scheduler.entry import Due

DAILY = "acme.tasks.ping"


def scheduled(bench):
    """A scheduled job on each site, with its entry."""
    for site in ("site1", "site2"):
        done = bench.run("--site", site, "scheduled-jobs", "add", DAILY, "--frequency", "Daily")
        assert done.returncode == 0, done.stderr
    here = bench.use()
    here.sync.compare()
    return {site: here.host.schedule.job_types(site)[0].name for site in ("site1", "site2")}


def due(site):
    [(_, at)] = runtime.current().timetable.of_site(site).values()
    return at


def test_a_scheduled_job_is_shown_in_words_and_in_the_sites_zone(guarded, known):
    guarded.write("site1/site_config.json", {"db_type": "sqlite", "time_zone": "Asia/Kolkata"})
    scheduled(guarded)
    text = known("ria").text("/schedule?site=site1")
    assert DAILY in text and "at 00:00 every day" in text and "not logged" in text
    assert "No scheduler leads" in text


def test_it_is_run_now_stopped_and_started(guarded, known):
    name, otto = scheduled(guarded)["site1"], known("otto")
    form = {"site": "site1", "name": name}
    assert otto.submit("/act/run-now", **form).status_code == 303
    assert runtime.current().listing.count_open("site1") == (1, 0)
    assert otto.submit("/act/stop", **form).status_code == 303
    [job] = runtime.current().host.schedule.job_types("site1")
    assert job.stopped and "stopped" in otto.text("/schedule?site=site1")
    assert otto.submit("/act/start", **form).status_code == 303
    [job] = runtime.current().host.schedule.job_types("site1")
    assert not job.stopped


def test_its_next_time_is_skipped_and_the_one_after_that_comes(guarded, known):
    name, otto, here = scheduled(guarded)["site1"], known("otto"), runtime.current()
    assert otto.submit("/act/skip", site="site1", name=name).status_code == 303
    assert "skipped" in otto.text("/schedule?site=site1")
    again = otto.submit("/act/skip", site="site1", name=name)
    assert again.status_code == 400 and "anyway" in again.text
    here.sync.compare()
    for days, expected in ((0, 0), (1, 1)):
        [(entry, at)] = here.timetable.of_site("site1").values()
        at += days * 24 * 3600
        here.scheduling.queue([Due(entry, at)], at)
        assert here.listing.count_open("site1") == (expected, 0)


def test_one_is_added_edited_and_deleted_by_an_admin(guarded, known):
    anna, otto, here = known("anna"), known("otto"), runtime.current()
    assert "add-schedule" not in otto.text("/schedule?site=site1")

    def job_types():
        return here.host.schedule.job_types("site1")

    form = {"site": "site1", "method": DAILY, "frequency": "Cron", "cron": "0 9 * * 1-5"}
    for wrong, said in (
        ({"method": "os.system"}, "os.system"),
        ({"method": "acme.tasks.system"}, "acme.tasks.system"),
        ({"method": ""}, ""),
        ({"frequency": "Sometimes"}, "hourly_long"),
        ({"cron": "every day"}, "every day"),
        ({"cron": ""}, ""),
    ):
        found = anna.submit("/act/add-schedule", **(form | wrong))
        assert found.status_code == 400 and said in found.text, wrong
    assert job_types() == []
    assert anna.submit("/act/add-schedule", **form).status_code == 303
    [job] = job_types()
    assert (job.method, job.cron_format, job.has_event) == (DAILY, "0 9 * * 1-5", True)
    text = anna.text("/schedule?site=site1")
    assert "of a Scheduler Event" in text and 'value="0 9 * * 1-5"' in text

    edited = {"site": "site1", "name": job.name, "frequency": "Weekly", "cron": "", "queue": "long"}
    for wrong in ({"frequency": "Cron"}, {"cron": "* *"}, {"queue": "nope"}, {"name": "nope"}):
        assert anna.submit("/act/edit-schedule", **(edited | wrong)).status_code == 400, wrong
    assert job_types() == [job]
    assert anna.submit("/act/edit-schedule", **edited).status_code == 303
    [job] = job_types()
    assert (job.frequency, job.cron_format, job.queue) == ("Weekly", "", "long")

    assert anna.submit("/act/delete-schedule", site="site1", name=job.name).status_code == 303
    assert job_types() == []
    audit = anna.text("/audit")
    assert "is scheduled." in audit and "is changed." in audit and "no longer scheduled" in audit
    assert "not done" in audit and "os.system" in audit


def test_that_of_another_site_is_as_one_that_does_not_exist(guarded, known):
    names, one = scheduled(guarded), known("one")
    before = due("site2")
    for action in (
        "run-now",
        "stop",
        "start",
        "skip",
        "edit-schedule",
        "delete-schedule",
        "add-schedule",
    ):
        form = {"site": "site2", "name": names["site2"], "method": DAILY, "frequency": "Weekly"}
        assert one.submit(f"/act/{action}", **form).status_code == 404
    assert len(runtime.current().host.schedule.job_types("site2")) == 1
    assert one.get("/schedule?site=site2").status_code == 404
    assert due("site2") == before and runtime.current().listing.count_open("site2") == (0, 0)


def test_a_tracked_job_is_shown_with_its_site(guarded, known):
    with frappe.site("site1", user="grete@shop.test"):
        job = frappe.enqueue(tasks.ping, track_job=True, job_name="parcel 7")
    text = known("reader").text("/tasks")
    assert f'<tr id="{job.task_id}">' in text
    page = known("reader").text(f"/job?site=site1&id={job.id}")
    assert f'href="/tasks?site=site1#{job.task_id}"' in page and "Error Log" not in page
    assert "parcel 7" in text and "grete@shop.test" in text and "Queued" in text
    assert known("one").get("/tasks?site=site2").status_code == 404


def test_the_doctors_findings_are_those_of_the_command(guarded, known):
    text = asked(known("ria"), "/doctor", "No worker is online")
    assert "Start one: frappe-jobs worker." in text
