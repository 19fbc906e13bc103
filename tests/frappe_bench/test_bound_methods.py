"""Bound methods as jobs: the object travels as it is in memory, as on RQ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from frappe_bench.bench import WAIT, FrappeBench, Process

pytestmark = pytest.mark.timeout(120)


def test_a_documents_method_sees_what_is_not_saved(bench: FrappeBench, worker: Process) -> None:
    text = uuid4().hex
    found = bench.call(
        WAIT + "doc = frappe.get_doc({'doctype': 'ToDo', 'description': 'old'}).insert()\n"
        f"frappe.db.commit()\ndoc.description, doc.flags.own, doc._own = {text!r}, 5, [1]\n"
        "doc._file = open('/dev/null')\n"
        "job = wait(frappe.enqueue(doc.add_comment, text=doc.description, queue='short'))\n"
        "seen = wait(frappe.enqueue(doc.as_dict, queue='short')).result\n"
        "saved = wait(frappe.enqueue(doc.save, queue='short'))\n"
        "frappe.db.commit()\nanswer = [job.exc_info, job.kwargs['method'], job.description,\n"
        "  job.kwargs['kwargs'], seen['description'], saved.exc_info,\n"
        "  frappe.db.get_value('ToDo', doc.name, 'description'), frappe.db.count('Comment', "
        "{'reference_name': doc.name, 'content': doc.description}), doc.name]"
    )
    *found, name = found
    method = "frappe.model.document.Document.add_comment"
    kwargs = {"self": f"ToDo {name}", "text": text}
    assert found == [None, method, method, kwargs, text, None, text, 1]


def test_what_an_app_has_put_on_a_document_may_stay_behind(
    bench: FrappeBench, worker: Process
) -> None:
    """Whoever saves it must not fail for what JSON cannot carry."""
    found = bench.call(
        WAIT + "doc = frappe.get_doc({'doctype': 'ToDo', 'description': 'x'})\n"
        "doc.file, doc.rows = open('/dev/null'), {'a': (1, 2)}\n"
        "code = 'probe.tasks.attributes'\nnames = ['description', 'file', 'rows']\n"
        "answer = [wait(frappe.enqueue(code, queue='short', document=doc, names=names)).result]\n"
        "doc.description = open('/dev/null')\n"
        "from frappe_jobs.errors import JobNotSerializable\n"
        "try: frappe.enqueue(code, document=doc, names=names)\n"
        "except JobNotSerializable as error: answer.append(str(error))"
    )
    carried, refused = found
    assert carried == {"description": "x", "rows": "{'a': (1, 2)}"}
    assert refused.startswith("Argument document.description is a _io.TextIOWrapper")


def test_a_document_of_frappes_cache_travels_as_any_other(
    bench: FrappeBench, worker: Process
) -> None:
    """It has not been asked for its meta yet, which it keeps among its attributes then."""
    found = bench.call(
        WAIT + "def cached():\n"
        "    doc = frappe.get_cached_doc('User', 'Guest')\n"
        "    doc.__dict__.pop('meta', None)\n    return doc\n"
        "names = ['name', 'creation']\ncode = 'probe.tasks.attributes'\n"
        "jobs = [frappe.enqueue(code, queue='short', document=cached(), names=names),\n"
        "  frappe.enqueue(cached().as_dict, queue='short')]\n"
        "answer = [[wait(job).result[name] for name in names] for job in jobs]"
    )
    assert [one[0] for one in found] == ["Guest", "Guest"] and found[0][1] == found[1][1]


def test_a_document_that_has_no_row_runs_too(bench: FrappeBench, worker: Process) -> None:
    text = uuid4().hex
    found = bench.call(
        WAIT + f"doc = frappe.get_doc({{'doctype': 'ToDo', 'description': {text!r}}})\n"
        "job = wait(frappe.enqueue(doc.insert, queue='short'))\nfrappe.db.commit()\n"
        f"answer = [job.exc_info, frappe.db.count('ToDo', {{'description': {text!r}}})]"
    )
    assert found == [None, 1]


def test_an_object_that_is_no_document_travels_by_its_attributes(
    bench: FrappeBench, worker: Process
) -> None:
    found = bench.call(
        WAIT + "from datetime import date\nfrom probe.tasks import Invitations\n"
        "letters = Invitations(('a@b.c',), at=date(2026, 1, 2))\n"
        "job = wait(frappe.enqueue(letters.send, subject='Hello', track_job=False))\n"
        "answer = [job.result, job.kwargs['method'], job.kwargs['kwargs']['self']]"
    )
    sent = ["Hello", ["a@b.c"], "2026-01-02", "Invitations"]
    assert found == [sent, "probe.tasks.Letters.send", "probe.tasks.Invitations"]


def test_what_cannot_travel_is_an_error_that_names_it(bench: FrappeBench) -> None:
    found = bench.call(
        "from probe.tasks import Letters\nfrom frappe_jobs.errors import FrappeJobsError\n"
        "def make():\n    class Local(Letters): pass\n    return Local('x')\nanswer = []\n"
        "for one in (Letters(open('/dev/null')), make()):\n"
        "    try: frappe.enqueue(one.send, subject='x')\n"
        "    except FrappeJobsError as error: answer.append(str(error))\n"
    )
    of_a_file, of_a_class = found
    assert of_a_file.startswith("Argument self.attributes.to is a _io.TextIOWrapper")
    assert "make.<locals>.Local' does not lead back to it" in of_a_class


def test_an_object_of_no_installed_app_is_not_made(bench: FrappeBench, worker: Process) -> None:
    """Whoever can write to the broker gets no other class made than the apps' own."""
    found = bench.call(
        WAIT + "from subprocess import Popen\nfrom frappe_jobs.frappe_bench.host.session import "
        "runtime\nfrom frappe_jobs.message import Sending\nfrom dataclasses import replace\n"
        "from probe.tasks import Letters\nhere = runtime()\n"
        "message = frappe.enqueue(Letters('x').send, queue='long', subject='x')._record.message\n"
        "arguments = {**message.arguments}\n"
        "arguments['self']['value']['class'] = 'subprocess.Popen'\n"
        "message = replace(message, id=frappe.generate_hash(), job_id=frappe.generate_hash(), "
        "queue='short', arguments=arguments)\n"
        "[job] = here.dispatcher.dispatch([Sending(message)])\n"
        "from frappe_jobs.frappe_bench.rq.job import BenchJob\n"
        "answer = wait(BenchJob(job._record)).exc_info\n"
        "from frappe.utils import background_jobs as jobs\njobs.get_queue('long').empty()"
    )
    assert "'subprocess.Popen' may not run" in found


