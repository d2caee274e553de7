"""The queue of background jobs in SQLite."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import apsw

from index.storage.sqlite.database import query, transaction
from server.storage.records import Job, NewJob
from server.storage.sqlite.database import Database

JOBS_FILE = "jobs.sqlite3"
_MIGRATIONS = (
    """
    CREATE TABLE jobs (
        at INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order they were added in
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        part INTEGER NOT NULL,
        position INTEGER NOT NULL,
        due_at REAL NOT NULL,                   -- Unix seconds: when it may be leased, or its lease ends
        worker TEXT                             -- who holds it; NULL: nobody
    ) STRICT;
    CREATE INDEX jobs_position ON jobs (kind, position, at);
    CREATE INDEX jobs_subject ON jobs (subject);
    """,
)


class SqliteJobStore:
    """A `JobStore`. A context manager; entering it raises `DataFolderError`.

    One server uses a data folder at a time, so the leases that an earlier one left behind end when the file is opened.
    """

    def __init__(self, data_folder: Path) -> None:
        self._database = Database(data_folder / JOBS_FILE, _MIGRATIONS, synchronous="NORMAL")

    def __enter__(self) -> Self:
        self._database.__enter__()
        self._database.submit(_end_leases).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def add(self, jobs: Sequence[NewJob], delay_s: float = 0.0) -> None:
        await self._database.run(_add, jobs, delay_s)

    async def lease(self, kinds: Sequence[str], worker: str, lease_s: float) -> Job | None:
        return await self._database.run(_lease, kinds, worker, lease_s)

    async def extend(self, job: Job, lease_s: float) -> bool:
        return await self._database.run(_extend, job, lease_s)

    async def complete(self, job: Job) -> bool:
        return await self._database.run(_complete, job)

    async def release(self, job: Job, delay_s: float = 0.0) -> bool:
        return await self._database.run(_release, job, delay_s)

    async def remove(self, subject: str) -> None:
        await self._database.run(_remove, subject)


def _end_leases(db: apsw.Connection) -> None:
    db.execute("UPDATE jobs SET worker = NULL, due_at = 0 WHERE worker IS NOT NULL")


def _add(db: apsw.Connection, jobs: Sequence[NewJob], delay_s: float) -> None:
    due_at = time.time() + delay_s
    with transaction(db):
        db.executemany(
            "INSERT INTO jobs (id, kind, subject, part, position, due_at) VALUES (?1, ?2, ?3, ?4,"
            " coalesce(?5, (SELECT coalesce(max(position), 0) + 1 FROM jobs)), ?6)"
            " ON CONFLICT (id) DO UPDATE SET due_at = min(due_at, excluded.due_at) WHERE worker IS NULL",
            [(job.id, job.kind, job.subject, job.part, job.position, due_at) for job in jobs],
        )


def _lease(db: apsw.Connection, kinds: Sequence[str], worker: str, lease_s: float) -> Job | None:
    now = time.time()
    with transaction(db):
        for kind in kinds:
            due = query(
                db,
                "SELECT id, subject, part, position FROM jobs WHERE kind = ? AND due_at <= ? ORDER BY position, at"
                " LIMIT 1",
                (kind, now),
            )
            for id, subject, part, position in due:
                db.execute("UPDATE jobs SET worker = ?, due_at = ? WHERE id = ?", (worker, now + lease_s, id))
                return Job(id=id, kind=kind, subject=subject, part=part, position=position, worker=worker)
    return None


def _extend(db: apsw.Connection, job: Job, lease_s: float) -> bool:
    sql = "UPDATE jobs SET due_at = ? WHERE id = ? AND worker = ?"
    db.execute(sql, (time.time() + lease_s, job.id, job.worker))
    return bool(db.changes())


def _complete(db: apsw.Connection, job: Job) -> bool:
    db.execute("DELETE FROM jobs WHERE id = ? AND worker = ?", (job.id, job.worker))
    return bool(db.changes())


def _release(db: apsw.Connection, job: Job, delay_s: float) -> bool:
    sql = "UPDATE jobs SET worker = NULL, due_at = ? WHERE id = ? AND worker = ?"
    db.execute(sql, (time.time() + delay_s, job.id, job.worker))
    return bool(db.changes())


def _remove(db: apsw.Connection, subject: str) -> None:
    db.execute("DELETE FROM jobs WHERE subject = ?", (subject,))
