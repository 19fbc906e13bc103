"""What the standalone host promises beside every host's contract, on each kind of database.

SQLAlchemy's sessions, its documents, its databases' configuration, its apps.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from acme.models import Account
from contract.standalone import statements
from contract.subject import SECRET, Calls, in_fork
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

import frappe_jobs as frappe
from frappe_jobs.context import require_session
from frappe_jobs.errors import (
    ArgumentError,
    BadMessage,
    ConfigError,
    DatabaseUnavailable,
    DoesNotExistError,
    HostNotReady,
    JobNotSerializable,
    MethodNotAllowed,
    MethodNotFound,
    TransactionConflict,
)
from frappe_jobs.standalone import database
from frappe_jobs.standalone.host import RUN_DOC_METHOD

#: How long a test waits for a thread or process before it says so.
SOON = 20


def store(name: str, balance: int = 0, site: str = "site1") -> None:
    with frappe.site(site):
        frappe.new_doc("Account", name=name, balance=balance).insert()


def stored(site: str = "site1", doctype: str = "Account", field: str = "name") -> list[Any]:
    """What another session finds."""
    with frappe.site(site):
        return [row[field] for row in frappe.get_all(doctype, fields=[field], order_by=field)]


def travel(host: Any, value: Any) -> Any:
    """The value as it arrives with a job."""
    return host.arguments.decode(host.arguments.encode({"value": value}))["value"]


class StandaloneContract:
    """For any kind of database; a subclass says which."""

    @pytest.fixture
    def calls(self) -> Calls:
        return Calls()

    @pytest.fixture(autouse=True)
    def _host(self, host) -> None:
        self.host = host

    # --- sessions

    def test_the_configuration_is_read_only(self):
        with frappe.site("site1") as session:
            assert frappe.db.get_bind() is session.db.get_bind()
            with pytest.raises(TypeError):
                session.conf["shared_key"] = "changed"

    def test_an_error_of_the_database_says_nothing_of_the_values(self):
        with frappe.site("site1"):
            with pytest.raises(DBAPIError) as raised:
                frappe.db.execute(text("SELECT nope FROM nowhere WHERE x = :x"), {"x": SECRET})
            assert "nowhere" in str(raised.value) and SECRET not in str(raised.value)
            frappe.db.rollback()

    def test_outside_of_any_site_no_document_is_stored(self):
        for use in (lambda: frappe.db.execute(text("SELECT 1")), Account(name="anna").insert):
            with pytest.raises(HostNotReady, match="No site is open"):
                use()

    # --- connections

    def test_a_child_process_does_not_speak_on_its_parents_connection(self):
        store("anna", balance=1)
        with frappe.site("site1") as session:
            account = frappe.get_doc("Account", "anna")
            account.balance = 2
            assert "opened before this process was forked" in in_fork(
                lambda: frappe.get_doc("Account", "anna")
            )
            assert in_fork(lambda: (frappe.local.site, self.host.current())) == "(None, None)"
            for use in (
                account.save, session.commit, lambda: session.db.execute(text("SELECT 1"))
            ):  # fmt: skip
                assert "HostNotReady" in in_fork(use)
            assert in_fork(session.rollback) == in_fork(session.db.close) == "None"
        assert stored(field="balance") == [2]

    def test_a_child_process_opens_its_own_session_beside_its_parents(self):
        store("anna")
        with frappe.site("site1"):
            assert frappe.get_doc("Account", "anna").balance == 0
            assert in_fork(stored) == "['anna']"
            frappe.new_doc("Account", name="bert").insert()
        assert stored() == ["anna", "bert"]

    @pytest.mark.parametrize("error", [None, ValueError])
    def test_a_child_process_that_leaves_its_parents_session_does_no_harm(self, error):
        def leave() -> str:
            opened.__exit__(error, error and error(), None)
            gc.collect()
            return "left"

        opened = frappe.site("site1")
        with opened as session:
            frappe.new_doc("Account", name="anna").insert()
            expected = "'left'" if error else "HostNotReady: The site was opened before"
            assert in_fork(leave).startswith(expected)
            assert session.db.execute(text("SELECT count(*) FROM account")).scalar() == 1
        assert stored() == ["anna"]

    def test_an_engine_that_is_gone_leaves_nothing_behind(self, server, tmp_path, monkeypatch):
        """os.register_at_fork, for one, can never be undone."""
        registered: list[object] = []
        monkeypatch.setattr(os, "register_at_fork", lambda **_: registered.append(_))
        url = database.database_url(server.config("site1"), tmp_path)
        engine = database.make_engine(url)
        with engine.connect():
            pass
        seen = weakref.ref(engine)
        del engine
        gc.collect()
        assert (seen(), registered) == (None, [])

    # --- after commit

    @pytest.mark.parametrize("written", [True, False])
    @pytest.mark.parametrize("how", ["rollback", "close", "invalidate", "reset"])
    def test_a_rollback_drops_it_whatever_sqlalchemy_calls_it(self, calls, how, written):
        with frappe.site("site1") as session, statements(session) as sent:
            if written:
                frappe.new_doc("Account", name="anna").insert()
            session.after_commit(calls.later("dropped"))
            getattr(session.db, how)()
            session.commit()
            assert calls == [] and bool(sent) == written
            session.after_commit(calls.later("made"))
        assert calls == ["made"]
        assert stored() == []

    def test_a_savepoint_that_rolls_back_drops_its_own_calls_alone(self, calls):
        with frappe.site("site1") as session:
            session.after_commit(calls.later("before"))
            with pytest.raises(ValueError), frappe.db.begin_nested():
                session.after_commit(calls.later("dropped"))
                with frappe.db.begin_nested():
                    session.after_commit(calls.later("released, then dropped"))
                raise ValueError
            with frappe.db.begin_nested() as outer:
                session.after_commit(calls.later("released"))
                frappe.db.begin_nested()
                session.after_commit(calls.later("released with the outer one"))
                outer.commit()
            with frappe.db.begin_nested() as outer:
                frappe.db.begin_nested()
                session.after_commit(calls.later("dropped with the outer one"))
                outer.rollback()
            session.after_commit(calls.later("after"))
            assert calls == []
        assert calls == ["before", "released", "released with the outer one", "after"]

    def test_a_rollback_drops_what_a_released_savepoint_had(self, calls):
        with frappe.site("site1") as session:
            with frappe.db.begin_nested():
                session.after_commit(calls.later("dropped"))
            session.rollback()
        assert calls == []

    def test_calls_handed_in_while_sqlalchemy_flushes_are_kept(self, calls):
        def on_flush(db: Session, *_: object) -> None:
            with db.begin_nested():
                require_session().after_commit(calls.later("made"))

        with frappe.site("site1") as session:
            event.listen(session.db, "after_flush", on_flush)
            frappe.new_doc("Account", name="anna").insert()
        assert calls == ["made"]

    # --- a session of the caller's

    @pytest.fixture
    def engine(self, server, tmp_path) -> Iterator[Any]:
        """The caller's own engine for site1."""
        with frappe.site("site1"):
            url = frappe.db.get_bind().url
        engine = create_engine(url, poolclass=NullPool)
        yield engine
        engine.dispose()

    def test_a_session_of_the_callers_is_used_and_committed_by_its_owner(self, engine, calls):
        with Session(engine) as mine:
            with frappe.site("site1", session=mine) as session:
                assert require_session().db is mine
                frappe.new_doc("Account", name="anna").insert()
                session.after_commit(calls.later("made"))
            assert (calls, stored()) == ([], [])
            mine.commit()
            assert (calls, stored()) == (["made"], ["anna"])

    @pytest.mark.parametrize("how", ["rollback", "close"])
    def test_its_owner_rolls_it_back_also_after_the_site_is_left(self, engine, calls, how):
        with Session(engine) as mine:
            with pytest.raises(ValueError), frappe.site("site1", session=mine) as session:
                frappe.new_doc("Account", name="anna").insert()
                session.after_commit(calls.later("dropped"))
                raise ValueError
            assert mine.in_transaction()
            getattr(mine, how)()
            mine.commit()
        assert (calls, stored()) == ([], [])

    def test_a_session_that_is_handed_in_often_is_followed_once(self, engine, calls):
        def listeners() -> int:
            told = mine.dispatch
            return sum(map(len, (told.after_commit, told.after_transaction_end, told.after_begin)))

        with Session(engine) as mine:
            for name in ("one", "two", "three"):
                with frappe.site("site1", session=mine) as session:
                    session.after_commit(calls.later(name))
                if name == "one":
                    before = listeners()
            assert listeners() == before
            mine.commit()
        assert calls == ["one", "two", "three"]

    def test_a_session_made_with_anothers_info_is_followed_for_itself(self, engine, calls):
        with Session(engine) as first, frappe.site("site1", session=first) as session:
            session.after_commit(calls.later("dropped"))
            with Session(engine, info=first.info) as second:
                with frappe.site("site1", session=second) as session:
                    session.after_commit(calls.later("made"))
                second.commit()
        assert calls == ["made"]

    def test_a_session_in_a_begin_block_is_followed(self, engine, calls):
        with sessionmaker(engine).begin() as mine, frappe.site("site1", session=mine) as session:
            session.after_commit(calls.later("made"))
        assert calls == ["made"]

    def test_a_scoped_session_means_the_session_in_it(self, engine, calls):
        registry = scoped_session(sessionmaker(engine))
        with frappe.site("site1", session=registry) as session:
            session.after_commit(calls.later("made"))
        with sessionmaker(engine).begin():
            assert calls == []
        registry.commit()
        assert calls == ["made"]
        registry.remove()

    def test_what_is_no_session_of_sqlalchemys_is_refused(self, engine):
        for wrong in (engine, "site1", object()):
            with pytest.raises(ArgumentError, match="SQLAlchemy Session or AsyncSession"):
                frappe.site("site1", session=wrong).__enter__()

    def test_an_async_session_is_followed(self, server, calls):
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        with frappe.site("site1"):
            url = frappe.db.get_bind().url
        drivers = {"mariadb": "mysql+aiomysql", "sqlite": "sqlite+aiosqlite"}
        if server.kind in drivers:
            url = url.set(drivername=drivers[server.kind])

        async def main() -> None:
            engine = create_async_engine(url, poolclass=NullPool)
            async with AsyncSession(engine) as mine:
                with frappe.site("site1", session=mine) as session:
                    mine.add(Account(name="anna", balance=0))
                    session.after_commit(calls.later("made"))
                assert calls == []
                await mine.commit()
                assert calls == ["made"]
                with frappe.site("site1", session=mine) as session:
                    session.after_commit(calls.later("dropped"))
                await mine.rollback()
                await mine.commit()
            await engine.dispose()

        asyncio.run(main())
        assert calls == ["made"]
        assert stored() == ["anna"]

    # --- documents

    def test_a_new_document_can_be_saved_and_an_inserted_one_inserted_again(self):
        with frappe.site("site1"):
            account = frappe.new_doc("Account", name="anna").save()
            account.balance = 7
            account.insert()
        assert stored(field="balance") == [7]

    def test_a_document_of_a_closed_session_leaves_that_one_alone(self):
        with frappe.site("site1") as first:
            account = frappe.new_doc("Account", name="anna").insert()
        with frappe.site("site1"):
            account.balance = 5
            account.save()
        assert not first.db.in_transaction()

    def test_a_document_is_written_where_it_was_read_also_inside_another_site(self):
        store("anna")
        with frappe.site("site1") as outer:
            account = frappe.get_doc("Account", "anna")
            with frappe.site("site2"):
                account.deposit(4)
                assert not outer.db.dirty
                frappe.new_doc("Account", name="bert").insert()
        assert (stored(field="balance"), stored("site2")) == ([4], ["bert"])

    def test_a_document_needs_no_new_doc_to_be_inserted(self):
        with frappe.site("site1"):
            Account(name="anna").insert()
        assert stored() == ["anna"]

    def test_deleting_what_is_not_stored_says_so_and_stores_nothing(self):
        with frappe.site("site1"):
            for account in (Account(name="anna"), Account()):
                with pytest.raises(DoesNotExistError, match="is not stored"):
                    account.delete()
        assert stored() == []

    @pytest.mark.parametrize("doctype", ["Invoice", "", "acme.models.Account"])
    def test_an_unknown_doctype_is_refused_with_those_that_are_known(self, doctype):
        known = "known: Account, Background Task, Book, Book Shelf, .*Sales Order, Sales Order Item"
        with frappe.site("site1"):
            for use in (frappe.get_all, frappe.new_doc, lambda it: frappe.get_doc(it, "x")):
                with pytest.raises(DoesNotExistError, match=known):
                    use(doctype)

    def test_a_doctype_that_names_no_mapped_class_is_an_error_of_the_app(self):
        with frappe.site("site1"), pytest.raises(ConfigError, match="no class that SQLAlchemy"):
            frappe.new_doc("No Class")

    def test_all_fields_are_those_of_the_class(self):
        store("anna", 3)
        with frappe.site("site1"):
            assert frappe.get_all("Account", fields=["*"]) == [{"name": "anna", "balance": 3}]
            assert frappe.get_all("Account", fields="*") == [{"name": "anna", "balance": 3}]
            assert frappe.get_all("Account", {"balance": None}) == []

    @pytest.mark.parametrize(
        "query",
        [
            {"fields": ["name", "colour"]},
            {"fields": "colour"},
            {"filters": {"colour": "red"}},
            {"order_by": "colour desc"},
            {"fields": ["metadata"]},
        ],
    )
    def test_get_all_refuses_an_unknown_field_and_lists_the_known_ones(self, query):
        with frappe.site("site1"):
            with pytest.raises(ArgumentError, match="no field .*; it has: name, balance"):
                frappe.get_all("Account", **query)

    @pytest.mark.parametrize("order", ["name; drop table account", "name, balance"])
    def test_get_all_refuses_an_order_that_it_does_not_know(self, order):
        with frappe.site("site1"), pytest.raises(ArgumentError):
            frappe.get_all("Account", order_by=order)

    def test_a_field_is_known_by_the_name_of_its_attribute(self, library):
        with frappe.site("site1"):
            frappe.new_doc("Book Shelf", code="A").insert()
            assert frappe.get_all("Book Shelf", {"code": "A"}, fields=["code"]) == [{"code": "A"}]
            assert frappe.get_doc("Book Shelf", "A").room == "cellar"

    # --- documents with jobs

    def test_one_that_was_deleted_meanwhile_is_not_brought_back(self):
        store("anna")
        with frappe.site("site1"):
            account = frappe.get_doc("Account", "anna")
            got = travel(self.host, account)
            account.delete()
        with frappe.site("site1"):
            for use in (got.save, got.insert, got.delete):
                with pytest.raises(DoesNotExistError, match="Account 'anna' is not stored"):
                    use()
        assert stored() == []

    def test_one_that_is_only_added_to_the_session_arrives_with_what_the_database_gives(
        self, library
    ):
        with frappe.site("site1"):
            library.Shelf("A").insert()
            book = library.Book(title="Emma", shelf_code="A")
            frappe.db.add(book)
            got = travel(self.host, book)
            assert got.number == book.number is not None
            got.title = "Persuasion"
            got.save()
        assert stored(doctype="Book", field="title") == ["Persuasion"]

    def test_children_are_added_changed_and_removed_by_saving_one_that_came(self, library):
        with frappe.site("site1"):
            books = [library.Book(title=title) for title in ("Emma", "Ulysses")]
            library.Shelf("A", books=books).insert()
        with frappe.site("site1"):
            got = travel(self.host, frappe.get_doc("Book Shelf", "A"))
            assert got.books[0].shelf is got
            del got.books[1]
            got.books[0].title = "Persuasion"
            got.books.append(library.Book(title="Walden"))
            got.save()
        assert stored(doctype="Book", field="title") == ["Persuasion", "Walden"]

    def test_children_arrive_in_the_kind_of_collection_that_the_class_has(self, library):
        with frappe.site("site1"):
            labels = {"red": library.Label(colour="red")}
            got = travel(self.host, library.Shelf("A", labels=labels).insert())
            assert {key: type(label) for key, label in got.labels.items()} == {"red": library.Label}

    @pytest.mark.parametrize("is_stored", [True, False])
    def test_what_its_class_validates_was_validated_by_the_sender(self, library, is_stored):
        with frappe.site("site1"):
            shelf = library.Shelf("A", room="attic")
            if is_stored:
                shelf.insert()
            got = travel(self.host, shelf)
            assert got.room == shelf.room == "attic (checked)"
            got.save()
            if is_stored:
                assert frappe.get_all("Book Shelf", fields="room") == [{"room": shelf.room}]

    def test_what_belongs_to_others_as_well_stays_behind(self, library):
        with frappe.site("site1"):
            shelf = library.Shelf("A", readers=[library.Reader(name="grete")]).insert()
            got = travel(self.host, shelf)
            got.room = "attic"
            got.save()
        with frappe.site("site1"):
            (reader,) = frappe.get_doc("Book Shelf", "A").readers
            assert reader.name == "grete"

    def test_the_open_site_says_which_classes_there_are_not_the_message(self):
        with frappe.site("site1"):
            sent = self.host.arguments.encode({"account": Account(name="anna", balance=3)})
        sent["account"]["value"]["site"] = "nowhere"
        with frappe.site("site1"):
            assert self.host.arguments.decode(sent)["account"].balance == 3
        with pytest.raises(BadMessage, match="nowhere"):
            self.host.arguments.decode(sent)

    def test_fields_that_begin_with_an_underscore_stay_behind_and_stay_stored(self, library):
        with frappe.site("site1"):
            shelf = library.Shelf("A")
            shelf._secret = SECRET
            shelf.insert()
            packed = self.host.arguments.encode({"shelf": shelf})
            assert SECRET not in repr(packed)
            got = self.host.arguments.decode(packed)["shelf"]
            got.room = "attic"
            got.save()
        with frappe.site("site1"):
            shelf = frappe.get_doc("Book Shelf", "A")
            assert shelf.room.startswith("attic") and shelf._secret == SECRET

    def test_one_that_was_not_wholly_read_is_refused_at_the_call(self, library):
        with frappe.site("site1"):
            library.Shelf("A").insert()
        with frappe.site("site1"):
            shelf = frappe.get_doc("Book Shelf", "A")
        with frappe.site("site1"), pytest.raises(JobNotSerializable, match="read it again"):
            self.host.arguments.encode({"shelf": shelf})

    def test_one_whose_class_no_app_names_is_refused_at_the_call(self, library):
        with frappe.site("site1"), pytest.raises(DoesNotExistError, match="'Unnamed'"):
            self.host.arguments.encode({"it": library.Unnamed(name="x")})

    @pytest.mark.parametrize(
        "change",
        [
            {"values": {"name": "anna", "colour": "red"}},
            {"values": {"registry": 1}},
            {"stored": True, "values": {}},
            {"flags": 7},
        ],
    )
    def test_a_hostile_documents_values_are_a_bad_message(self, change):
        with frappe.site("site1"):
            (tag, kind), (_, parts) = self.host.arguments.encode({"it": Account(name="anna")})[
                "it"
            ].items()
            with pytest.raises(BadMessage):
                self.host.arguments.decode({"it": {tag: kind, "value": parts | change}})

    # --- documents' methods

    def test_a_bound_method_is_known_by_its_documents_key(self, library):
        with frappe.site("site1"):
            shelf = frappe.new_doc("Book Shelf", code="A").insert()
            assert self.host.methods.document_method(shelf.count) == ("Book Shelf", "A", "count")
            label = library.Label(shelf_code="A", colour="red").insert()
            assert self.host.methods.document_method(label.save) == ("Label", ("A", "red"), "save")
            assert frappe.get_doc("Label", ("A", "red")) is label
        with pytest.raises(ArgumentError, match="Account has no name yet"):
            self.host.methods.document_method(Account().deposit)

    @pytest.mark.parametrize(
        ("doctype", "method", "error"),
        [
            ("Book Shelf", "static", MethodNotFound),
            ("Book Shelf", "borrowed", MethodNotAllowed),
            ("Account", "_secret", MethodNotFound),
            ("Account", "metadata", MethodNotFound),
        ],
    )
    def test_what_is_no_public_method_of_the_apps_own_is_refused(self, doctype, method, error):
        arguments = {"doctype": doctype, "name": "A", "doc_method": method}
        with frappe.site("site1"), pytest.raises(error):
            self.host.methods.checked(RUN_DOC_METHOD, arguments, "site1")

    # --- a database out of reach

    @pytest.mark.parametrize("wrong", ["nowhere", "refused"])
    def test_a_database_out_of_reach_is_told_as_unavailable(self, standalone, wrong):
        with standalone.configured(getattr(standalone, wrong)):
            with pytest.raises(DatabaseUnavailable, match="is out of reach: "):
                with frappe.site("site1"):
                    frappe.db.execute(text("SELECT 1"))


