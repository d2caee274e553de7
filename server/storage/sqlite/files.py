"""Uploaded files, vector stores and attachments in SQLite."""

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import apsw
import msgspec

from index.params import Chunking
from index.storage.sqlite.database import query, transaction
from server.access.principal import UNRESTRICTED, Principal
from server.errors import FileBatchNotFound, FileQuotaExceeded, StoredFileNotFound, VectorStoreNotFound
from server.storage.file_records import (
    Attachment,
    Attributes,
    FileBatchRecord,
    FileFailure,
    FileToAttach,
    StoredFile,
    VectorStoreRecord,
)
from server.storage.sqlite.database import Database
from server.storage.sqlite.files_schema import MIGRATIONS

LIBRARY_FILE = "library.sqlite3"
_FILE = "files.id, size, files.created_at, filename, purpose, expires_at, owner"
_STORE = "id, name, created_at, last_active_at, description, days, metadata, owner"
_ATTACHMENT = f"store_id, members.created_at, attributes, chunking, is_cancelled, failure, {_FILE}"
_TOUCH_AFTER_S = 60  # a search that soon after another one writes nothing


class SqliteFileRepository:
    """A `FileRepository`. A context manager; entering it raises `DataFolderError`."""

    _principal = UNRESTRICTED

    def __init__(self, data_folder: Path) -> None:
        self._database = Database(data_folder / LIBRARY_FILE, MIGRATIONS)

    def __enter__(self) -> Self:
        self._database.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def seen_by(self, principal: Principal) -> "SqliteFileRepository":
        narrowed = copy.copy(self)
        narrowed._principal = principal
        return narrowed

    async def add_file(self, file: StoredFile, max_total_bytes: int) -> StoredFile:
        owned = msgspec.structs.replace(file, owner=_owner(self._principal))
        await self._database.run(_add_file, owned, max_total_bytes)
        return owned

    async def get_file(self, id: str) -> StoredFile:
        return await self._database.run(_get_file, self._principal, id)

    async def list_files(self, purpose: str | None = None) -> list[StoredFile]:
        return await self._database.run(_list_files, self._principal, purpose)

    async def remove_file(self, id: str) -> list[Attachment]:
        return await self._database.run(_remove_file, self._principal, id)

    async def expired_file_ids(self, now: int) -> list[str]:
        return await self._database.run(_expired_file_ids, now)

    async def add_store(self, store: VectorStoreRecord, files: Sequence[FileToAttach] = ()) -> VectorStoreRecord:
        owned = msgspec.structs.replace(store, owner=_owner(self._principal))
        await self._database.run(_add_store, self._principal, owned, files)
        return owned

    async def get_store(self, id: str) -> VectorStoreRecord:
        return await self._database.run(_get_store, self._principal, id)

    async def list_stores(self) -> list[VectorStoreRecord]:
        return await self._database.run(_list_stores, self._principal)

    async def update_store(self, store: VectorStoreRecord) -> None:
        await self._database.run(_update_store, store)

    async def touch_stores(self, ids: Sequence[str], now: int) -> None:
        await self._database.run(_touch_stores, ids, now)

    async def remove_store(self, id: str) -> list[Attachment]:
        return await self._database.run(_remove_store, self._principal, id)

    async def empty_expired_stores(self, now: int) -> list[Attachment]:
        return await self._database.run(_empty_expired_stores, now)

    async def attach(self, store_id: str, files: Sequence[FileToAttach], batch: FileBatchRecord | None = None) -> None:
        await self._database.run(_attach, self._principal, store_id, files, batch)

    async def attachments(
        self, *, store_id: str | None = None, file_id: str | None = None, batch_id: str | None = None
    ) -> list[Attachment]:
        return await self._database.run(_attachments, store_id, file_id, batch_id)

    async def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        await self._database.run(_set_attributes, store_id, file_id, attributes)

    async def detach(self, store_id: str, file_id: str) -> list[Attachment]:
        return await self._database.run(_detach, store_id, file_id)

    async def get_batch(self, store_id: str, id: str) -> FileBatchRecord:
        return await self._database.run(_get_batch, store_id, id)

    async def cancel_batch(self, batch: FileBatchRecord, file_ids: Collection[str], now: int) -> None:
        await self._database.run(_cancel_batch, batch, file_ids, now)

    async def first_seen_at(self, collection: str, now: int) -> int:
        return await self._database.run(_first_seen_at, collection, now)


def _owner(principal: Principal) -> str:
    return "" if principal.collections is None else principal.owner


def _is_visible(principal: Principal, owner: str) -> bool:
    return principal.collections is None or owner == principal.owner


