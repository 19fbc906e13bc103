"""Frappe's own Scheduled Job Types, queued by our scheduler and run by Frappe's own function."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from random import randrange

import pytest
from frappe_bench.bench import CLEAR, FrappeBench, Process

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(180)

HERE = """
from frappe_jobs.frappe_bench.host.session import runtime
here, site = runtime(), frappe.local.site
def entries(method="probe.tasks.tick"):
    return [one for one in here.timetable.of_site(site).values() if one[0].method == method]
def entry(name=None):
    found = here.timetable.of_site(site).get(name) if name else next(iter(entries()), None)
    return found and [found[0].method, found[0].queue, found[0].schedule.expression]
"""

MAKE = """
doc = frappe.get_doc({"doctype": "Scheduled Job Type", "method": "probe.tasks.tick",
                      "frequency": "Daily"}).insert()
"""


@pytest.fixture
def clean(bench: FrappeBench) -> Iterator[FrappeBench]:
    """The bench without the probe's scheduled jobs, before and after."""
    bench.call(CLEAR)
    yield bench
    bench.call(CLEAR)


@pytest.fixture
def scheduler(bench: FrappeBench) -> Iterator[Process]:
    with bench.process("schedule") as process:
        yield process


def test_a_record_brings_its_entry_after_the_commit(clean: FrappeBench) -> None:
    found = clean.call(
        HERE + MAKE + "answer = [entry()]\nfrappe.db.commit(); answer.append(entry())\n"
        "doc.frequency = 'Hourly Long'; doc.save(); frappe.db.rollback(); answer.append(entry())\n"
        "doc.reload(); doc.frequency = 'Hourly Long'; doc.save(); frappe.db.commit()\n"
        "answer.append(entry())\n"
        "doc.stopped = 1; doc.save(); frappe.db.commit(); answer.append(entry())\n"
        "frappe.client.set_value('Scheduled Job Type', doc.name, 'stopped', 0)\n"
        "frappe.db.commit(); answer.append(entry())\n"
        "doc.reload(); doc.delete(); frappe.db.commit(); answer.append(entry())"
    )
    daily = ["probe.tasks.tick", "default", "0 0 * * *"]
    hourly = ["probe.tasks.tick", "long", "0 * * * *"]
    assert found == [None, daily, daily, hourly, None, hourly, None]


def test_a_run_writes_nothing_into_the_schedule(clean: FrappeBench) -> None:
    """Every run sets last_execution by db_set: no entry is written for it."""
    found = clean.call(
        HERE + MAKE + "frappe.db.commit()\nbefore = here.timetable.of_site(site)[doc.name][1]\n"
        "doc.execute()\nanswer = [here.timetable.of_site(site)[doc.name][1] == before, "
        "bool(doc.last_execution), frappe.db.get_default('probe_ticks')]"
    )
    assert found == [True, True, "1"]


def test_frappes_own_sync_jobs_is_followed(clean: FrappeBench) -> None:
    found = clean.call(
        HERE + "from frappe.core.doctype.scheduled_job_type.scheduled_job_type import sync_jobs\n"
        "hooks = dict(frappe.get_hooks('scheduler_events'))\n"
        "more = {**hooks, 'daily': [*hooks['daily'], 'probe.tasks.tick']}\n"
        "sync_jobs(more); frappe.db.commit(); answer = [entry()]\n"
        "sync_jobs(hooks); frappe.db.commit(); answer.append(entry())\n"
        "names = frappe.get_all('Scheduled Job Type', {'stopped': 0}, pluck='name')\n"
        "answer.append({*names} == {*here.timetable.of_site(site)})"
    )
    assert found == [["probe.tasks.tick", "default", "0 0 * * *"], None, True]