class TestSqlite(StandaloneContract):
    @pytest.fixture
    def server(self, sqlite):
        return sqlite

    def test_a_write_to_what_was_changed_since_it_was_read_is_a_conflict(self):
        store("anna")
        with pytest.raises(TransactionConflict) as caught, frappe.site("site1"):
            account = frappe.get_doc("Account", "anna")
            with frappe.site("site1"):
                frappe.get_doc("Account", "anna").deposit(1)
            account.deposit(10)
        assert self.host.is_conflict(caught.value)
        assert stored(field="balance") == [1]

    def test_many_sessions_at_once_may_be_the_first(self, make_sites):
        make_sites({"site1": {}})
        together = threading.Barrier(8)

        def work(_: int) -> Any:
            together.wait(SOON)
            with frappe.site("site1"):
                return frappe.db.execute(text("PRAGMA journal_mode")).scalar()

        with ThreadPoolExecutor(8) as pool:
            assert {*pool.map(work, range(8))} == {"wal"}


class ServerContract(StandaloneContract):
    """What databases on a server have in common."""

    def test_its_name_is_needed(self, server, make_sites):
        config = {key: value for key, value in server.config("site1").items() if key != "db_name"}
        make_sites({"site1": config})
        with pytest.raises(ConfigError, match="'db_name' is needed"):
            frappe.site("site1").__enter__()


