"""The databases that a host's sites may lie in, each made for this run and dropped after it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from acme.models import Base as AcmeBase
from contract.standalone import Standalone
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from frappe_jobs import runtime
from frappe_jobs.standalone.models import Base as Records

SITES = ("site1", "site2")
#: The name of the connections that stay open between tests.
STAYS = "empties the tables"

#: A second app, with what acme's plain documents do not have.
LIBRARY = {
    "__init__.py": '"""An app of the contract tests."""\n',
    "hooks.py": """
override_doctype_class = {
    "Book Shelf": "library.models.Shelf",
    "Book": "library.models.Book",
    "Label": "library.models.Label",
    "No Class": "library.models.stamp",
}
one_path = "library.models.stamp"
""",
    "models.py": """
import json

from sqlalchemy import Column, ForeignKey, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates
from sqlalchemy.orm.collections import attribute_keyed_dict

from frappe_jobs import Document


class Base(DeclarativeBase):
    pass


readers = Table(
    "readers",
    Base.metadata,
    Column("shelf", ForeignKey("shelf.shelf_code"), primary_key=True),
    Column("reader", ForeignKey("reader.name"), primary_key=True),
)


class Reader(Document, Base):
    __tablename__ = "reader"

    name: Mapped[str] = mapped_column(String(140), primary_key=True)


class Shelf(Document, Base):
    __tablename__ = "shelf"
    __doctype__ = "Book Shelf"

    code: Mapped[str] = mapped_column("shelf_code", String(140), primary_key=True)
    room: Mapped[str] = mapped_column(String(140), default="cellar")
    _secret: Mapped[str] = mapped_column("secret", String(140), default="")
    books: Mapped[list["Book"]] = relationship(
        back_populates="shelf", cascade="all, delete-orphan", order_by="Book.number"
    )
    labels: Mapped[dict[str, "Label"]] = relationship(
        collection_class=attribute_keyed_dict("colour"), cascade="all, delete-orphan"
    )

    readers: Mapped[list[Reader]] = relationship(secondary=readers)

    @validates("room")
    def _validate_room(self, key: str, room: str) -> str:
        return f"{room} (checked)"

    def __init__(self, code: str, **values) -> None:
        super().__init__(code=code, **values)

    def count(self) -> int:
        return len(self.books)

    borrowed = json.dumps

    @staticmethod
    def static() -> None:
        raise AssertionError("called as if it were a document's method")


class Book(Document, Base):
    __tablename__ = "book"

    number: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(140))
    shelf_code: Mapped[str] = mapped_column(ForeignKey("shelf.shelf_code"))
    shelf: Mapped[Shelf] = relationship(back_populates="books")


class Label(Document, Base):
    __tablename__ = "label"

    shelf_code: Mapped[str] = mapped_column(ForeignKey("shelf.shelf_code"), primary_key=True)
    colour: Mapped[str] = mapped_column(String(140), primary_key=True)


class Unnamed(Document, Base):
    __tablename__ = "unnamed"

    name: Mapped[str] = mapped_column(String(140), primary_key=True)


def stamp() -> None:
    pass
""",
}


class Server:
    """A kind of database, with one for each site, or a file in each site's folder."""

    def __init__(self, kind: str, url: URL | None = None) -> None:
        self.kind, self.url = kind, url
        self.template: Path | None = None  # of SQLite, with the tables
        self.emptying: dict[str, tuple[Any, list[str]]] = {}
        self.names = dict.fromkeys(SITES)
        if url is not None:
            self.names = {site: f"frappe_jobs_{uuid4().hex[:12]}_{site}" for site in SITES}
            for name in self.names.values():
                self.run(f"CREATE DATABASE {name}")

    def config(self, site: str) -> dict[str, Any]:
        """What the site's site_config.json says of its database."""
        if self.url is None:
            return {"db_type": self.kind}
        config = {"db_type": self.kind, "db_name": self.names[site], "db_user": self.url.username,
                  "db_password": self.url.password, "db_host": self.url.host,
                  "db_port": self.url.port}  # fmt: skip
        return {key: value for key, value in config.items() if value is not None}

    def run(self, statement: str) -> list[Any]:
        """A statement on the server, outside of any transaction."""
        assert self.url
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []

    def prepare(self, host: Any, site: str, folder: Path, bases: tuple[Any, ...]) -> None:
        """Make the tables, or empty those that another test has left."""
        if self.template:
            shutil.copy(self.template, folder / "site.db")
            return
        if site in self.emptying:
            self._empty(*self.emptying[site])
            return
        with host.session(site) as session:
            for base in bases:
                base.metadata.create_all(session.db.connection())
        if self.kind == "sqlite":
            self.template = folder.parent / "template.db"
            shutil.copy(folder / "site.db", self.template)
        else:
            tables = [table.name for base in bases for table in base.metadata.sorted_tables]
            self.emptying[site] = self._stay(site), self._deletions(site, tables)

    def _stay(self, site: str) -> Any:
        """A connection for the whole run, which is none of those that are counted."""
        assert self.url
        url = self.url
        if self.kind == "postgres":
            url = url.set(database=self.names[site]).update_query_dict({"application_name": STAYS})
        return create_engine(url, poolclass=NullPool).raw_connection()

    def _deletions(self, site: str, tables: list[str]) -> list[str]:
        """Those that refer to others first."""
        form = f"DELETE FROM {self.names[site]}.`{{}}`"
        if self.kind == "postgres":
            form = 'DELETE FROM "{}"'
        return [form.format(table) for table in reversed(tables)]

    def _empty(self, connection: Any, deletions: list[str]) -> None:
        with closing(connection.cursor()) as cursor:
            for deletion in deletions:
                cursor.execute(deletion)
        connection.commit()

    def connections(self) -> int:
        """How many are open to the sites' databases, whoever opened them."""
        if self.kind == "sqlite":
            open_files = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
            return sum(path.endswith("site.db") for path in open_files)
        table, column = {
            "postgres": ("pg_stat_activity", "datname"),
            "mariadb": ("information_schema.processlist", "db"),
        }[self.kind]
        names = ", ".join(f"'{name}'" for name in self.names.values())
        statement = f"SELECT count(*) FROM {table} WHERE {column} IN ({names})"
        if self.kind == "postgres":
            statement += f" AND application_name <> '{STAYS}'"
        found = self.run(statement)
        return int(found[0][0])

    def drop(self) -> None:
        for connection, _ in self.emptying.values():
            connection.close()
        for name in self.names.values():
            force = " WITH (FORCE)" if self.kind == "postgres" else ""
            self.run(f"DROP DATABASE {name}{force}")