def test_a_server_script_has_its_entry(clean: FrappeBench) -> None:
    code = (
        "frappe.conf.server_script_enabled = True\n"
        "frappe.delete_doc('Server Script', 'probe script', ignore_missing=True)\n"
        "script = frappe.get_doc({'doctype': 'Server Script', 'name': 'probe script', "
        "'script_type': 'Scheduler Event', 'event_frequency': 'Daily', 'script': 'a = 1'})\n"
        "script.insert(); frappe.db.commit()\n"
        "name = frappe.db.get_value('Scheduled Job Type', {'server_script': script.name})\n"
        "answer = [(entry(name) or [None] * 3)[2]]\n"
        "script.event_frequency = 'Weekly'; script.save(); frappe.db.commit()\n"
        "name = frappe.db.get_value('Scheduled Job Type', {'server_script': script.name})\n"
        "answer.append((entry(name) or [None] * 3)[2])\n"
        "script.delete(); frappe.db.commit(); answer.append(entry(name))"
    )
    assert clean.call(HERE + code) == ["0 0 * * *", "0 0 * * 0", None]


def test_what_is_due_runs_once_and_leaves_its_log(
    clean: FrappeBench, worker: Process, scheduler: Process
) -> None:
    days = randrange(300, 9000)  # each due time is queued once, and remembered for a day
    name = clean.call(
        MAKE + f"doc.db_set('last_execution', frappe.utils.add_days(None, -{days}))\n"
        "doc.save(); frappe.db.commit(); answer = doc.name"
    )
    # Its entry was made from its creation; last_execution was set without an event's notice.
    clean.call(
        HERE + f"here.timetable.replace(site, here.timetable.ticket(site), [{name!r}], {{}})\n"
        "here.sync.compare([site])"
    )
    look = (
        "frappe.db.rollback()\nanswer = [frappe.db.get_default('probe_ticks'), "
        f"frappe.get_all('Scheduled Job Log', {{'scheduled_job_type': {name!r}}}, "
        "pluck='status'), (frappe.utils.now_datetime() - frappe.get_value('Scheduled Job Type', "
        f"{name!r}, 'last_execution')).total_seconds() < 86400]"
    )
    wait_until(lambda: clean.call(look)[1] == ["Complete"], 30)
    assert clean.call(look) == ["1", ["Complete"], True]


def test_a_module_that_asks_its_site_while_it_is_imported_is_no_fault(
    clean: FrappeBench, worker: Process
) -> None:
    """As ERPNext has some: its comparison comes by in a process that has no site open."""
    name = clean.call(
        MAKE.replace("tasks.tick", "asks_at_import.tick")
        + "doc.db_set('last_execution', frappe.utils.add_days(None, -3)); answer = doc.name"
    )
    ticks = "frappe.db.rollback(); answer = frappe.db.get_default('probe_ticks')"
    with clean.process("schedule") as scheduler:
        assert wait_until(lambda: clean.call(ticks) == "1", 40), scheduler.log
        assert "is not scheduled" not in scheduler.log
        assert clean.call(HERE + f"answer = entry({name!r})[0]") == "probe.asks_at_import.tick"
        assert faults(clean) == []


def test_its_next_time_may_be_skipped_and_it_is_queued_at_once_when_told(
    clean: FrappeBench,
) -> None:
    """Both buttons of Frappe 16's form; the first comes with 16.  Nobody serves long here."""
    # A due time that was skipped before would be skipped already.
    cron = f"{randrange(60)} {randrange(24)} {1 + randrange(28)} {1 + randrange(12)} *"
    found = clean.call(
        HERE + MAKE + "import json\nfrom frappe.core.doctype.scheduled_job_type import "
        "scheduled_job_type as page\nfrom frappe_jobs.scheduler.queueing import name_of, next_due\n"
        f"doc.update(dict(frequency='Daily Long', cron_format={cron!r})).save()\n"
        "frappe.db.commit()\n"
        "def is_skipped():\n    due = next_due(here.timetable.stored(site)[doc.name])\n"
        "    return here.ledger.are_skipped([name_of(due)])[0]\n"
        "form = 'frappe.core.doctype.scheduled_job_type.scheduled_job_type.skip_next_execution'\n"
        "[ours] = frappe.get_hooks('override_whitelisted_methods')[form]\n"
        "answer = [is_skipped()]\nfrappe.get_attr(ours)(json.dumps(dict(name=doc.name)))\n"
        "frappe.db.commit(); here.sync.compare()\nanswer.append(is_skipped())\n"
        "page.execute_event(json.dumps(dict(name=doc.name)))\nfrappe.db.commit()\n"
        "waits = frappe.utils.background_jobs.get_job(doc.rq_job_id)\n"
        "answer += [waits.is_queued, waits.kwargs['kwargs']['job_type']]\nwaits.delete()"
    )
    assert found == [False, True, True, "probe.tasks.tick"]


