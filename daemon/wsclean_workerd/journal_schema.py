"""The tables of the journal, and how those of older releases become them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 3
"""The version of the tables, which the file has as its `user_version`."""

# AUTOINCREMENT: a number is never given twice, even when old jobs are pruned.
TABLES = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    request_id TEXT,
    state TEXT NOT NULL,
    live INTEGER NOT NULL,
    record TEXT NOT NULL,
    ended REAL
) STRICT;
CREATE UNIQUE INDEX jobs_request ON jobs (uid, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX jobs_live ON jobs (id) WHERE live = 1;
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_over ON jobs (ended) WHERE live = 0;
CREATE TABLE locks (
    key TEXT PRIMARY KEY,
    job INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: Mapping[int, str] = {
    # When a job ended, for pruning by age.
    1: """
ALTER TABLE jobs ADD COLUMN ended REAL;
UPDATE jobs SET ended = json_extract(record, '$.ended.wall');
CREATE INDEX jobs_over ON jobs (ended) WHERE live = 0;
""",
    # The locks that jobs on slots hold: none, as no job of before has any.
    2: """
CREATE TABLE locks (
    key TEXT PRIMARY KEY,
    job INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
""",
}
"""What turns the tables of a version into those of the next."""
