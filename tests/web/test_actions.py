"""What people do on the pages, and what they may not."""

from __future__ import annotations

import json

import pytest
from acme import tasks
from web.visitor import ADDRESS

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until
from frappe_jobs.web.actions import ACTIONS


@pytest.fixture
def jobs(guarded):
    """A job that has ended on each site."""
    found = {}
    for site in ("site1", "site2"):
        with frappe.site(site):
            found[site] = frappe.enqueue(tasks.echo, order="ORD-1", api_token="s3cret")
            found[site].cancel()
    return found


def of(job, **more):
    return {"site": job.site, "id": job.message_id, **more}


def newest(job):
    return frappe.get_job(job.id, job.site)


def audit(visitor):
    return visitor.text("/audit")


def test_an_ended_job_is_run_again(known, jobs):
    otto, job = known("otto"), jobs["site1"]
    found = otto.submit("/act/retry", **of(job))
    assert found.status_code == 303 and newest(job).status == "queued"
    assert f"Queued again: {job.id}" in otto.text(found.headers["location"])
    text = audit(known("anna"))
    assert "otto" in text and "retry" in text and job.message_id in text


def test_a_waiting_job_is_cancelled_and_not_twice(known, jobs):
    otto = known("otto")
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping)
    assert otto.submit("/act/cancel", **of(job)).status_code == 303
    assert job.get_status() == "cancelled"
    again = otto.submit("/act/cancel", **of(job))
    assert again.status_code == 400 and "too late" in again.text
    assert "not done" in audit(known("anna"))


def test_a_job_is_deleted(known, jobs):
    assert known("anna").submit("/act/delete", **of(jobs["site1"])).status_code == 303
    assert newest(jobs["site1"]) is None


def test_arguments_are_edited_and_what_was_hidden_stays(known, jobs):
    anna, job = known("anna"), jobs["site1"]
    page = anna.text(f"/job?site=site1&id={job.message_id}")
    assert "&#34;api_token&#34;: &#34;***&#34;" in page and "s3cret" not in page
    text = json.dumps({"order": "ORD-2", "api_token": "***"})
    assert anna.submit("/act/edit", **of(job, arguments=text)).status_code == 303
    assert newest(job).kwargs == {"order": "ORD-2", "api_token": "s3cret"}
    assert "s3cret" not in audit(anna)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"__type__": "datetime", "value": 1}', ""),
        ('{"a": {"__frappe_jobs__": "datetime", "value": 1}}', "is none"),
        ('{"__name": 1}', "says what is run"),
        ('{"doc_method": "delete"}', "says what is run"),
    ],
)
def test_arguments_that_cannot_be_are_refused(known, jobs, text, said):
    job = jobs["site1"]
    found = known("anna").submit("/act/edit", **of(job, arguments=text))
    assert found.status_code == 400 and said in found.text
    assert newest(job).status == "cancelled"


def test_the_method_of_a_document_cannot_be_edited(known, guarded):
    with frappe.site("site1"):
        job = frappe.enqueue_doc("Account", "savings", "deposit", amount=1)
    job.cancel()
    for changed in ({"doc_method": "delete"}, {"name": "other"}, {"doctype": "User"}):
        text = json.dumps({"doctype": "Account", "name": "savings", "doc_method": "deposit",
                           "amount": 1} | changed)  # fmt: skip
        found = known("anna").submit("/act/edit", **of(job, arguments=text))
        assert found.status_code == 400 and "says what is run" in found.text


class TestWhatIsNotTheirs:
    @pytest.mark.parametrize(("name", "action"), [*ACTIONS.items()])
    @pytest.mark.parametrize("who", ["ria", "otto"])
    def test_a_role_does_what_it_may_and_no_more(self, known, jobs, who, name, action):
        visitor = known(who)
        if who == "otto" and action.role == "operator":
            return
        found = visitor.submit(f"/act/{name}", **of(jobs["site1"], name="x"))
        assert found.status_code == 400 and "is for the role" in found.text
        assert newest(jobs["site1"]).status == "cancelled"
        assert "refused" in audit(known("anna"))

    def test_no_button_is_shown_that_is_not_theirs(self, known, jobs):
        page = f"/job?site=site1&id={jobs['site1'].message_id}"
        assert "/act/" not in known("ria").text(page)
        text = known("otto").text(page)
        assert "/act/retry" in text and "/act/delete" not in text and "/act/edit" not in text

    def test_the_audit_is_for_admins(self, known):
        for name in ("otto", "ria", "reader"):
            assert known(name).get("/audit").status_code == 404

    @pytest.mark.parametrize("name", [name for name in ACTIONS if not name.startswith("bulk-")])
    def test_another_sites_job_is_as_one_that_does_not_exist(self, known, jobs, name):
        one = known("one")
        other = one.submit(f"/act/{name}", **of(jobs["site2"], name="x", arguments="{}"))
        none = one.submit(f"/act/{name}", site="site9", id="gone", name="x", arguments="{}")
        assert (other.status_code, other.text) == (none.status_code, none.text)
        assert other.status_code == 404 and newest(jobs["site2"]).status == "cancelled"

    def test_another_sites_job_cannot_be_read_counted_or_guessed(self, known, jobs):
        one, job = known("one"), jobs["site2"]
        gone = one.get("/job?site=site1&id=gone")
        for address in (f"/job?site=site2&id={job.id}", f"/job?site=site1&id={job.id}",
                        f"/job?site=site1&site=site2&id={job.id}", "/doctor"):  # fmt: skip
            found = one.get(address)
            assert (found.status_code, found.text) == (404, gone.text)
        for address in ("/", "/jobs", "/audit"):
            text = one.text(address)
            assert "site2" not in text and job.id not in text
        asked = {name: one.text(f"/jobs?job={name}").replace(name, "") for name in (job.id, "gone")}
        assert asked[job.id] == asked["gone"]
        wrong = {
            site: one.get(f"/jobs?site={site}").text.replace(site, "")
            for site in ("site2", "site9")
        }
        assert wrong["site2"] == wrong["site9"]

    def test_a_stream_shows_no_more_than_the_page(self, known, jobs):
        found = known("one").get("/live", params={"page": "/doctor"})
        assert found.status_code == 204

    def test_of_the_audit_only_their_sites_part_is_shown(self, known, jobs):
        known("otto").submit("/act/retry", **of(jobs["site2"]))
        known("otto").submit("/act/retry", **of(jobs["site1"]))
        text = audit(known("one"))
        assert jobs["site1"].message_id in text and jobs["site2"].message_id not in text