def test_one_that_cannot_be_made_is_an_error_of_the_doctors(clean: FrappeBench) -> None:
    clean.call(
        MAKE
        + "frappe.db.set_value('Scheduled Job Type', doc.name, 'method', 'probe.tasks.tick_no')"
    )
    (told,) = faults(clean)
    assert "(probe.tasks.tick_no) is not queued" in told


def faults(bench: FrappeBench) -> list[str]:
    """What the doctor says of scheduled jobs that cannot be queued; an error each."""
    done = bench.run("--site", bench.site, "doctor", "--format", "json")
    found = [one for one in json.loads(done.stdout) if "is not queued" in one["what"]]
    found += [one for one in json.loads(done.stdout) if "gets no entry" in one["what"]]
    assert {one["level"] for one in found} <= {"error"}
    return [one["what"] for one in found]


ALL = HERE + """
from collections import Counter
from datetime import datetime, timezone
from frappe_jobs.frappe_bench.rq.job import BenchJob
from frappe_jobs.ledger.listing import Listing
def runs():
    "How often each was queued, by its method; and how many have not ended."
    found, left = Counter(), 0
    for one in Listing(here.ledger, here.settings).latest(
        [site], ["queued", "started", "finished", "failed"], [*here.settings.queues]
    ):
        method = BenchJob(one).kwargs["kwargs"].get("job_type")
        if method and one.message.enqueued_at > since:
            found[method] += 1
            left += one.ended_at is None
    return found, left
"""


@pytest.mark.timeout(900)
def test_all_that_is_made_due_at_once_runs_exactly_once(bench: FrappeBench) -> None:
    """All scheduled jobs of the site, by SQL, as after a long downtime."""
    since = time.time()
    # Another day each time: a due time that has run is not repeated, and a bench is used again.
    last = f"{randrange(1990, 2020)}-{randrange(1, 13)}-{randrange(1, 29)}"
    due = bench.call(
        "frappe.db.sql('update `tabScheduled Job Type` set last_execution = %s, creation = %s', "
        f"['{last}', '1989-01-01 00:00:{randrange(60)}'])\n"
        "answer = frappe.get_all('Scheduled Job Type', {'stopped': 0}, pluck='method')"
    )
    look = ALL.replace("since", repr(since))

    def ended() -> bool:
        found, left = bench.call(look + "answer = runs()")
        return not left and not {*due} - {*found}

    with bench.process("worker-pool", "--num-workers", "2"), bench.process("schedule"):
        wait_until(ended, 200)
        counted, left = bench.call(look + "answer = runs()")
        # What the clock has made due once more meanwhile.
        again = bench.call(
            look + f"until, answer = {time.time()!r}, Counter()\n"
            "for entry, _ in here.timetable.of_site(site).values():\n"
            f"    at = entry.next_run(datetime.fromtimestamp({since!r}, timezone.utc))\n"
            "    while at.timestamp() < until:\n"
            "        answer[entry.method] += 1; at = entry.next_run(at)"
        )
    assert left == 0 and {*due} == {*counted}
    assert {
        one: count for one, count in counted.items() if not 1 <= count <= 1 + again.get(one, 0)
    } == {}


