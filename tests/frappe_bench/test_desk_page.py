"""The Desk's page of the site's jobs, over HTTP as its script asks, and as an attacker would."""

from __future__ import annotations

import pytest
from frappe_bench.bench import ASK, EMPTY, WAIT, FrappeBench, Process

pytestmark = pytest.mark.timeout(180)

HOSTILE = "<img src=x onerror=alert(1)>"

PAGE = ASK + """
from urllib.parse import urlencode
METHODS = "frappe_jobs.frappe_jobs.page.celery_jobs.celery_jobs."
def look(page="/", **query):
    reply = ask(METHODS + "look", page=page, query=urlencode(query))
    return reply.get("message") or reply
def act(_action, **form):
    reply = ask(METHODS + "act", name=_action, form=urlencode(form))
    return reply.get("message") or reply
def path_of(job):
    return job._record.message.id
"""


def test_it_shows_the_sites_own_jobs_and_of_no_other(bench: FrappeBench, worker: Process) -> None:
    other = bench.call(
        EMPTY + "job = frappe.enqueue('probe.tasks.nothing', queue='long', job_name='theirs')\n"
        "answer = [job.id, job._record.message.id]",
        site=bench.other_site,
    )
    found = bench.call(
        PAGE + WAIT + f"name = {HOSTILE!r}\n"
        "bad = wait(frappe.enqueue('probe.tasks.write_todo', text=name, fail=True, "
        "job_name=name))\n"
        "waits = frappe.enqueue('probe.tasks.nothing', queue='long', job_name='ours')\n"
        f"others = dict(site={bench.other_site!r}, id={other[1]!r})\n"
        "one = look('/job', id=path_of(bad))\n"
        "answer = dict(pages={path: look(path) for path in ('/', '/jobs', '/schedule', '/tasks', "
        "'/audit', '/queues', '/doctor', '/nope')}, one=one, theirs=look('/job', **others), "
        f"gone=look('/job', id='gone'), filtered=look('/jobs', site={bench.other_site!r}, "
        "status='queued'), wrong=look('/jobs', queue='nope'))"
    )
    pages = found["pages"]
    assert [title for _, title in pages["/"]["menu"]] == [
        "Overview", "Jobs", "Schedule", "Background Tasks", "Audit",
    ]  # fmt: skip
    for path in ("/", "/jobs", "/schedule", "/tasks", "/audit"):
        assert "html" in pages[path], pages[path]
        assert bench.other_site not in pages[path]["html"] and "theirs" not in pages[path]["html"]
        assert "<img" not in pages[path]["html"]
    for path in ("/queues", "/doctor", "/nope"):  # of the whole bench, or of nothing
        assert pages[path] == {"trouble": pages["/nope"]["trouble"]}
    assert "ours" in pages["/jobs"]["html"] and "&lt;img" in pages["/jobs"]["html"]
    assert "at 00:00 every day" in pages["/schedule"]["html"]
    assert "failed" in found["one"]["html"] and "&lt;img" in found["one"]["html"]
    assert "probe/tasks.py" in found["one"]["html"] and "<img" not in found["one"]["html"]
    assert found["theirs"]["trouble"] == found["gone"]["trouble"]
    assert "ours" in found["filtered"]["html"] and "theirs" not in found["filtered"]["html"]
    assert "known queues" in found["wrong"]["html"]


