"""What every host promises: the standalone one on each kind of database, and a bench's.

The same tests for all; what differs is in the subject.  A bench's run in its own Python
(tests/frappe_bench/test_host.py).
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from contract.subject import SECRET, Calls, Subject, in_fork, in_thread

import frappe_jobs as frappe
from frappe_jobs.background_task.record import record_of
from frappe_jobs.context import require_session
from frappe_jobs.errors import (
    ArgumentError,
    BadMessage,
    DoesNotExistError,
    HostNotReady,
    MethodNotAllowed,
    MethodNotFound,
    RecordNotWritten,
    SiteNotFound,
    TransactionEnded,
)
from frappe_jobs.host.own_methods import RUN_DOC_METHOD
from frappe_jobs.host.schedule_records import ScheduledJob
from frappe_jobs.host.task_records import TaskChange
from frappe_jobs.message import Message
from frappe_jobs.testing import wait_until

#: How long a test waits for a thread or process before it says so.
SOON = 20
TASK = "Background Task"


class HostContract:
    """For any host on any kind of database; a subclass says which."""

    @pytest.fixture
    def calls(self) -> Calls:
        return Calls()

    @pytest.fixture(autouse=True)
    def _subject(self, subject: Subject, request: pytest.FixtureRequest) -> None:
        self.subject, self.host = subject, subject.host
        self.site, self.other_site = subject.sites
        self.account, self.order = subject.account, subject.order
        for name in (request.node.originalname, request.node.name):
            if reason := subject.meaningless.get(name):
                pytest.skip(f"{name} {subject.name}: {reason}")

    def insert(self, name: str, **values: Any) -> Any:
        account = frappe.new_doc(self.account, name=name, **values)
        account.flags.ignore_permissions = True  # whoever the site is open for
        return account.insert()

    def read(self, name: str) -> Any:
        return frappe.get_doc(self.account, name)

    def travel(self, value: Any) -> Any:
        """The value as it arrives with a job."""
        return self.host.arguments.decode(self.host.arguments.encode({"value": value}))["value"]

    def test_what_is_left_out_is_in_the_contract(self):
        names = {name.partition("[")[0] for name in self.subject.meaningless}
        assert [name for name in names if not hasattr(self, name)] == []

    # --- sessions

    def test_a_clean_exit_commits(self):
        with frappe.site(self.site):
            self.insert("anna")
        assert self.subject.stored() == ["anna"]
        assert self.subject.stored(site=self.other_site) == []

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_an_exception_rolls_back_and_goes_on(self, error):
        with pytest.raises(error), frappe.site(self.site):
            self.insert("anna")
            raise error
        assert self.subject.stored() == []
        assert frappe.local.site is None

    def test_a_commit_that_fails_rolls_back_and_raises(self):
        self.subject.store("anna")
        with pytest.raises(self.subject.duplicate), frappe.site(self.site):
            self.insert("bert")
            self.subject.spoil_the_commit()
        assert self.subject.stored() == ["anna"]
        assert frappe.local.site is None

    def test_an_open_savepoint_is_committed_with_the_rest(self):
        with frappe.site(self.site):
            self.subject.savepoint()
            self.insert("anna")
        assert self.subject.stored() == ["anna"]

    def test_commits_within_a_session_stand_and_the_next_transaction_works(self):
        with pytest.raises(ValueError), frappe.site(self.site) as session:
            self.insert("anna")
            session.commit()
            self.insert("bert")
            session.rollback()
            self.insert("carl")
            session.commit()
            self.insert("dora")
            raise ValueError
        assert self.subject.stored() == ["anna", "carl"]

    def test_it_says_what_is_open(self):
        with frappe.site(self.site, user="grete@acme.test") as session:
            assert (frappe.local.site, frappe.session.user) == (self.site, "grete@acme.test")
            assert (session.site, session.user) == (self.site, "grete@acme.test")
            assert frappe.conf["shared_key"] == frappe.conf.shared_key == "of the bench"
            assert frappe.conf.get("no_such_key") is frappe.conf.no_such_key is None
            assert session.conf["shared_key"] == "of the bench"
            assert self.host.require_current().site == self.site
            assert self.subject.ask("SELECT 1") == 1

    def test_the_default_user_is_the_administrator(self):
        with frappe.site(self.site):
            assert frappe.session.user == "Administrator"

    @pytest.mark.parametrize("user", ["", " ", 0, False, 5, ["grete"], "\ud800", b"grete"])
    def test_a_user_that_is_none_is_refused_and_never_the_administrator(self, user):
        with pytest.raises(ArgumentError, match="None means Administrator"):
            frappe.site(self.site, user=user).__enter__()
        assert (frappe.local.site, frappe.session.user) == (None, None)

    def test_outside_of_any_there_is_none(self):
        assert (frappe.local.site, frappe.session.user, self.host.current()) == (None, None, None)
        for use in (
            lambda: frappe.conf["shared_key"], lambda: self.subject.ask("SELECT 1"),
            lambda: self.read("anna"), lambda: frappe.new_doc(self.account),
            lambda: frappe.get_all(self.account), require_session,
        ):  # fmt: skip
            with pytest.raises(HostNotReady, match="No site is open"):
                use()

    @pytest.mark.parametrize("name", ["nowhere", "../site1", "", None, 7])
    def test_a_site_that_does_not_exist_is_refused_by_name(self, name):
        with pytest.raises(SiteNotFound, match=", ".join(sorted(self.subject.sites))):
            frappe.site(name).__enter__()
        assert frappe.local.site is None

    def test_the_sites_are_known_by_name(self):
        assert {*self.subject.sites} <= {*self.host.sites()}

    def test_what_is_no_session_is_refused(self):
        for wrong in ("site1", object()):
            with pytest.raises(ArgumentError, match="session"):
                frappe.site(self.site, session=wrong).__enter__()

    @pytest.mark.parametrize("which", [0, 1])
    def test_sessions_nest_and_the_outer_one_is_back_afterwards(self, which):
        inner = self.subject.sites[which]
        with frappe.site(self.site, user="outer") as outer:
            with frappe.site(inner, user="inner") as session:
                assert (frappe.local.site, frappe.session.user) == (inner, "inner")
                assert session.db is not outer.db
                self.insert("anna")
            assert self.subject.stored(site=inner) == ["anna"]  # the inner one's commit is its own
            with pytest.raises(ValueError), frappe.site(inner):
                self.insert("bert")
                raise ValueError
            assert (frappe.local.site, frappe.session.user) == (self.site, "outer")
            assert self.host.current() is outer
            self.insert("carl")
        assert "carl" in self.subject.stored()
        assert "bert" not in self.subject.stored(site=inner)

    def test_threads_see_only_their_own_session(self):
        both_are_open = threading.Barrier(2)

        def work(site: str) -> tuple[object, ...]:
            before = frappe.local.site
            with frappe.site(site, user=f"user of {site}"):
                both_are_open.wait(SOON)
                self.insert(site)
                both_are_open.wait(SOON)
                return before, frappe.local.site, frappe.session.user, id(require_session().db)

        with frappe.site(self.site), ThreadPoolExecutor(2) as pool:
            first, second = pool.map(work, self.subject.sites)
        assert first[:3] == (None, self.site, f"user of {self.site}")
        assert second[:3] == (None, self.other_site, f"user of {self.other_site}")
        assert first[3] != second[3]
        assert self.subject.stored() == [self.site]
        assert self.subject.stored(site=self.other_site) == [self.other_site]

    def test_async_tasks_see_only_their_own_session(self):
        async def work(site: str, mine: asyncio.Event, other: asyncio.Event) -> tuple[object, ...]:
            with frappe.site(site):
                mine.set()
                await other.wait()
                return frappe.local.site, require_session().db

        async def main() -> list[tuple[object, ...]]:
            events = asyncio.Event(), asyncio.Event()
            found = await asyncio.gather(
                work(self.site, *events),
                work(self.site, *reversed(events)),
                work(self.other_site, *events),
            )
            assert frappe.local.site is None
            return found

        found = asyncio.run(main())
        assert [site for site, _ in found] == [self.site, self.site, self.other_site]
        assert len({id(db) for _, db in found}) == 3

    def test_a_task_that_outlives_the_session_it_was_started_in_has_none(self):
        async def look(looked: asyncio.Event, closed: asyncio.Event) -> tuple[object, object]:
            before = frappe.local.site
            looked.set()
            await closed.wait()
            return before, frappe.local.site

        async def main() -> tuple[object, object]:
            looked, closed = asyncio.Event(), asyncio.Event()
            with frappe.site(self.site):
                task = asyncio.create_task(look(looked, closed))
                await looked.wait()
            closed.set()
            return await task

        assert asyncio.run(main()) == (self.site, None)

    # --- connections

    def test_no_connection_is_open_when_no_session_is(self):
        with frappe.site(self.site) as session:
            self.subject.ask("SELECT 1")
            assert session.was_connected
            wait_until(lambda: self.subject.connections() == 1)
        with pytest.raises(ValueError), frappe.site(self.site):
            self.subject.ask("SELECT 1")
            raise ValueError
        wait_until(lambda: self.subject.connections() == 0)

    def test_opening_a_site_connects_only_when_the_database_is_used(self):
        with frappe.site(self.site) as session:
            session.after_commit(lambda: None)
            assert not session.was_connected
            wait_until(lambda: self.subject.connections() == 0)  # a worker may look in meanwhile

    def test_whoever_keeps_a_closed_session_cannot_open_a_connection_with_it(self):
        with frappe.site(self.site) as session:
            pass
        with pytest.raises(self.subject.closed):
            self.subject.ask_of(session, "SELECT 1")
        wait_until(lambda: self.subject.connections() == 0)

    def test_a_child_process_opens_its_own_session(self):
        self.subject.store("anna")
        assert in_fork(lambda: self.subject.store("bert")) == "None"
        assert self.subject.stored() == ["anna", "bert"]

    # --- after commit

    def test_a_call_is_made_once_after_the_commit(self, calls):
        with frappe.site(self.site) as session:
            self.insert("anna")
            session.after_commit(lambda: calls.append(self.subject.stored()))
            session.after_commit(calls.later("second"))
            assert calls == []
            session.commit()
            assert calls == [["anna"], "second"]
            session.commit()
            self.insert("bert")
        assert calls == [["anna"], "second"]

    def test_a_clean_exit_is_a_commit_also_when_nothing_was_written(self, calls):
        with frappe.site(self.site) as session:
            session.after_commit(calls.later("at a commit"))
            session.commit()
            assert (calls, session.was_connected) == (["at a commit"], False)
            session.after_commit(calls.later("at the exit"))
        assert calls == ["at a commit", "at the exit"]

    def test_the_sites_own_commit_counts_as_well(self, calls):
        with frappe.site(self.site) as session:
            session.after_commit(calls.later("made"))
            frappe.db.commit()
            assert calls == ["made"]

    @pytest.mark.parametrize("written", [True, False])
    @pytest.mark.parametrize("how", ["the session's", "the database's"])
    def test_a_rollback_drops_it_however_it_comes_about(self, calls, how, written):
        with frappe.site(self.site) as session:
            if written:
                self.insert("anna")
            session.after_commit(calls.later("dropped"))
            (session if how == "the session's" else session.db).rollback()
            session.commit()
            assert calls == []
            session.after_commit(calls.later("made"))
        assert calls == ["made"]
        assert self.subject.stored() == []

    def test_an_exception_drops_it(self, calls):
        with pytest.raises(ValueError), frappe.site(self.site) as session:
            session.after_commit(calls.later("dropped"))
            raise ValueError
        assert calls == []

    def test_a_commit_that_fails_drops_it(self, calls):
        with pytest.raises(self.subject.duplicate), frappe.site(self.site) as session:
            self.subject.spoil_the_commit()
            session.after_commit(calls.later("dropped"))
        assert calls == []

    def test_a_rollback_drops_what_a_savepoint_had(self, calls):
        with frappe.site(self.site) as session:
            self.subject.savepoint()
            session.after_commit(calls.later("dropped"))
            session.rollback()
        assert calls == []

    def test_a_call_may_hand_in_further_ones(self, calls):
        def call() -> None:
            calls.append("first")
            require_session().after_commit(calls.later("third"))

        with frappe.site(self.site) as session:
            session.after_commit(call)
            session.after_commit(calls.later("second"))
            session.commit()
            assert calls == ["first", "second", "third"]

    def test_what_a_call_writes_is_committed_at_the_exit(self, calls):
        with frappe.site(self.site) as session:
            session.after_commit(lambda: self.insert("anna"))
        assert self.subject.stored() == ["anna"]

    def test_what_a_call_hands_in_waits_for_what_it_wrote(self, calls):
        def call() -> None:
            self.insert("anna")
            require_session().after_commit(lambda: calls.append(self.subject.stored()))

        with frappe.site(self.site) as session:
            session.after_commit(call)
        assert calls == [["anna"]]

    def test_a_call_may_commit(self, calls):
        def call() -> None:
            self.insert("anna")
            require_session().after_commit(calls.later("inner"))
            frappe.db.commit()

        with frappe.site(self.site) as session:
            session.after_commit(call)
            session.after_commit(calls.later("outer"))
            session.commit()
            assert calls == ["outer", "inner"]
        assert self.subject.stored() == ["anna"]

    def test_a_call_that_raises_harms_neither_the_commit_nor_the_others(self, calls, caplog):
        def fail(text: str) -> Callable[[], None]:
            def call() -> None:
                raise ValueError(text)

            return call

        with frappe.site(self.site) as session:
            self.insert("anna")
            session.after_commit(fail("the first"))
            session.after_commit(fail("the second"))
            session.after_commit(calls.later("made"))
            with pytest.raises(ValueError, match="the first"):
                session.commit()
            assert calls == ["made"]
            assert "ValueError: the second" in caplog.text
            self.insert("bert")
            session.after_commit(calls.later("next"))
        assert calls == ["made", "next"]
        assert self.subject.stored() == ["anna", "bert"]

    def test_an_error_of_a_call_leaves_the_session_after_its_commit(self):
        def fail() -> None:
            raise ValueError("from a call")

        with pytest.raises(ValueError, match="from a call"), frappe.site(self.site) as session:
            self.insert("anna")
            session.after_commit(fail)
        assert self.subject.stored() == ["anna"]

    # --- documents

    def test_a_document_is_made_read_changed_and_deleted(self):
        with frappe.site(self.site):
            account = frappe.new_doc(self.account, name="anna", balance=3)
            assert account.doctype == self.account
            assert self.subject.stored() == []
            assert account.insert() is account
        with frappe.site(self.site):
            account = self.read("anna")
            assert account.balance == 3
            account.balance = 4
            assert account.save() is account
        with frappe.site(self.site):
            account = self.read("anna")
            assert account.balance == 4
            account.delete()
            with pytest.raises(self.subject.not_found, match="anna"):
                self.read("anna")
        assert self.subject.stored() == []

    def test_a_document_can_be_read_after_its_site_is_closed(self):
        with frappe.site(self.site):
            account = self.insert("anna", balance=3)
        assert (account.name, account.balance) == ("anna", 3)

    def test_a_document_of_a_closed_session_is_saved_in_the_open_one(self):
        with frappe.site(self.site):
            new = frappe.new_doc(self.account, name="anna", balance=0)
            old = self.insert("bert")
        with frappe.site(self.site):
            new.insert()
            old.balance = 5
            old.save()
        assert self.subject.stored() == ["anna", "bert"]
        assert self.subject.stored(field="balance") == [0, 5]
        with frappe.site(self.site):
            old.delete()
        assert self.subject.stored() == ["anna"]

    def test_children_belong_to_a_doctype_with_a_space_in_its_name(self):
        with frappe.site(self.site):
            order = self.subject.new_order("so1", "anna", [1, 2])
            assert order.doctype == self.order
            order.insert()
        with frappe.site(self.site):
            order = frappe.get_doc(self.order, "so1")
            assert [item.pieces for item in order.items] == [1, 2]

    @pytest.mark.parametrize("doctype", ["No Such Type", "", "acme.models.Account"])
    def test_an_unknown_doctype_is_refused(self, doctype):
        with frappe.site(self.site):
            for use in (frappe.get_all, frappe.new_doc, lambda it: frappe.get_doc(it, "x")):
                with pytest.raises(DoesNotExistError, match=repr(doctype)):
                    use(doctype)

    @pytest.mark.parametrize("name", ["nobody", None, ""])
    def test_a_missing_document_is_refused_by_name(self, name):
        with frappe.site(self.site):
            with pytest.raises(self.subject.not_found, match=f"{self.account} .*{name or ''}"):
                self.read(name)

    def test_flags_are_attributes_and_items_and_are_not_stored(self):
        with frappe.site(self.site):
            account = frappe.new_doc(self.account, name="anna")
            account.flags.urgent = True
            assert account.flags["urgent"] is True
            assert account.flags.get("other") is account.flags.other is None
            account.insert()
        with frappe.site(self.site):
            assert "urgent" not in self.read("anna").flags

    def test_get_all_filters_chooses_orders_and_limits(self):
        for name, balance in (("anna", 3), ("bert", 1), ("carl", 3)):
            self.subject.store(name, balance)
        with frappe.site(self.site):
            every = frappe.get_all(self.account, order_by="name")
            assert every == [{"name": "anna"}, {"name": "bert"}, {"name": "carl"}]
            (bert,) = frappe.get_all(self.account, fields=["*"], filters={"name": "bert"})
            assert (bert["name"], bert["balance"]) == ("bert", 1)
            (anna,) = frappe.get_all(self.account, fields="*", limit=1, order_by="name asc")
            assert (anna["name"], anna["balance"]) == ("anna", 3)
            rich = frappe.get_all(self.account, {"balance": 3}, order_by="name desc")
            assert [row["name"] for row in rich] == ["carl", "anna"]
            assert frappe.get_all(self.account, {"balance": 3, "name": "bert"}) == []
            newest = frappe.get_all(self.account, fields="balance", order_by="name  DESC", limit=2)
            assert newest == [{"balance": 3}, {"balance": 1}]

    @pytest.mark.parametrize(
        "query",
        [
            {"fields": ["name", "colour"]},
            {"fields": "colour"},
            {"filters": {"colour": "red"}},
            {"order_by": "colour desc"},
            {"order_by": "name sideways"},
            {"order_by": "name; drop table account"},
        ],
    )
    def test_get_all_refuses_a_field_or_order_that_it_does_not_know(self, query):
        with frappe.site(self.site) as session:
            with pytest.raises(self.subject.bad_query):
                frappe.get_all(self.account, **query)
            session.rollback()

    # --- documents with jobs

    def test_a_document_arrives_with_values_children_and_flags_and_reads_nothing(self):
        with frappe.site(self.site):
            order = self.subject.new_order("so1", "anna", [1, 2])
            order.insert()
            order.flags.update(urgent=True, _cache=7)
            order.items[0].flags.gift = "yes"
            order._note = object()
            sent = self.host.arguments.encode({"order": order})
        with frappe.site(self.site), self.subject.statements() as sql:
            got = self.host.arguments.decode(sent)["order"]
            assert type(got) is type(order) and got is not order
            assert (got.name, got.customer, got.doctype) == ("so1", "anna", self.order)
            assert [(type(item), item.name, item.pieces) for item in got.items] == [
                (type(item), item.name, item.pieces) for item in order.items
            ]
            assert [item.pieces for item in got.items] == [1, 2]
            assert (got.flags.urgent, got.items[0].flags.gift) == (True, "yes")
            assert not hasattr(got, "_note")
        assert sql == []

    def test_it_arrives_as_the_sender_had_it_and_not_as_it_is_stored(self):
        self.subject.store("anna", balance=1)
        with frappe.site(self.site) as session:
            account = self.read("anna")
            account.balance = 2
            got = self.travel(account)
            assert got.balance == 2
            session.rollback()
        assert self.subject.stored(field="balance") == [1]

    def test_one_that_came_with_a_job_is_saved_over_what_is_stored(self):
        self.subject.store("anna", balance=1)
        with frappe.site(self.site):
            sent = self.host.arguments.encode({"account": self.read("anna")})
        with frappe.site(self.site):
            account = self.host.arguments.decode(sent)["account"]
            account.balance += 10
            assert account.save() is account
            account.balance += 100
            account.save()
            assert self.read("anna").balance == 111
        assert self.subject.stored(field="balance") == [111]

    def test_one_that_came_with_a_job_is_deleted(self):
        self.subject.store("anna")
        with frappe.site(self.site):
            self.travel(self.read("anna")).delete()
        assert self.subject.stored() == []

    def test_one_that_was_deleted_meanwhile_is_not_saved_again(self):
        self.subject.store("anna")
        with frappe.site(self.site):
            account = self.read("anna")
            got = self.travel(account)
            account.delete()
        with frappe.site(self.site):
            with pytest.raises(self.subject.not_found):
                got.save()
        assert self.subject.stored() == []

    def test_one_that_was_never_stored_arrives_and_can_be_inserted(self):
        with frappe.site(self.site):
            got = self.travel(self.subject.new_order("so1", "anna", [1, 2]))
            assert [item.pieces for item in got.items] == [1, 2]
            got.insert()
        with frappe.site(self.site):
            assert [item.pieces for item in frappe.get_doc(self.order, "so1").items] == [1, 2]

    def test_children_are_changed_and_added_by_saving_one_that_came(self):
        with frappe.site(self.site):
            self.subject.new_order("so1", "anna", [1, 2]).insert()
        with frappe.site(self.site):
            got = self.travel(frappe.get_doc(self.order, "so1"))
            got.items[0].pieces = 7
            self.subject.add_item(got, 3)
            got.save()
        with frappe.site(self.site):
            assert [item.pieces for item in frappe.get_doc(self.order, "so1").items] == [7, 2, 3]

    def test_one_of_a_closed_site_can_be_sent_as_it_was(self):
        with frappe.site(self.site):
            account = self.insert("anna", balance=3)
        with frappe.site(self.site):
            assert self.travel(account).balance == 3

    def test_a_jobs_documents_can_be_read_where_no_site_is_open(self):
        with frappe.site(self.site):
            sent = self.host.arguments.encode(
                {"account": frappe.new_doc(self.account, name="anna", balance=3)}
            )
        assert self.host.arguments.decode(sent)["account"].balance == 3

    @pytest.mark.parametrize("doctype", ["No Such Type", ["Account"], None])
    def test_a_hostile_document_is_a_bad_message(self, doctype):
        with frappe.site(self.site):
            sent = self.host.arguments.encode({"it": frappe.new_doc(self.account, name="anna")})
            (tag, kind), (_, parts) = sent["it"].items()
            with pytest.raises(BadMessage):
                hostile = {tag: kind, "value": parts | {"doctype": doctype}}
                self.host.arguments.decode({"it": hostile})

    # --- methods and hooks

    def test_a_method_of_an_installed_app_is_found_by_its_path(self):
        with frappe.site(self.site):
            found = self.host.methods.resolve(self.subject.method, self.site)
            assert f"{found.__module__}.{found.__name__}" == self.subject.method
            assert self.host.methods.resolver(self.site)(self.subject.method) is found
            assert self.host.methods.checked(self.subject.method, {"x": 1}, self.site) is found

    def test_a_path_that_is_not_of_the_sites_apps_is_refused(self):
        app = self.subject.method.partition(".")[0]
        with frappe.site(self.site):
            for path, error in [
                ("os.system", MethodNotAllowed),
                (self.subject.borrowed, MethodNotAllowed),
                (f"{app}.tasks.no_such_function", MethodNotFound),
                (f"{app}.no_such_module.run", MethodNotFound),
                (app, MethodNotFound),
            ]:
                with pytest.raises(error):
                    self.host.methods.resolve(path, self.site)
                with pytest.raises(error):
                    self.host.methods.resolver(self.site)(path)

    def test_arguments_that_do_not_fit_are_refused_at_the_call(self):
        with frappe.site(self.site), pytest.raises(ArgumentError):
            self.host.methods.checked(self.subject.bare, {"colour": "red"}, self.site)

    def test_a_hooks_paths_come_in_the_apps_order(self):
        name, paths = self.subject.hook
        with frappe.site(self.site):
            found = self.host.methods.hooks(name, self.site)
            assert [path for path in found if path in paths] == [*paths]
            assert self.host.methods.hooks("no_such_hook", self.site) == []

    def test_a_bound_method_is_known_by_its_document(self):
        with frappe.site(self.site):
            account = self.insert("anna")
            found = self.host.methods.document_method(account.deposit)
            assert found == (self.account, "anna", "deposit")
        assert self.host.methods.document_method(in_fork) is None
        assert self.host.methods.document_method("".join) is None

    def test_a_documents_method_runs_on_the_stored_document(self):
        self.subject.store("anna", balance=1)
        with frappe.site(self.site):
            run = self.host.methods.resolve(RUN_DOC_METHOD, self.site)
            assert run(self.account, "anna", "deposit", amount=2) == 3
            with pytest.raises(self.subject.not_found):
                run(self.account, "nobody", "deposit")
        assert self.subject.stored(field="balance") == [3]

    @pytest.mark.parametrize(
        ("method", "rest", "error"),
        [
            ("deposit", {"amount": 1}, None),
            ("save", {}, None),
            ("deposit", {"sum": 1}, ArgumentError),
            ("nothing", {}, MethodNotFound),
            ("__init__", {}, MethodNotFound),
            ("doctype", {}, MethodNotFound),
            (None, {}, MethodNotFound),
        ],
    )
    def test_a_documents_method_is_checked_at_the_call(self, method, rest, error):
        arguments = {"doctype": self.account, "name": "anna", "doc_method": method} | rest
        with frappe.site(self.site):
            if error is None:
                assert self.host.methods.checked(RUN_DOC_METHOD, arguments, self.site)
                return
            with pytest.raises(error):
                self.host.methods.checked(RUN_DOC_METHOD, arguments, self.site)

    def test_a_method_of_an_unknown_doctype_is_refused_at_the_call(self):
        arguments = {"doctype": "No Such Type", "name": "anna", "doc_method": "save"}
        with frappe.site(self.site):
            with pytest.raises(DoesNotExistError, match="'No Such Type'"):
                self.host.methods.checked(RUN_DOC_METHOD, arguments, self.site)

    # --- errors

    def test_an_error_is_put_where_people_look_for_it(self, caplog):
        text = uuid4().hex
        with frappe.site(self.site):
            self.host.log_error("acme.tasks.fail", ValueError(text))
        logged = self.subject.logged(caplog)
        assert "acme.tasks.fail" in logged and text in logged

    def test_an_ordinary_error_is_no_conflict(self):
        self.subject.store("anna")
        with pytest.raises(self.subject.duplicate) as caught, frappe.site(self.site):
            self.insert("anna")
        assert not self.host.is_conflict(caught.value)
        with frappe.site(self.site) as session:
            with pytest.raises(self.subject.failed_statement) as caught:
                self.subject.ask("SELECT nonsense FROM nowhere")
            assert not self.host.is_conflict(caught.value)
            assert not self.host.is_out_of_reach(caught.value)
            session.rollback()
        assert not self.host.is_conflict(ValueError(1213, "40P01"))
        assert not self.host.is_out_of_reach(ValueError(2013, "08006"))

    def test_a_lock_wait_timeout_is_a_conflict(self):
        self.subject.store("anna")

        def deposit_too() -> tuple[bool, bool]:
            with pytest.raises(self.subject.failed_statement) as caught, frappe.site(self.site):
                self.subject.be_impatient()
                self.read("anna").deposit(10)
            return self.host.is_conflict(caught.value), self.host.is_out_of_reach(caught.value)

        with frappe.site(self.site):
            self.read("anna").deposit(1)
            assert in_thread(deposit_too) == (True, False)
        assert self.subject.stored(field="balance") == [1]

    @pytest.mark.parametrize("wrong", ["nowhere", "refused"])
    def test_a_database_out_of_reach_says_so_without_its_password(self, wrong):
        with self.subject.configured(getattr(self.subject, wrong)):
            with pytest.raises(Exception) as caught, frappe.site(self.site):
                self.subject.ask("SELECT 1")
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert frappe.local.site is None
            assert self.host.is_out_of_reach(caught.value)
            assert not self.host.is_conflict(caught.value)

    def test_a_site_whose_configuration_changes_is_opened_anew(self):
        with self.subject.configured(self.subject.nowhere):
            with pytest.raises(Exception), frappe.site(self.site):  # noqa: B017
                self.subject.ask("SELECT 1")
        with frappe.site(self.site):
            assert self.subject.ask("SELECT 1") == 1

    # --- the schedule

    def job_types(self) -> list[Any]:
        found = self.host.schedule.job_types(self.site)
        return [one for one in found if one.method == self.subject.method]

    def test_job_types_are_added_changed_and_removed(self):
        nightly = ScheduledJob(self.subject.method, "Cron", "0 3 * * *")
        try:
            given = self.host.schedule.change_job_types(self.site, [nightly], {}, [])
            (one,) = self.job_types()
            assert one in given and one.creation.tzinfo is not None
            assert (one.frequency, one.cron_format, one.queue) == ("Cron", "0 3 * * *", "default")
            assert (one.stopped, one.has_event, one.last_execution) == (False, False, None)
            others = self.host.schedule.job_types(self.other_site)
            assert [it for it in others if it.method == self.subject.method] == []
            weekly = ScheduledJob(self.subject.method, "Weekly Long")
            self.host.schedule.change_job_types(self.site, [], {one.name: weekly}, [])
            (one,) = self.job_types()
            assert (one.frequency, one.cron_format, one.queue) == ("Weekly Long", "", "long")
        finally:
            names = [one.name for one in self.job_types()]
            left = self.host.schedule.change_job_types(self.site, [], {}, names)
        assert self.job_types() == [] and not {*names} & {one.name for one in left}

    # --- the records of tracked jobs

    def record(self, **values: Any) -> dict[str, Any]:
        """Of a job that waits."""
        if self.host.tasks.functions:
            pytest.skip(f"{self.subject.name}: Frappe keeps Background Tasks itself")
        message = Message(
            id=uuid4().hex, task_id=uuid4().hex, job_id="sum", site=self.site, user="contract",
            method=self.subject.method, queue="short", name="Add up", timeout=300,
            enqueued_at=time.time(), arguments={"x": 1},
        )  # fmt: skip
        return record_of(message) | values

    def added(self, **values: Any) -> str:
        """A record's task id; it is committed."""
        record = self.record(**values)
        with frappe.site(self.site) as session:
            self.host.tasks.add(session, [record])
        return str(record["task_id"])

    def task(self, task_id: str) -> dict[str, Any] | None:
        """What another session finds."""

        def look() -> dict[str, Any] | None:
            with frappe.site(self.site):
                found = frappe.get_all(TASK, {"task_id": task_id}, fields=["*"])
                return found[0] if found else None

        return in_thread(look)

    @contextmanager
    def locked(self, task_id: str) -> Iterator[None]:
        """Somebody else has changed the record, and not committed yet."""
        is_locked, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with frappe.site(self.site) as session:
                change = TaskChange(task_id, {"stage": "locked"})
                assert self.host.tasks.change(session, change)
                is_locked.set()
                go_on.wait(SOON)
                session.rollback()

        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(hold)
            assert is_locked.wait(SOON)
            try:
                yield
            finally:
                go_on.set()
                held.result()

    def test_a_record_is_of_the_sessions_transaction(self):
        record = self.record()
        with frappe.site(self.site) as session:
            self.host.tasks.add(session, [record])
            session.rollback()
        assert self.task(record["task_id"]) is None
        with frappe.site(self.site) as session:
            self.host.tasks.add(session, [record])
            assert self.task(record["task_id"]) is None
        found = self.task(record["task_id"])
        assert found["name"] == record["task_id"] and found["creation"]
        assert {name: found[name] for name in record} == record

    def test_what_a_record_cannot_hold_is_refused(self):
        with frappe.site(self.site) as session:
            for values in ({"job_id": "x" * 256}, {"method": ""}):
                with pytest.raises(ArgumentError, match="characters"):
                    self.host.tasks.add(session, [self.record(**values)])

    def test_a_change_meets_its_conditions_or_is_not_made(self):
        task_id = self.added(status="Failed", message_id="the newest")
        values = {"stage": "changed"}
        with frappe.site(self.site) as session:
            for change in (
                TaskChange("no such one", values),
                TaskChange(task_id, values, message_id="another"),
                TaskChange(task_id, values, statuses=("Queued", "Running")),
                TaskChange(task_id, values, unless_ended="the newest"),
            ):
                assert not self.host.tasks.change(session, change)
        assert self.task(task_id)["stage"] is None
        with frappe.site(self.site) as session:
            for change in (
                TaskChange(task_id, values, message_id="the newest", statuses=("Failed",)),
                TaskChange(task_id, values, unless_ended="another"),
            ):
                assert self.host.tasks.change(session, change)
        assert self.task(task_id)["stage"] == "changed"

    def test_a_record_that_is_missing_is_added_where_the_change_says_so(self):
        record = self.record()
        change = TaskChange(record["task_id"], {"stage": "changed"}, otherwise=record)
        for stage in (None, "changed"):
            self.host.tasks.change_beside(self.site, [change], patience=1)
            assert self.task(record["task_id"])["stage"] == stage

    def test_records_are_changed_beside_what_is_open_or_with_it(self, calls):
        task_id = self.added()
        with frappe.site(self.site):
            self.insert("anna")  # on SQLite nobody else can write now
            change = TaskChange(task_id, {"status": "Cancelled"})
            began = time.monotonic()
            self.host.tasks.change_beside(self.site, [change], calls.later("done"), patience=SOON)
            assert time.monotonic() - began < SOON / 2
        assert (self.task(task_id)["status"], calls) == ("Cancelled", ["done"])
        assert self.subject.stored() == ["anna"]

    def test_whoever_is_in_the_way_of_a_change_is_waited_for_as_long_as_it_says(self):
        task_id = self.added()
        change = TaskChange(task_id, {"stage": "changed"})
        with self.locked(task_id), frappe.site(self.site) as session:
            began = time.monotonic()
            with pytest.raises(RecordNotWritten, match="could not be written just now"):
                self.host.tasks.change(session, change, patience=0)
            assert self.subject.ask("SELECT 1") == 1, "the transaction goes on"
            session.rollback()
            with pytest.raises(RecordNotWritten, match="could not be written just now"):
                self.host.tasks.change_beside(self.site, [change], patience=0)
            assert time.monotonic() - began < SOON / 2
        assert self.task(task_id)["stage"] is None

    def test_progress_is_written_beside_the_transaction_and_waits_for_nobody(self):
        task_id = self.added()
        with frappe.site(self.site) as session:
            assert self.host.tasks.note_progress(session, TaskChange(task_id, {"progress": 10.0}))
            assert self.task(task_id)["progress"] == 10
        with self.locked(task_id), frappe.site(self.site) as session:
            began = time.monotonic()
            assert self.host.tasks.note_progress(session, TaskChange(task_id, {"progress": 20.0}))
            assert time.monotonic() - began < SOON / 2
        assert self.task(task_id)["progress"] == 10

    def test_records_are_listed_newest_first(self):
        first, second = self.added(), self.added()
        with frappe.site(self.site):
            mine = self.host.tasks.recent("contract", 5)
            assert [one["task_id"] for one in mine] == [second, first]
            assert "arguments" not in mine[0] and mine[0]["status"] == "Queued"
            (newest,) = self.host.tasks.recent(None, 1)
            assert newest["task_id"] == second
            assert self.host.tasks.recent("nobody", 5) == []

    def test_those_that_have_not_ended_are_found_and_old_ends_cleared(self):
        now = datetime.now(timezone.utc)
        waiting, old = self.added(message_id="its message"), self.added()
        with frappe.site(self.site) as session:
            ended = {"status": "Completed", "ended_at": now - timedelta(days=8)}
            self.host.tasks.change(session, TaskChange(old, ended))
        found = self.host.tasks.open(self.site, now + timedelta(minutes=1))
        assert found[waiting] == "its message" and old not in found
        assert waiting not in self.host.tasks.open(self.site, now - timedelta(hours=1))
        self.host.tasks.clear(self.site, now - timedelta(days=9))
        assert self.task(old)
        assert self.host.tasks.clear(self.site, now - timedelta(days=7)) == 1
        assert self.task(old) is None and self.task(waiting)


