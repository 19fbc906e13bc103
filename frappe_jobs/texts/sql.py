"""What kind of SQL statement a text is: whether it reads, adds rows, or changes some."""

from __future__ import annotations

import re
from functools import lru_cache

READS, ADDS, CHANGES, NEITHER = "reads", "adds", "changes", "neither"
WORD = re.compile(r"[A-Z]+", re.IGNORECASE)
COMMENT = re.compile(r"[\s(]+|(?:--|#)[^\n]*\n?|/\*.*?\*/", re.DOTALL)
KINDS = {
    **dict.fromkeys(("SELECT", "VALUES", "EXPLAIN", "SHOW", "DESCRIBE", "DESC", "TABLE"), READS),
    **dict.fromkeys(("UPDATE", "DELETE", "REPLACE"), CHANGES),
    **dict.fromkeys(("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"), NEITHER),
    **dict.fromkeys(("START", "SET", "USE"), NEITHER),
}
OVERWRITES = re.compile(r"\b(UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
INSERTS = re.compile(r"\b(INSERT|MERGE)\b", re.IGNORECASE)
#: A SELECT that writes: PostgreSQL's into a table, MariaDB's into a file or next of a sequence.
WRITING_SELECT = re.compile(r"\bINTO\b|\bNEXT\s+VALUE\b|\b(NEXTVAL|SETVAL)\b", re.IGNORECASE)
STORED_PRAGMA = re.compile(r"\b(user_version|application_id|schema_version)\s*[=(]", re.IGNORECASE)


@lru_cache(maxsize=2000)
def kind_of(statement: str) -> str:
    """READS, ADDS, CHANGES, or NEITHER for what concerns the connection alone.

    What is unknown (a CALL, DDL) counts as ADDS.  What a function does that a SELECT calls cannot
    be seen here.
    """
    while skipped := COMMENT.match(statement):
        statement = statement[skipped.end() :]
    word = "".join(WORD.findall(statement[:20])[:1]).upper()
    if word == "PRAGMA":
        if STORED_PRAGMA.search(statement):
            return CHANGES if "=" in statement else READS
        return NEITHER if "=" in statement else READS
    if word in ("WITH", "INSERT", "EXPLAIN"):
        if OVERWRITES.search(statement):
            return CHANGES
        return ADDS if word == "INSERT" or INSERTS.search(statement) else READS
    return KINDS.get(word, ADDS)


@lru_cache(maxsize=2000)
def writes(statement: str) -> bool:
    """Whether it may change what is stored."""
    kind = kind_of(statement)
    return kind in (ADDS, CHANGES) or (kind == READS and bool(WRITING_SELECT.search(statement)))