class TestPostgres(ServerContract):
    @pytest.fixture
    def server(self, postgres):
        return postgres

    def test_a_serialization_failure_is_a_conflict(self):
        store("anna")
        with pytest.raises(OperationalError) as caught, frappe.site("site1"):
            frappe.db.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            account = frappe.get_doc("Account", "anna")
            with frappe.site("site1"):
                frappe.get_doc("Account", "anna").deposit(1)
            account.deposit(10)
        assert self.host.is_conflict(caught.value)


class TestMariadb(ServerContract):
    @pytest.fixture
    def server(self, mariadb):
        return mariadb

    def test_a_row_that_changed_since_it_was_read_is_a_conflict(self, server):
        if not server.run("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
            pytest.skip("this MariaDB has no innodb_snapshot_isolation")
        store("anna")
        with pytest.raises(DBAPIError) as caught, frappe.site("site1"):
            frappe.db.execute(text("SET SESSION innodb_snapshot_isolation = ON"))
            account = frappe.get_doc("Account", "anna")
            with frappe.site("site1"):
                frappe.get_doc("Account", "anna").deposit(1)
            account.deposit(10)
        assert self.host.is_conflict(caught.value)

    def test_no_certificates_are_read_for_a_connection_within_the_machine(self):
        made = database.make_engine
        for url, arguments in [
            ("mysql+pymysql://root@127.0.0.1/x", {"ssl_disabled": True}),
            ("mysql+pymysql://root@db.acme.test/x", {}),
            ("mysql+pymysql://root@127.0.0.1/x?ssl_ca=/ca.pem", {}),
        ]:
            engine = made(make_url(url))
            assert database._connect_args(engine.url) == arguments


class TestConfiguration:
    """What a site's configuration may say of its database."""

    @pytest.mark.parametrize(
        ("config", "complaint"),
        [
            ({"db_type": "oracle"}, "'db_type' is 'oracle'; legal: sqlite, postgres, mariadb"),
            ({"db_type": "postgres"}, "'db_type' is 'postgres', so 'db_name' is needed"),
            ({"db_type": "mariadb", "db_name": "x", "db_port": "many"}, "keys are wrong"),
            ({"db_type": "mariadb", "db_name": ["x"]}, "keys are wrong"),
            ({"db_type": ["sqlite"]}, "'db_type' is"),
            ({"frappe_jobs_database_url": "garbage"}, "no URL that SQLAlchemy knows"),
            ({"frappe_jobs_database_url": 7}, "no URL that SQLAlchemy knows"),
            ({"frappe_jobs_database_url": f"postgresql://u:p@{SECRET}@h/x"}, "written %40"),
            ({"frappe_jobs_database_url": f"postgresql://u:p@x:{SECRET}@h/x"}, "written %40"),
            ({"frappe_jobs_database_url": f"nosuch://u:{SECRET}@h/x"}, r"nosuch://u:\*\*\*@h/x"),
            ({"frappe_jobs_database_url": f"mssql+pymssql://u:{SECRET}@h/x"}, "needs a driver"),
            ({"frappe_jobs_database_url": "sqlite+aiosqlite:///x.db"}, "async driver"),
        ],
    )
    def test_what_cannot_be_a_database_is_refused_by_what_is_wrong(
        self, make_sites, config, complaint
    ):
        if "aiosqlite" in str(config):
            pytest.importorskip("aiosqlite")
        make_sites({"site1": config})
        with pytest.raises(ConfigError, match=complaint) as caught:
            frappe.site("site1").__enter__()
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert frappe.local.site is None

    def test_a_password_in_the_query_is_not_shown_either(self, make_sites):
        url = f"postgresql+psycopg://root@127.0.0.1:1/x?password={SECRET}&sslpassword={SECRET}"
        make_sites({"site1": {"frappe_jobs_database_url": url}})
        with pytest.raises(DatabaseUnavailable) as caught, frappe.site("site1"):
            frappe.db.execute(text("SELECT 1"))
        assert SECRET not in "".join(traceback.format_exception(caught.value))

    def test_frappes_keys_name_the_database(self, tmp_path):
        config = {"db_name": "_1bd3", "db_password": SECRET, "db_host": "db", "db_port": 3307}
        for kind, driver in [("mariadb", "mysql+pymysql"), ("postgres", "postgresql+psycopg")]:
            url = database.database_url(config | {"db_type": kind}, tmp_path)
            assert url.render_as_string(False) == f"{driver}://_1bd3:{SECRET}@db:3307/_1bd3"
            url = database.database_url(
                {"db_type": kind, "db_name": "x", "db_user": "u", "db_socket": "/run/s"}, tmp_path
            )
            assert (url.username, url.host, [*url.query.values()]) == ("u", None, ["/run/s"])

    def test_sqlite_lies_in_the_sites_folder_unless_its_path_is_absolute(self, tmp_path):
        for config, file in [
            ({}, "site.db"),
            ({"db_name": "mine"}, "mine.db"),
            ({"frappe_jobs_database_url": "sqlite:///mine.db"}, "mine.db"),
            ({"frappe_jobs_database_url": "sqlite+pysqlite:///mine.db"}, "mine.db"),
        ]:
            assert database.database_url(config, tmp_path).database == str(tmp_path / file)
        for other in ("/other/x.db", ":memory:", "file:x.db"):
            url = f"sqlite:///{other}"
            assert database.database_url({"frappe_jobs_database_url": url}, tmp_path).database == (
                other
            )


class TestApps:
    """What the host reads in the apps' hooks.py."""

    @pytest.fixture
    def install(self, make_sites) -> Callable[..., Any]:
        """Makes apps of these hooks.py, in this order, and a site that has them."""

        def make(**hooks: str) -> Any:
            number = len(sys.modules)  # an app of that name may have been imported by another test
            names = {name: f"{name}_{number}" for name in hooks}
            here = make_sites({"site1": {"installed_apps": [*names.values()]}})
            for name, content in hooks.items():
                folder = here.settings.sites_path.parent / names[name]
                folder.mkdir()
                (folder / "__init__.py").touch()
                (folder / "hooks.py").write_text(content)
            return here.host

        return make

    def test_a_hooks_paths_come_in_the_apps_order(self, install):
        host = install(
            second="before_job = ['second.one', 'second.two']",
            none="",
            first="before_job = 'first.one'",
        )
        assert host.methods.hooks("before_job", "site1") == [
            "second.one",
            "second.two",
            "first.one",
        ]
        assert host.methods.hooks("after_job", "site1") == []

    @pytest.mark.parametrize("value", ["7", "{'a': 'b'}", "['a.b', 7]", "None", "('a.b',)"])
    def test_a_wrong_hook_is_refused_by_app_and_name(self, install, value):
        host = install(shop=f"before_job = {value}")
        with pytest.raises(ConfigError, match=r"shop_\d+.hooks: 'before_job' must be"):
            host.methods.hooks("before_job", "site1")

    @pytest.mark.parametrize("value", ["7", "['a.b']", "{'Order': 7}", "{'Order': ['a.b']}"])
    def test_a_wrong_table_of_classes_is_refused_by_app_and_name(self, install, value):
        install(shop=f"override_doctype_class = {value}")
        with frappe.site("site1"):
            with pytest.raises(ConfigError, match=r"shop_\d+.hooks: 'override_doctype_class' must"):
                frappe.new_doc("Order")

    def test_a_later_app_replaces_an_earlier_ones_class(self, install):
        install(
            one="override_doctype_class = {'Order': 'os.nothing', 'Item': 'os.nothing'}",
            two="override_doctype_class = {'Order': 'sys.nothing'}",
        )
        with frappe.site("site1"), pytest.raises(MethodNotAllowed, match="sys.nothing"):
            frappe.new_doc("Order")

    @pytest.mark.parametrize("hooks", ["import nothing_of_that_name", "1 / 0", "this is no Python"])
    def test_an_app_that_cannot_be_imported_is_named(self, install, hooks):
        host = install(shop=hooks)
        for use in (
            lambda: host.methods.hooks("before_job", "site1"),
            lambda: frappe.new_doc("Order"),
        ):
            with pytest.raises(ConfigError, match=r"App 'shop_\d+' of site1 cannot be used"):
                with frappe.site("site1"):
                    use()

    @pytest.mark.parametrize("name", ["no_such_app", "..", "a-b", "x y"])
    def test_an_app_that_is_not_there_is_named(self, make_sites, name):
        host = make_sites({"site1": {"installed_apps": [name]}}).host
        with pytest.raises(ConfigError, match=f"App '{name}' of site1 cannot be used"):
            host.methods.hooks("before_job", "site1")

    def test_preloading_imports_what_it_can_and_logs_the_rest(self, install, caplog):
        host = install(broken="1 / 0", empty="", good="loaded = True")
        folder = host._settings.sites_path
        for site, config in [("site2", '{"installed_apps": 7}'), ("site3", "no JSON")]:
            (folder / site).mkdir()
            (folder / site / "site_config.json").write_text(config)
        host.preload()
        assert "ZeroDivisionError" in caplog.text
        assert "the apps of site2 cannot be imported" in caplog.text
        assert "the apps of site3 cannot be imported" in caplog.text
        assert [name for name in sys.modules if name.startswith("good_") and "hooks" in name]
        assert "tasks" not in caplog.text  # an app need not have any