class TestFormsOfOthers:
    def test_an_action_without_a_token_of_the_session_is_refused(self, known, jobs):
        otto, job = known("otto"), jobs["site1"]
        others = known("ria").token()
        for token in ("", "x", others, others.upper()):
            found = otto.post("/act/retry", data=of(job, token=token))
            assert found.status_code == 403 and newest(job).status == "cancelled"

    @pytest.mark.parametrize(
        "headers",
        [{"origin": "http://evil.example"}, {"origin": "http://127.0.0.1:9999"}, {"origin": "null"},
         {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
    )  # fmt: skip
    def test_also_with_the_token_where_it_comes_from_elsewhere(self, known, jobs, headers):
        otto, job = known("otto"), jobs["site1"]
        found = otto.post("/act/retry", data=of(job, token=otto.token()), headers=headers)
        assert found.status_code == 403 and newest(job).status == "cancelled"

    def test_our_own_pages_form_is_taken(self, known, jobs):
        otto = known("otto")
        form, headers = of(jobs["site1"], token=otto.token()), {"origin": ADDRESS}
        assert otto.post("/act/retry", data=form, headers=headers).status_code == 303

    def test_an_address_does_nothing(self, known, jobs):
        otto = known("otto")
        assert otto.get("/act/retry", params=of(jobs["site1"])).status_code == 405
        assert otto.post("/act/nope", data={"token": otto.token()}).status_code == 404

    @pytest.mark.parametrize(
        "kind", ["application/json", "text/plain", "multipart/form-data; boundary=x"]
    )
    def test_a_form_of_another_kind_is_none(self, known, jobs, kind):
        otto = known("otto")
        body = json.dumps(of(jobs["site1"], token=otto.token()))
        found = otto.post("/act/retry", content=body, headers={"content-type": kind})
        assert found.status_code == 403

    def test_what_a_page_says_was_said_by_it(self, known):
        text = known("otto").text("/?said=Call+this+number&seal=0000")
        assert "Call this number" not in text

    def test_where_nobody_logs_in_nothing_can_be_done(self, bench, anybody):
        with frappe.site("site1"):
            job = frappe.enqueue(tasks.ping)
        for name in ACTIONS:
            found = anybody.post(f"/act/{name}", data=of(job, token=""))
            assert found.status_code == 403
        assert job.get_status() == "queued"


def test_who_sees_one_site_sees_its_jobs_and_counts(known, jobs, guarded):
    with frappe.site("site1"):
        frappe.enqueue_many([{"method": tasks.ping}] * 3)
    text = known("reader").text("/")
    assert "site1" in text and "Waiting now" not in text and "What the doctor finds" not in text


class TestQueues:
    def queues(self, visitor, said):
        """The page, once what it says is new enough."""
        return wait_until(lambda: said in (text := visitor.text("/queues")) and text, 20)

    def test_one_is_paused_and_goes_on(self, known):
        otto, ledger = known("otto"), runtime.current().ledger
        assert "Pause long" in self.queues(otto, "Pause long")
        found = otto.submit("/act/pause", name="long")
        assert found.status_code == 303 and ledger.paused_queues() == {"long"}
        assert "long is paused" in otto.text(found.headers["location"])
        assert "Resume long" in self.queues(otto, "Resume long")
        assert otto.submit("/act/resume", name="long").status_code == 303
        assert ledger.paused_queues() == set()
        assert "pause" in audit(known("anna"))

    def test_one_that_is_none_is_refused_in_words(self, known):
        found = known("otto").submit("/act/pause", name="lon")
        assert found.status_code == 400 and "Did you mean" in found.text

    def test_what_is_limited_and_waits_for_its_time_is_shown(self, known):
        ledger = runtime.current().ledger
        ledger.set_limits({"queue long": "running=1"})
        with frappe.site("site1"):
            jobs = [frappe.enqueue(tasks.ping, "long") for _ in range(2)]
            frappe.enqueue_in(3600, tasks.ping, "long")
        for job in jobs:
            ledger.start(job._record.message, "worker@here/1")
        text = self.queues(known("otto"), "1 limited")
        assert "1 later" in text and "queue long" in text and "running 1" in text