def test_the_times_are_those_of_the_sites_zone(clean: FrappeBench) -> None:
    found = clean.call(
        HERE + MAKE + "frappe.db.commit()\nfrom zoneinfo import ZoneInfo\n"
        "from datetime import datetime\n"
        "zone = frappe.utils.get_system_timezone()\n"
        "at = here.timetable.of_site(site)[doc.name][1]\n"
        "due = datetime.fromtimestamp(at, ZoneInfo(zone))\n"
        "answer = [due.hour, due.minute, due.replace(tzinfo=None) == doc.next_execution, "
        "here.timetable.of_site(site)[doc.name][0].zone == zone]"
    )
    assert found == [0, 0, True, True]


def test_naive_times_are_read_in_the_sites_zone(clean: FrappeBench) -> None:
    found = clean.call(
        HERE + MAKE + "doc.db_set('last_execution', frappe.utils.now_datetime())\n"
        "from datetime import datetime, timezone\nnow = datetime.now(timezone.utc)\n"
        "one, = [one for one in here.host.schedule.job_types(site) if one.name == doc.name]\n"
        "answer = [abs((now - at).total_seconds()) < 60 for at in "
        "(one.creation, one.last_execution)]"
    )
    assert found == [True, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("frappe.db.set_single_value('System Settings', 'enable_scheduler', 0)", "disabled"),
        (
            # Frappe 15.72 lets no other sites be dormant than those of its own cloud, and no
            # developer's.
            "frappe.local.conf.developer_mode = 0\n"
            "if find_spec('frappe.utils.frappecloud'):\n"
            "    import_module('frappe.utils.frappecloud').on_frappecloud = lambda: True\n"
            "frappe.db.sql('delete from `tabActivity Log`'); "
            "frappe.db.sql('update `tabUser` set last_active = null'); "
            "frappe.get_doc({'doctype': 'Scheduled Job Log', 'scheduled_job_type': "
            "frappe.get_last_doc('Scheduled Job Type').name}).insert(ignore_permissions=True)",
            "dormant",
        ),
    ],
)
def test_a_site_that_frappe_would_pass_over_gets_nothing(
    clean: FrappeBench, change: str, said: str
) -> None:
    found = clean.call(
        HERE + "from importlib import import_module\nfrom importlib.util import find_spec\n"
        "from frappe.utils import scheduler\n"
        "def forget():  # later Frappes keep their answers\n"
        "    for name in ('schedule_jobs_based_on_activity', 'is_dormant'):\n"
        "        getattr(getattr(scheduler, name), 'clear_cache', lambda: None)()\n"
        f"before = here.scheduling.inactive(site)\n{change}\nforget()\n"
        "answer = [before, here.scheduling.inactive(site)]\nfrappe.db.rollback()\n"
        "frappe.clear_cache(); forget()"
    )
    assert found[0] is None and said in found[1]


def test_a_killed_runs_log_ends_as_failed(clean: FrappeBench) -> None:
    found = clean.call(
        MAKE + "log = frappe.get_doc({'doctype': 'Scheduled Job Log', 'scheduled_job_type': "
        "doc.name, 'status': 'Scheduled'}).insert(ignore_permissions=True)\n"
        "from types import SimpleNamespace\nfrom frappe_jobs.frappe_bench import schedule\n"
        "call = schedule.scheduled_call(doc.name, doc.method)\n"
        "job = SimpleNamespace(kwargs={'method': call.method, 'kwargs': call.arguments})\n"
        "schedule.note_failure(job, None, None, 'its process died 3 times', None)\nlog.reload()\n"
        "answer = [log.status, log.details]"
    )
    assert found == ["Failed", "its process died 3 times"]


# --- Scheduler Event: ours where Frappe has none

