"""What a statement does is known by its first words."""

from __future__ import annotations

import pytest

from frappe_jobs.texts.sql import ADDS, CHANGES, NEITHER, READS, kind_of, writes


@pytest.mark.parametrize(
    "statement, kind",
    [
        ("SELECT 1", READS),
        ("  -- a\n/* b\n *//* c */ select 1", READS),
        ("# a\nselect 1", READS),
        ("(SELECT 1)", READS),
        ("( (SELECT 1) UNION (SELECT 2))", READS),
        ("VALUES (1)", READS),
        ("show variables", READS),
        ("EXPLAIN SELECT 1", READS),
        ("PRAGMA table_info(x)", READS),
        ("WITH a AS (SELECT 1) SELECT 1", READS),
        ("PRAGMA busy_timeout=1", NEITHER),
        ("SAVEPOINT x", NEITHER),
        ("start transaction read only", NEITHER),
        ("SET innodb_lock_wait_timeout = 1", NEITHER),
        ("", ADDS),
        ("CREATE TABLE x (y)", ADDS),
        ("CALL post_all()", ADDS),
        ("LOAD DATA INFILE 'x' INTO TABLE y", ADDS),
        ("INSERT INTO x VALUES (1)", ADDS),
        ("WITH a AS (SELECT 1) INSERT INTO x SELECT 1", ADDS),
        ("PRAGMA user_version = 3", CHANGES),
        ("INSERT INTO x VALUES (1) ON CONFLICT DO UPDATE SET y = 1", CHANGES),
        ("update x set y = 1", CHANGES),
        ("EXPLAIN ANALYZE DELETE FROM x", CHANGES),
        ("WITH a AS (DELETE FROM x RETURNING y) SELECT * FROM a", CHANGES),
    ],
)
def test_what_a_statement_does_is_known_by_its_first_words(statement: str, kind: str) -> None:
    assert kind_of(statement) == kind
    assert writes(statement) == (kind in (ADDS, CHANGES))


@pytest.mark.parametrize(
    "statement", ["SELECT 1 INTO x", "select nextval('x')", "SELECT NEXT  VALUE FOR x"]
)
def test_a_select_may_write(statement: str) -> None:
    assert kind_of(statement) == READS
    assert writes(statement)


def test_a_lock_is_no_write() -> None:
    assert not writes("SELECT name FROM x WHERE name = 1 FOR UPDATE")