def test_a_tracked_method_is_about_its_document(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        WAIT + "doc = frappe.get_doc({'doctype': 'ToDo', 'description': 'x'}).insert()\n"
        "job = frappe.enqueue(doc.as_dict, queue='short', track_job=True)\nfrappe.db.commit()\n"
        "wait(job)\nfrappe.db.commit()\nanswer = [doc.name, list(frappe.db.get_value("
        "'Background Task', job.task_id, ['ref_doctype', 'ref_docname']))]"
    )
    name, record = found
    assert record == ["ToDo", name]


@pytest.fixture
def account(bench: FrappeBench) -> Iterator[None]:
    """An account for mail in the site's configuration, whose server is away."""
    path = bench.sites / bench.site / "site_config.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {
        "mail_server": "127.0.0.1", "mail_port": 1, "mail_login": "me@example.com",
        "mail_password": "hush-hush", "auto_email_id": "me@example.com",
    }))  # fmt: skip
    yield
    path.write_text(before)


def test_bulk_mail_goes_to_each_without_its_accounts_password(
    bench: FrappeBench, account: None
) -> None:
    """What Frappe does for more than 100 recipients, which it does not send at once."""
    subject = uuid4().hex
    with bench.process("worker", "--queue", "long"):
        found = bench.call(
            WAIT + "from frappe.utils import background_jobs as jobs\n"
            "frappe.local.assets_json = frappe.local.assets_json_rtl = {}  # none are built\n"
            f"frappe.sendmail(recipients=[f'{{n}}@example.com' for n in range(101)], "
            f"subject={subject!r}, message='# Hi', as_markdown=True, "
            "delayed=True, queue_separately=True)\n"
            "frappe.db.commit()\nqueue = jobs.get_queue('long')\n"
            "def mine():\n"
            "    found = queue.jobs + [jobs.Job.fetch(one) for r in "
            "('started_job_registry', 'finished_job_registry', 'failed_job_registry') "
            "for one in getattr(queue, r).get_job_ids()]\n"
            "    return {one for one in found if 'send_emails' in one.kwargs['method'] "
            f"and {subject!r} in one._record.message.arguments_json}}\n"
            "[job] = mine()\nwait(job)\nfrappe.db.commit()\n"
            "answer = [job.exc_info, 'hush' in job._record.message.to_json(), "
            f"frappe.db.count('Email Queue', {{'message': ('like', '%{subject}%')}}),\n"
            "  frappe.db.count('Email Queue Recipient', {'parent': ('in', frappe.get_all("
            f"'Email Queue', {{'message': ('like', '%{subject}%')}}, pluck='name'))}})]"
        )
    assert found == [None, False, 101, 101]