def _add_file(db: apsw.Connection, file: StoredFile, max_total_bytes: int) -> None:
    with transaction(db):
        ((total_bytes,),) = query(db, "SELECT coalesce(sum(size), 0) FROM files")
        if total_bytes + file.size > max_total_bytes:
            raise FileQuotaExceeded(max_total_bytes)
        db.execute(
            "INSERT INTO files (id, size, created_at, filename, purpose, expires_at, owner)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (file.id, file.size, file.created_at, file.filename, file.purpose, file.expires_at, file.owner),
        )


def _get_file(db: apsw.Connection, principal: Principal, id: str) -> StoredFile:
    for row in query(db, f"SELECT {_FILE} FROM files WHERE id = ?", (id,)):
        if _is_visible(principal, (file := _file(row)).owner):
            return file
    raise StoredFileNotFound(id)


def _list_files(db: apsw.Connection, principal: Principal, purpose: str | None) -> list[StoredFile]:
    rows = query(db, f"SELECT {_FILE} FROM files WHERE ?1 IS NULL OR purpose = ?1 ORDER BY at", (purpose,))
    return [file for file in map(_file, rows) if _is_visible(principal, file.owner)]


def _remove_file(db: apsw.Connection, principal: Principal, id: str) -> list[Attachment]:
    with transaction(db):
        _get_file(db, principal, id)
        attached = _attachments(db, None, id, None)
        db.execute("DELETE FROM files WHERE id = ?", (id,))
    return attached


def _expired_file_ids(db: apsw.Connection, now: int) -> list[str]:
    return [id for (id,) in query(db, "SELECT id FROM files WHERE expires_at <= ?", (now,))]


def _add_store(
    db: apsw.Connection, principal: Principal, store: VectorStoreRecord, files: Sequence[FileToAttach]
) -> None:
    with transaction(db):
        db.execute(
            "INSERT INTO stores (id, name, created_at, last_active_at, description, days, metadata, owner)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                store.id,
                store.name,
                store.created_at,
                store.last_active_at,
                store.description,
                store.expires_after_days,
                _json(store.metadata),
                store.owner,
            ),
        )
        _insert_attachments(db, principal, store.id, files)


def _get_store(db: apsw.Connection, principal: Principal, id: str) -> VectorStoreRecord:
    for row in query(db, f"SELECT {_STORE} FROM stores WHERE id = ?", (id,)):
        if _is_visible(principal, (store := _store(row)).owner):
            return store
    raise VectorStoreNotFound(id)


def _list_stores(db: apsw.Connection, principal: Principal) -> list[VectorStoreRecord]:
    rows = query(db, f"SELECT {_STORE} FROM stores ORDER BY at")
    return [store for store in map(_store, rows) if _is_visible(principal, store.owner)]


def _update_store(db: apsw.Connection, store: VectorStoreRecord) -> None:
    db.execute(
        "UPDATE stores SET name = ?, description = ?, days = ?, metadata = ?, last_active_at = ? WHERE id = ?",
        (
            store.name,
            store.description,
            store.expires_after_days,
            _json(store.metadata),
            store.last_active_at,
            store.id,
        ),
    )


def _touch_stores(db: apsw.Connection, ids: Sequence[str], now: int) -> None:
    with transaction(db):
        db.executemany(
            "UPDATE stores SET last_active_at = ?1 WHERE id = ?2 AND last_active_at < ?3",
            [(now, id, now - _TOUCH_AFTER_S) for id in ids],
        )


def _remove_store(db: apsw.Connection, principal: Principal, id: str) -> list[Attachment]:
    with transaction(db):
        _get_store(db, principal, id)
        attached = _attachments(db, id, None, None)
        db.execute("DELETE FROM stores WHERE id = ?", (id,))
    return attached


def _empty_expired_stores(db: apsw.Connection, now: int) -> list[Attachment]:
    attached: list[Attachment] = []
    with transaction(db):
        for store in _list_stores(db, UNRESTRICTED):
            if store.is_expired(now):
                attached += _attachments(db, store.id, None, None)
                db.execute("DELETE FROM members WHERE store_id = ?", (store.id,))
    return attached


def _attach(
    db: apsw.Connection,
    principal: Principal,
    store_id: str,
    files: Sequence[FileToAttach],
    batch: FileBatchRecord | None,
) -> None:
    with transaction(db):
        _insert_attachments(db, principal, store_id, files)
        if batch is not None:
            db.execute(
                "INSERT INTO batches (id, store_id, created_at, cancelled_at) VALUES (?, ?, ?, ?)",
                (batch.id, batch.store_id, batch.created_at, batch.cancelled_at),
            )
            db.executemany(
                "INSERT OR IGNORE INTO batch_files VALUES (?, ?)", [(batch.id, file.file_id) for file in files]
            )