class ServerContract(HostContract):
    """What databases with rows to lock and a server to lose have in common."""

    def test_a_deadlock_is_a_conflict_of_one_of_the_two(self):
        self.subject.store("anna")
        self.subject.store("bert")
        both_have_one = threading.Barrier(2)

        def work(first: str, second: str) -> bool | None:
            try:
                with frappe.site(self.site):
                    self.read(first).deposit(1)
                    both_have_one.wait(SOON)
                    self.read(second).deposit(1)
            except self.subject.failed_statement as error:
                return self.host.is_conflict(error)
            return None

        with ThreadPoolExecutor(2) as pool:
            found = [*pool.map(work, ("anna", "bert"), ("bert", "anna"))]
        assert sorted(map(str, found)) == ["None", "True"]
        assert self.subject.stored(field="balance") == [1, 1]

    def test_a_lost_connection_is_told_as_what_it_is(self, calls):
        with pytest.raises(ValueError, match="the job's own error"), frappe.site(self.site) as it:
            it.after_commit(calls.later("dropped"))
            self.subject.kill(self.subject.connection())
            raise ValueError("the job's own error")
        with pytest.raises(self.subject.failed_statement) as caught, frappe.site(self.site) as it:
            it.after_commit(calls.later("dropped"))
            self.subject.kill(self.subject.connection())
            self.subject.ask("SELECT 1")
        assert not self.host.is_conflict(caught.value)
        assert self.host.is_out_of_reach(caught.value)
        assert calls == [] and frappe.local.site is None

    @pytest.mark.parametrize("noticed", [False, True])
    def test_a_rollback_after_a_lost_connection_leads_to_a_new_one(self, calls, noticed):
        with frappe.site(self.site) as session:
            self.insert("anna")
            session.after_commit(calls.later("dropped"))
            number = self.subject.connection()
            self.subject.kill(number)
            if noticed:
                with pytest.raises(self.subject.failed_statement) as caught:
                    self.subject.ask("SELECT 1")
                assert self.host.is_out_of_reach(caught.value)
            session.rollback()
            assert session.was_connected, "it could do something before"
            assert self.subject.connection() != number
            self.insert("bert")
        assert (calls, self.subject.stored()) == ([], ["bert"])

    def test_a_change_that_ends_its_transaction_says_so_and_keeps_it_from_a_commit(self):
        """MariaDB ends one that would change what has changed since it began."""
        self.need_snapshots()
        task_id, first = self.added(), TaskChange(self.added(), {"stage": "changed before"})
        with frappe.site(self.site) as session:
            self.subject.see_snapshots()
            self.insert("mine")
            assert self.host.tasks.change(session, first)
            frappe.get_all(self.subject.account)
            in_thread(lambda: self.change_beside(task_id))
            with pytest.raises(self.subject.failed_statement) as caught:
                self.host.tasks.change(session, TaskChange(task_id, {"stage": "mine"}))
            assert self.host.is_conflict(caught.value)
            with pytest.raises(TransactionEnded) as refused:
                session.commit()
            assert self.host.is_conflict(refused.value)
            with pytest.raises((TransactionEnded, self.subject.closed)):
                session.commit()
            session.rollback()
            self.insert("anew")
        assert self.subject.stored() == ["anew"]

    def change_beside(self, task_id: str) -> None:
        change = TaskChange(task_id, {"stage": "another's"})
        self.host.tasks.change_beside(self.site, [change], patience=SOON)

    def need_snapshots(self) -> None:
        with frappe.site(self.site):
            if "mariadb" not in str(self.subject.ask("SELECT version()")).lower():
                pytest.skip("PostgreSQL has no innodb_snapshot_isolation")


class TestSqlite(HostContract):
    @pytest.fixture
    def server(self, sqlite):
        return sqlite

    @pytest.fixture
    def subject(self, standalone):
        return standalone


class TestPostgres(ServerContract):
    @pytest.fixture
    def server(self, postgres):
        return postgres

    @pytest.fixture
    def subject(self, standalone):
        return standalone


class TestMariadb(ServerContract):
    @pytest.fixture
    def server(self, mariadb):
        return mariadb

    @pytest.fixture
    def subject(self, standalone):
        return standalone


class TestBench(ServerContract):
    @pytest.fixture
    def subject(self, frappe_bench):
        return frappe_bench

    def test_a_server_that_never_answers_is_out_of_reach_within_seconds(self):
        """Elsewhere tests/integration/test_sick_site.py sees to that."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            nowhere = {"db_host": "127.0.0.1", "db_port": silent.getsockname()[1]}
            began = time.monotonic()
            with pytest.raises(Exception) as caught, self.subject.configured(nowhere):
                with frappe.site(self.site):
                    self.subject.ask("SELECT 1")
        assert self.host.is_out_of_reach(caught.value)
        assert time.monotonic() - began < SOON