def test_what_is_done_there_is_done_on_the_site_and_audited(
    bench: FrappeBench, worker: Process
) -> None:
    other = bench.call(
        EMPTY + "job = frappe.enqueue('probe.tasks.nothing', queue='long')\n"
        "answer = [job.id, job._record.message.id]",
        site=bench.other_site,
    )
    found = bench.call(
        PAGE + WAIT + "import re\n"
        "job = frappe.enqueue('probe.tasks.nothing', queue='long')\n"
        "done = [act('cancel', id=path_of(job))]\n"
        "again = act('retry', id=path_of(job))\n"
        f"theirs = act('cancel', site={bench.other_site!r}, id={other[1]!r})\n"
        "late = act('retry', id=again['to'].partition('id=')[2])\n"
        "added = act('add-schedule', method='probe.tasks.nothing', frequency='Cron', "
        "cron='0 9 * * 1-5', against='User')\n"
        "system = act('add-schedule', method='os.system', frequency='Daily', against='User')\n"
        "name = frappe.db.get_value('Scheduled Job Type', {'method': 'probe.tasks.nothing', "
        "'cron_format': '0 9 * * 1-5'})\n"
        "frappe.db.commit()\n"
        "changed = act('edit-schedule', name=name, frequency='Weekly', cron='')\n"
        "frappe.db.commit()\n"
        "record = frappe.db.get_value('Scheduled Job Type', name, "
        "['frequency', 'scheduler_event'])\n"
        "stopped = act('stop', name=name)\n"
        "act('delete-schedule', name=name)\n"
        "text = look('/bulk', do='cancel', queue='long')['html']\n"
        '[word] = re.findall(r\'name="word" value="([\\w-]{22})"\', text)\n'
        "many = act('bulk-cancel', word=word)\n"
        "end = time.time() + 20\n"
        "while 'What came of it' not in (look('/bulk', do='cancel', word=word)['html']):\n"
        "    assert time.time() < end\n"
        "answer = dict(done=done, again=again, theirs=theirs, late=late, added=added, "
        "record=record, system=system, changed=changed, stopped=stopped, many=many, "
        "ran=look('/bulk', do='cancel', word=word)['html'], gone=not frappe.db.exists("
        "'Scheduled Job Type', name), audit=look('/audit')['html'], nope=act('nope'))"
    )
    assert found["done"][0]["said"].startswith("Cancelled:")
    assert found["again"]["said"].startswith("Queued again:")
    assert found["theirs"]["status"] == found["nope"]["status"] == 404
    assert found["late"]["status"] == 417 and "html" not in found["late"]
    assert found["added"]["said"].endswith("is scheduled.")
    assert found["record"][0] == "Weekly" and found["record"][1]
    assert found["system"]["status"] == 417 and found["changed"]["said"].endswith("is changed.")
    assert "is stopped" in found["stopped"]["said"] and found["gone"]
    assert found["many"]["to"].startswith("/bulk?do=cancel") and "Cancelled: " in found["ran"]
    audit = found["audit"]
    for said in ("Administrator", "retry", "bulk-cancel", "os.system", "not done", "is scheduled"):
        assert said in audit
    assert bench.other_site not in audit
    waits = f"answer = jobs.Job.fetch({other[0]!r}).get_status()"
    imports = "from frappe.utils import background_jobs as jobs\n"
    assert bench.call(imports + waits, site=bench.other_site) == "queued"


def test_nobody_but_a_system_manager_is_answered(bench: FrappeBench, clerk: str) -> None:
    found = bench.call(
        PAGE
        + "asked = [('look', dict(page='/', query='')), ('act', dict(name='cancel', form='')), "
        "('style', {})]\n"
        "def said():\n"
        "    return [ask(METHODS + name, **form).get('status') for name, form in asked]\n"
        "answer = [said()]\n"
        "gets = [client.get(f'/api/method/{METHODS}{name}', query_string=form, headers=token)"
        ".status_code for name, form in asked]\n"
        "frappe.init(site=site, sites_path='.'); frappe.connect()\n"
        f"token.update(key_of({clerk!r})); answer += [said(), gets]\n"
        "token.clear(); answer.append(said())\n"
        "page = frappe.get_doc('Page', 'celery-jobs')\n"
        "answer.append([role.role for role in page.roles])"
    )
    assert found == [
        [None, 404, None], [403] * 3, [403] * 3, [403] * 3, ["System Manager"],
    ]  # fmt: skip


def test_a_form_of_another_website_is_refused(bench: FrappeBench) -> None:
    """A browser sends the session's cookie with it, and no token of that session."""
    found = bench.call(
        PAGE + "from frappe.utils.password import update_password\n"
        "import json as j\nupdate_password('Administrator', 'admin'); frappe.db.commit()\n"
        "browser = Client(frappe.app.application)\n"
        "def post(method, headers=None, **form):\n"
        "    frappe.destroy()\n"
        "    reply = browser.post(f'/api/method/{method}', data=form, headers=headers or {})\n"
        "    frappe.init(site=site, sites_path='.'); frappe.connect()\n"
        "    return reply.status_code\n"
        "answer = [post('login', usr='Administrator', pwd='admin')]\n"
        "sid = browser.get_cookie('sid').value\n"
        "from frappe.sessions import Session\n"
        "data = frappe.cache.hget('session', sid)\n"
        "data['data']['csrf_token'] = 'the token'\n"
        "frappe.cache.hset('session', sid, data)\n"
        "form = dict(name='cancel', form='id=x')\n"
        "answer += [post(METHODS + 'act', **form), post(METHODS + 'look', page='/'), "
        "post(METHODS + 'act', {'X-Frappe-CSRF-Token': 'another'}, **form), "
        "post(METHODS + 'look', {'X-Frappe-CSRF-Token': 'the token'}, page='/')]"
    )
    assert found == [200, 400, 400, 400, 200]