EVENTS = HERE + """
from frappe.core.doctype.scheduled_job_type.scheduled_job_type import sync_jobs
def event(method):
    return frappe.get_doc(
        dict(doctype="Scheduler Event", scheduled_against="ToDo", method=method)
    ).insert().name
def job_type(event, **values):
    values = dict(doctype="Scheduled Job Type", scheduler_event=event, frequency="Cron",
                  cron_format="*/2 * * * *", create_log=1) | values
    return frappe.get_doc(values).insert().name
"""


@pytest.fixture
def without_events(bench: FrappeBench) -> Iterator[FrappeBench]:
    """The bench, and afterwards none of the events that a test has made."""
    yield bench
    bench.call(
        "for name in frappe.get_all('Scheduled Job Type', dict(scheduler_event=('is', 'set')), "
        "pluck='name'):\n    frappe.delete_doc('Scheduled Job Type', name)\n"
        "for name in frappe.get_all('Scheduler Event', pluck='name'):\n"
        "    frappe.delete_doc('Scheduler Event', name)\nfrappe.db.set_default('probe_ticks', '0')"
    )


def test_what_belongs_to_an_event_survives_frappes_sync_jobs(without_events: FrappeBench) -> None:
    found = without_events.call(
        EVENTS + "one, other = event('probe.tasks.tick'), event(None)\n"
        "names = [job_type(one), job_type(other, cron_format='*/3 * * * *')]\n"
        "frappe.db.set_value('Scheduled Job Type', names[0], 'last_execution', '2026-01-01')\n"
        "frappe.get_doc(dict(doctype='Scheduled Job Type', method='probe.tasks.tick_and_fail', "
        "frequency='Daily')).insert()\nfrappe.db.commit(); sync_jobs(); frappe.db.commit()\n"
        "kept = frappe.get_all('Scheduled Job Type', dict(method=('like', 'probe.tasks.tick%')), "
        "['name', 'method', 'last_execution'], order_by='creation')\n"
        "from frappe.core.doctype.scheduled_job_type import scheduled_job_type as frappes\n"
        "answer = [names, [one, other], kept, [entry(name) for name in names], "
        "hasattr(frappes.ScheduledJobType, 'autoname')]"
    )
    names, events, kept, entries, is_named_after_its_method = found
    if is_named_after_its_method:  # later Frappes make names up
        assert names == [f"tasks.tick-{events[0]}", f"tasks.tick-{events[1]}"]
    assert [one["name"] for one in kept] == names, "what no hook and no event names is gone"
    assert kept[0]["last_execution"].startswith("2026-01-01")
    # The other event's method is from the hook scheduled_against.
    assert [one["method"] for one in kept] == ["probe.tasks.tick", "probe.tasks.tick"]
    assert entries == [
        ["probe.tasks.tick", "default", f"*/{minutes} * * * *"] for minutes in (2, 3)
    ]  # fmt: skip


def test_what_belongs_to_an_event_runs_by_the_clock(
    without_events: FrappeBench, scheduler: Process
) -> None:
    bench = without_events
    with bench.process("worker", "--queue", "default,short"):
        name, other = bench.call(
            EVENTS + "frappe.db.set_default('probe_ticks', '0')\none = event('probe.tasks.tick')\n"
            "answer = [job_type(one, cron_format='* * * * * */2'), job_type(event(None))]"
        )
        wait_until(
            lambda: bench.call("answer = int(frappe.db.get_default('probe_ticks'))") >= 2, 40
        )
        runs = bench.call(
            f"answer = [frappe.db.count('Scheduled Job Log', dict(scheduled_job_type=one, "
            f"status='Complete')) for one in ({name!r}, {other!r})]\n"
            f"answer.append(frappe.db.get_value('Scheduled Job Type', {name!r}, 'last_execution'))"
        )
    assert runs[0] >= 2 and runs[1] == 0 and runs[2]


