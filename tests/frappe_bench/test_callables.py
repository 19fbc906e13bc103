"""Functions and classes of errors as a job's arguments on a bench."""

from __future__ import annotations

import pytest
from frappe_bench.bench import WAIT, FrappeBench, Process

pytestmark = pytest.mark.timeout(120)


def test_they_travel_by_their_dotted_path(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        WAIT + "from probe import tasks\nfrom xml.parsers.expat import ExpatError\n"
        "kinds = (ValueError, frappe.ValidationError, ExpatError)\n"
        "job = wait(frappe.enqueue(tasks.takes_callable, queue='short', call=tasks.echo, "
        "kinds=kinds, a=1))\nanswer = [job.result, job.kwargs['kwargs']['call'] is tasks.echo, "
        "job.kwargs['kwargs']['kinds'] == kinds]"
    )
    assert found == [[{"a": ["int", 1]}, [True, False]], True, True]


def test_what_no_worker_may_call_is_refused_with_its_name(bench: FrappeBench) -> None:
    found = bench.call(
        "import json, os\nfrom probe import tasks\nfrom frappe_jobs.errors import "
        "JobNotSerializable\nanswer = []\n"
        "for one in (lambda: 1, json.dumps, os.path.join, int):\n"
        "    try: frappe.enqueue(tasks.echo, queue='long', call=one)\n"
        "    except JobNotSerializable as error: answer.append(str(error))"
    )
    assert len(found) == 4 and all("call" in one for one in found), found


def test_a_message_imports_nothing_but_apps(bench: FrappeBench) -> None:
    """A class of errors that is not loaded recognises its errors by their path all the same."""
    found = bench.call(
        "import sys\nfrom frappe_jobs.errors import BadMessage\n"
        "from frappe_jobs.frappe_bench.host.session import runtime\n"
        "decode = runtime().host.arguments.decode_value\n"
        "def sent(kind, value): return decode({'__frappe_jobs__': kind, 'value': value})\n"
        "assert 'mailbox' not in sys.modules\n"
        "kind = sent('error class', ['mailbox', 'NotEmptyError'])\n"
        "answer = ['mailbox' in sys.modules]\nimport mailbox\n"
        "answer += [isinstance(mailbox.NotEmptyError(), kind), isinstance(mailbox.Error(), kind), "
        "isinstance(OSError(), (kind, OSError)), sent('error class', ['builtins', 'KeyError']) is "
        "KeyError, sent('error class', ['frappe.exceptions', 'ValidationError']) is "
        "frappe.ValidationError]\n"
        "for path in ('os.system', 'probe.tasks.not_of_the_app', 7):\n"
        "    try: sent('function', path)\n    except BadMessage: answer.append(path)"
    )
    assert found == [False, True, False, True, True, True,
                     "os.system", "probe.tasks.not_of_the_app", 7]  # fmt: skip