def _insert_attachments(
    db: apsw.Connection, principal: Principal, store_id: str, files: Sequence[FileToAttach]
) -> None:
    now = int(time.time())
    for file in files:
        _get_file(db, principal, file.file_id)
        db.execute(
            "INSERT INTO members (store_id, file_id, created_at, attributes, chunking, failure)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET attributes = excluded.attributes,"
            " chunking = excluded.chunking, failure = excluded.failure, is_cancelled = 0",
            (
                store_id,
                file.file_id,
                now,
                _json(file.attributes),
                None if file.chunking is None else _json(file.chunking),
                None if file.failure is None else _json(file.failure),
            ),
        )


def _attachments(
    db: apsw.Connection, store_id: str | None, file_id: str | None, batch_id: str | None
) -> list[Attachment]:
    conditions: Mapping[str, str | None] = {
        "store_id = ?": store_id,
        "file_id = ?": file_id,
        "file_id IN (SELECT file_id FROM batch_files WHERE batch_id = ?)": batch_id,
    }
    bindings = {condition: value for condition, value in conditions.items() if value is not None}
    rows = query(
        db,
        f"SELECT {_ATTACHMENT} FROM members JOIN files ON files.id = file_id"
        f" WHERE {' AND '.join(bindings) or 'TRUE'} ORDER BY members.at",
        tuple(bindings.values()),
    )
    return [_attachment(row) for row in rows]


def _set_attributes(db: apsw.Connection, store_id: str, file_id: str, attributes: Attributes) -> None:
    db.execute(
        "UPDATE members SET attributes = ? WHERE store_id = ? AND file_id = ?", (_json(attributes), store_id, file_id)
    )


def _detach(db: apsw.Connection, store_id: str, file_id: str) -> list[Attachment]:
    with transaction(db):
        attached = _attachments(db, store_id, file_id, None)
        db.execute("DELETE FROM members WHERE store_id = ? AND file_id = ?", (store_id, file_id))
    return attached


def _get_batch(db: apsw.Connection, store_id: str, id: str) -> FileBatchRecord:
    sql = "SELECT created_at, cancelled_at FROM batches WHERE store_id = ? AND id = ?"
    for created_at, cancelled_at in query(db, sql, (store_id, id)):
        return FileBatchRecord(id=id, store_id=store_id, created_at=created_at, cancelled_at=cancelled_at)
    raise FileBatchNotFound(id)


def _cancel_batch(db: apsw.Connection, batch: FileBatchRecord, file_ids: Collection[str], now: int) -> None:
    with transaction(db):
        db.execute("UPDATE batches SET cancelled_at = ? WHERE id = ?", (now, batch.id))
        db.executemany(
            "UPDATE members SET is_cancelled = 1 WHERE store_id = ? AND file_id = ?",
            [(batch.store_id, id) for id in file_ids],
        )


def _first_seen_at(db: apsw.Connection, collection: str, now: int) -> int:
    db.execute("INSERT OR IGNORE INTO folders VALUES (?, ?)", (collection, now))
    ((seen_at,),) = query(db, "SELECT created_at FROM folders WHERE name = ?", (collection,))
    return int(seen_at)


def _file(row: Sequence[Any]) -> StoredFile:
    id, size, created_at, filename, purpose, expires_at, owner = row
    return StoredFile(
        id=id,
        size=size,
        created_at=created_at,
        filename=filename,
        purpose=purpose,
        expires_at=expires_at,
        owner=owner,
    )


def _store(row: Sequence[Any]) -> VectorStoreRecord:
    id, name, created_at, last_active_at, description, days, metadata, owner = row
    return VectorStoreRecord(
        id=id,
        name=name,
        created_at=created_at,
        last_active_at=last_active_at,
        description=description,
        expires_after_days=days,
        metadata=msgspec.json.decode(metadata),
        owner=owner,
    )


def _attachment(row: Sequence[Any]) -> Attachment:
    store_id, created_at, attributes, chunking, is_cancelled, failure, *file = row
    return Attachment(
        store_id=store_id,
        file=_file(file),
        created_at=created_at,
        attributes=msgspec.json.decode(attributes),
        chunking=None if chunking is None else msgspec.json.decode(chunking, type=Chunking),
        is_cancelled=bool(is_cancelled),
        failure=None if failure is None else msgspec.json.decode(failure, type=FileFailure),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