def test_a_changed_method_of_an_event_is_that_of_its_schedules(
    without_events: FrappeBench,
) -> None:
    """Where the doctype is ours: Frappe's own has no code."""
    ours = "answer = frappe.db.get_value('DocType', 'Scheduler Event', 'module') == 'Frappe Jobs'"
    if not without_events.call(ours):
        pytest.skip("This Frappe has Scheduler Events of its own.")
    found = without_events.call(
        EVENTS + "one = event('probe.tasks.tick'); name = job_type(one); frappe.db.commit()\n"
        "doc = frappe.get_doc('Scheduler Event', one); doc.method = 'probe.tasks.tick_and_fail'\n"
        "doc.save(); frappe.db.commit()\n"
        "answer = [entry(name)[0], frappe.get_doc('Scheduled Job Type', name).enqueue(force=True)]"
    )
    assert found == ["probe.tasks.tick_and_fail", True]


def test_what_frappe_brings_itself_stays_as_it_is(bench: FrappeBench) -> None:
    """As in Frappe 16: a doctype of the name belongs to another module."""
    code = (
        "from frappe_jobs.frappe_bench import doctypes\n"
        "def module(value=None):\n    if value:\n"
        "        frappe.db.set_value('DocType', 'Scheduler Event', dict(module=value, "
        "migration_hash='another'))\n        doctypes.make()\n"
        "    return frappe.db.get_value('DocType', 'Scheduler Event', 'module')\n"
        "before = module()\n"
        "try:\n    answer = [module('Core')]\n"
        "finally:\n    answer += [module(before) == before]"
    )
    assert bench.call(code) == ["Core", True]


def test_an_uninstall_takes_the_field_and_the_doctypes_with_it(bench: FrappeBench) -> None:
    """Those that are ours: where Frappe has Scheduler Events and Background Tasks, they stay."""
    site = bench.other_site
    ours = bench.call(
        "answer = frappe.get_all('DocType', dict(module='Frappe Jobs'), pluck='name', "
        "order_by='name')", site=site,
    )  # fmt: skip
    frappes, frappes_tasks = (name not in ours for name in ("Scheduler Event", "Background Task"))
    assert {*ours} <= {"Background Task", "Scheduler Event"}
    assert frappes or not frappes_tasks  # which came later
    look = (
        "answer = ['scheduler_event' in frappe.db.get_table_columns('Scheduled Job Type'), "
        "frappe.get_meta('Scheduled Job Type').has_field('scheduler_event'), "
        "frappe.db.get_all('DocType', dict(module='Frappe Jobs'), pluck='name', order_by='name'), "
        "frappe.db.table_exists('Background Task', cached=False), "
        "frappe.db.count('Scheduled Job Type', dict(method='probe.tasks.tick'))]"
    )
    bench.call(EVENTS + "job_type(event('probe.tasks.tick'))", site=site)
    assert bench.call(look, site=site) == [True, True, ours, True, 1]
    try:
        gone = bench.run("--site", site, "uninstall-app", "frappe_jobs", "--yes", "--no-backup")
        assert gone.returncode == 0, gone.stdout + gone.stderr
        assert bench.call(look, site=site) == [
            frappes, frappes, [], frappes_tasks, int(frappes),
        ]  # fmt: skip
        # The bench is still on Celery, for its other site.
        refused = bench.call(
            "try:\n    frappe.enqueue('probe.tasks.tick', track_job=True)\n"
            "except Exception as error:\n    answer = str(error)", site=site,
        )  # fmt: skip
        said = f"track_job: {site} has no Background Task"
        assert refused.startswith(said) or (frappes_tasks and "enqueue_task keeps it" in refused)
    finally:
        back = bench.run("--site", site, "install-app", "frappe_jobs")
    assert back.returncode == 0, back.stdout + back.stderr
    assert bench.call(look, site=site) == [True, True, ours, True, int(frappes)]
    bench.call(
        "for name in frappe.get_all('Scheduled Job Type', dict(method='probe.tasks.tick'), "
        "pluck='name'):\n    frappe.delete_doc('Scheduled Job Type', name)", site=site,
    )  # fmt: skip
