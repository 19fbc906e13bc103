"""A host as the contract meets it: two sites with documents, and what differs between hosts."""

from __future__ import annotations

import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import pytest

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.host.port import Host
from frappe_jobs.host.session import Session

Value = TypeVar("Value")
Errors = type[BaseException] | tuple[type[BaseException], ...]

SECRET = "geheim-123"


class Subject(ABC):
    """A host with two sites; none of the documents below are there when a test begins."""

    #: As the reasons name it.
    name: str
    sites: tuple[str, str]
    #: Tests of the contract that mean nothing on this host, and why.
    meaningless: Mapping[str, str] = {}

    #: A doctype with a ``balance``, and the methods ``deposit(amount=1)`` and ``_secret()``.
    account: str
    #: One with a space in its name, a ``customer``, and ``items`` that have ``pieces``.
    order: str

    #: Functions of an app of the sites', with any keywords and with none; and another's in the app.
    method: str
    bare: str
    borrowed: str
    #: A hook that the sites' apps name, and what they name in their order.
    hook: tuple[str, Sequence[str]]

    #: What a document that is not there raises; one whose name is taken; a statement that fails.
    not_found: Errors
    duplicate: Errors
    failed_statement: Errors
    #: What whoever asks something of a closed session's database gets.
    closed: Errors
    #: What get_all raises for a field or an order that it does not know.
    bad_query: Errors

    #: What makes a site's configuration lead nowhere, and where nobody is let in.
    nowhere: Mapping[str, Any]
    refused: Mapping[str, Any]

    @property
    def host(self) -> Host:
        return runtime.current().host

    @contextmanager
    def configured(self, changes: Mapping[str, Any]) -> Iterator[None]:
        """The first site's configuration says so meanwhile."""
        file = runtime.current().settings.sites_path / self.sites[0] / "site_config.json"
        before = file.read_text()
        file.write_text(json.dumps(json.loads(before) | changes))
        try:
            yield
        finally:
            file.write_text(before)

    # --- documents

    @abstractmethod
    def new_order(self, name: str, customer: str, pieces: Sequence[int]) -> Any:
        """An order with an item for each of these, not stored yet; a site is open."""

    @abstractmethod
    def add_item(self, order: Any, pieces: int) -> None:
        """Put one more item behind those that it has."""

    def store(self, name: str, balance: int = 0) -> None:
        """An account of the first site's."""
        with frappe.site(self.sites[0]):
            frappe.new_doc(self.account, name=name, balance=balance).insert()

    def stored(self, field: str = "name", site: str | None = None) -> list[Any]:
        """What another session finds of the accounts, whatever is open here."""

        def look() -> list[Any]:
            with frappe.site(site or self.sites[0]):
                rows = frappe.get_all(self.account, fields=[field], order_by=field)
                return [row[field] for row in rows]

        return in_thread(look)

    # --- the open site's database

    def ask(self, statement: str) -> Any:
        """The one value that it answers."""
        return self.ask_of(self.host.require_current(), statement)

    @abstractmethod
    def ask_of(self, session: Session, statement: str) -> Any:
        """The same of that session's."""

    @abstractmethod
    def statements(self) -> AbstractContextManager[list[str]]:
        """The SQL about documents that is sent meanwhile."""

    @abstractmethod
    def savepoint(self) -> None:
        """Begin one that is still open at the end."""

    @abstractmethod
    def spoil_the_commit(self) -> None:
        """Do what makes the commit fail, with the error ``duplicate``."""

    @abstractmethod
    def be_impatient(self) -> None:
        """Wait but a moment for a lock."""

    def see_snapshots(self) -> None:
        """Refuse to change what has changed since the transaction began, as MariaDB 11.6 does."""
        raise NotImplementedError

    # --- from outside

    @abstractmethod
    def connections(self) -> int:
        """How many are open to the first site's database."""

    def connection(self) -> Any:
        """The open session's, by the number that the server knows it by."""
        raise NotImplementedError

    def kill(self, connection: Any) -> None:
        """End it, as the server's people do."""
        raise NotImplementedError

    @abstractmethod
    def logged(self, caplog: pytest.LogCaptureFixture) -> str:
        """What is read where this host's people look for errors of the first site's."""


def in_thread(call: Callable[[], Value]) -> Value:
    """What it gives in a thread where no site is open."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


class Calls(list):
    """What waited for a commit writes down here that it was called."""

    def later(self, name: str) -> Callable[[], None]:
        return lambda: self.append(name)


def in_fork(act: Callable[[], object]) -> str:
    """What the act returns or raises in a child process, as text."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 dislikes a fork among threads
        child = os.fork()
    if child == 0:
        try:
            answer = repr(act())
        except (Exception, SystemExit) as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()