def server(kind: str, variable: str, default: str) -> Iterator[Server]:
    url = make_url(os.environ.get(variable) or default)
    try:
        made = Server(kind, url.set(drivername=default.partition(":")[0]))
    except OperationalError as error:
        complain = pytest.fail if "CI" in os.environ or variable in os.environ else pytest.skip
        complain(f"No {kind} answers at {url}; {variable} may name another one. {error.orig}")
    yield made
    made.drop()


@pytest.fixture(scope="session")
def sqlite() -> Server:
    return Server("sqlite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    yield from server(
        "postgres", "POSTGRES_URL", "postgresql+psycopg://root@127.0.0.1:5432/postgres"
    )


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    yield from server("mariadb", "MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The app's models; it can be imported from here on."""
    folder = tmp_path_factory.mktemp("apps")
    write_app(folder, "library", LIBRARY)
    sys.path.insert(0, str(folder))
    import library.models as models

    return models


def write_app(folder: Path, name: str, files: dict[str, str]) -> None:
    (folder / name).mkdir()
    for file, content in files.items():
        (folder / name / file).write_text(content)


@pytest.fixture
def make_sites(tmp_path: Path) -> Iterator[Callable[..., runtime.Runtime]]:
    """Makes a sites folder with these sites' configurations and apps, and uses it."""
    before = runtime._current

    def make(sites: dict[str, dict[str, Any]], apps: str = "acme\n") -> runtime.Runtime:
        folder = tmp_path / f"bench{len([*tmp_path.iterdir()])}" / "sites"
        for name, config in sites.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "site_config.json").write_text(json.dumps(config))
        (folder / "common_site_config.json").write_text('{"shared_key": "of the bench"}')
        (folder / "apps.txt").write_text(apps)
        return runtime.use(folder)

    yield make
    runtime._current = before


@pytest.fixture
def host(server: Server, library: Any, make_sites: Callable[..., runtime.Runtime]) -> Any:
    """The host of two sites with the apps acme and library, their tables there and empty."""
    configs = {site: server.config(site) for site in SITES}
    here = make_sites(configs, "acme\nlibrary\n")
    for site in SITES:
        server.prepare(
            here.host, site, here.settings.sites_path / site, (AcmeBase, library.Base, Records)
        )
    return here.host


@pytest.fixture(scope="module")
def run_id(redis_url: str) -> Iterator[str]:
    """In the name of each of our keys, which are removed at the end, all in one search."""
    run_id = f"test-{uuid4().hex[:12]}"
    yield run_id
    with redis.Redis.from_url(redis_url) as server:
        for key in server.scan_iter(f"*{run_id}*", count=10_000):
            server.delete(key)


@pytest.fixture
def with_redis(redis_url: str, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAPPE_REDIS_QUEUE", redis_url)
    monkeypatch.setenv("FRAPPE_BENCH_ID", f"{run_id}-{uuid4().hex[:12]}")


@pytest.fixture
def standalone(server: Server, host: Any) -> Standalone:
    """That host, as the contract meets it."""
    return Standalone(server)


@pytest.fixture
def frappe_bench() -> Any:
    pytest.skip("The contract of a bench's host: make test-bench BENCH=/path/to/bench SITE=name")
