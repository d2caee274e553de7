"""The contract of a file repository."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from index.params import Chunking
from server.access.keys import Role
from server.access.principal import Principal
from server.errors import FileBatchNotFound, FileQuotaExceeded, StoredFileNotFound, VectorStoreNotFound
from server.storage.base import FileRepository
from server.storage.file_records import (
    FileBatchRecord,
    FileFailure,
    FileToAttach,
    StoredFile,
    VectorStoreRecord,
)
from server.storage.sqlite.files import LIBRARY_FILE, SqliteFileRepository
from tests.server.storage.memory import MemoryFileRepository

Open = Callable[[Path], AbstractContextManager[FileRepository]]
REPOSITORIES: list[Open] = [SqliteFileRepository, lambda _: MemoryFileRepository()]
Run = Callable[[Callable[[FileRepository], Coroutine[Any, Any, None]]], None]
ROOM = 1_000_000


@pytest.fixture(params=REPOSITORIES, ids=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that runs a check with a newly opened repository."""
    opener: Open = request.param

    def run_check(check: Callable[[FileRepository], Coroutine[Any, Any, None]]) -> None:
        with opener(tmp_path) as repository:
            asyncio.run(check(repository))

    return run_check


def file(id: str, **fields: Any) -> StoredFile:
    return StoredFile(
        **{"id": id, "size": 10, "created_at": 1, "filename": f"{id}.md", "purpose": "assistants", **fields}
    )


def store(id: str, **fields: Any) -> VectorStoreRecord:
    return VectorStoreRecord(**{"id": id, "name": id, "created_at": 1, "last_active_at": 1, **fields})


async def list_attachments(repository: FileRepository, **conditions: str) -> list[tuple[str, str]]:
    """Return the store id and file id of each attachment."""
    return [(each.store_id, each.file.id) for each in await repository.attachments(**conditions)]


def test_a_file_is_stored_with_all_its_fields(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        full = file("a", size=7, created_at=2, filename="ü.md", purpose="batch", expires_at=9)
        assert await repository.add_file(full, ROOM) == full
        await repository.add_file(file("b"), ROOM)
        assert await repository.get_file("a") == full
        assert [each.id for each in await repository.list_files()] == ["a", "b"]
        assert [each.id for each in await repository.list_files("batch")] == ["a"]
        assert await repository.expired_file_ids(8) == []
        assert await repository.expired_file_ids(9) == ["a"]
        assert await repository.remove_file("a") == []
        for look in (repository.get_file, repository.remove_file):
            with pytest.raises(StoredFileNotFound):
                await look("a")

    run(check)


def test_all_files_together_have_a_quota(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        await repository.add_file(file("a", size=60), 100)
        with pytest.raises(FileQuotaExceeded):
            await repository.add_file(file("b", size=41), 100)
        await repository.add_file(file("c", size=40), 100)
        assert [each.id for each in await repository.list_files()] == ["a", "c"]

    run(check)


def test_a_store_is_stored_with_all_its_fields_and_updated(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        full = store("s", description="of me", expires_after_days=2, metadata={"a": "b"}, last_active_at=5)
        assert await repository.add_store(full) == full
        assert await repository.get_store("s") == full
        changed = store("s", name="new", metadata={}, last_active_at=6)
        await repository.update_store(changed)
        assert await repository.list_stores() == [changed]
        assert await repository.remove_store("s") == []
        for look in (repository.get_store, repository.remove_store):
            with pytest.raises(VectorStoreNotFound):
                await look("s")

    run(check)


def test_the_last_use_of_a_store_is_recorded_to_the_minute(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        await repository.add_store(store("s", last_active_at=1000))
        for now, last_active_at in ((1030, 1000), (1061, 1061), (1100, 1061)):
            await repository.touch_stores(["s"], now)
            assert (await repository.get_store("s")).last_active_at == last_active_at

    run(check)


def test_files_are_attached_and_detached(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        for id in ("a", "b"):
            await repository.add_file(file(id), ROOM)
        await repository.add_store(store("one"), [FileToAttach(file_id="a", attributes={"year": 2024})])
        await repository.add_store(store("two"))
        failure = FileFailure("unsupported_file", "Not read.")
        await repository.attach(
            "two", [FileToAttach(file_id="b", chunking=Chunking(100, 20)), FileToAttach(file_id="a", failure=failure)]
        )
        (first,) = await repository.attachments(store_id="one")
        assert (first.file, first.attributes, first.chunking, first.failure) == (file("a"), {"year": 2024}, None, None)
        assert first.is_indexed
        second, third = await repository.attachments(store_id="two")
        assert (second.file.id, second.chunking, second.is_indexed) == ("b", Chunking(100, 20), True)
        assert (third.file.id, third.failure, third.is_indexed) == ("a", failure, False)
        assert await list_attachments(repository, file_id="a") == [("one", "a"), ("two", "a")]
        assert await list_attachments(repository, store_id="two", file_id="a") == [("two", "a")]
        await repository.attach("two", [FileToAttach(file_id="a", attributes={"b": True})])
        assert [each.is_indexed for each in await repository.attachments(store_id="two")] == [True, True]
        await repository.set_attributes("two", "a", {"c": 1.5})
        (changed,) = await repository.detach("two", "a")
        assert changed.attributes == {"c": 1.5}
        assert await repository.detach("two", "a") == []
        assert [each.file.id for each in await repository.remove_store("one")] == ["a"]
        assert [each.store_id for each in await repository.remove_file("b")] == ["two"]
        assert await list_attachments(repository) == []

    run(check)


def test_unknown_files_are_not_attached(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        await repository.add_file(file("a"), ROOM)
        await repository.add_store(store("s"))
        both = [FileToAttach(file_id="a"), FileToAttach(file_id="x")]
        with pytest.raises(StoredFileNotFound):
            await repository.attach("s", both)
        with pytest.raises(StoredFileNotFound):
            await repository.add_store(store("t"), both)
        assert await list_attachments(repository) == []
        assert [each.id for each in await repository.list_stores()] == ["s"]

    run(check)


def test_the_files_of_a_batch_are_cancelled(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        for id in ("a", "b", "c"):
            await repository.add_file(file(id), ROOM)
        await repository.add_store(store("s"), [FileToAttach(file_id="c")])
        batch = FileBatchRecord(id="vsfb_1", store_id="s", created_at=3)
        await repository.attach("s", [FileToAttach(file_id="a"), FileToAttach(file_id="b")], batch)
        assert await repository.get_batch("s", "vsfb_1") == batch
        assert await list_attachments(repository, store_id="s", batch_id="vsfb_1") == [("s", "a"), ("s", "b")]
        await repository.cancel_batch(batch, {"b"}, 4)
        assert await repository.get_batch("s", "vsfb_1") == msgspec.structs.replace(batch, cancelled_at=4)
        assert [each.is_cancelled for each in await repository.attachments(store_id="s")] == [False, False, True]
        for store_id, id in (("s", "vsfb_x"), ("t", "vsfb_1")):
            with pytest.raises(FileBatchNotFound):
                await repository.get_batch(store_id, id)

    run(check)


def test_expired_stores_are_emptied_and_stay(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        await repository.add_file(file("a"), ROOM)
        await repository.add_store(store("old", expires_after_days=1), [FileToAttach(file_id="a")])
        await repository.add_store(store("new"), [FileToAttach(file_id="a")])
        assert await repository.empty_expired_stores(86_400) == []
        assert [each.store_id for each in await repository.empty_expired_stores(86_401)] == ["old"]
        assert await list_attachments(repository) == [("new", "a")]
        assert len(await repository.list_stores()) == 2

    run(check)


def test_a_collection_is_first_seen_once(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        assert [await repository.first_seen_at("notes", now) for now in (5, 6)] == [5, 5]

    run(check)


def test_a_limited_principal_sees_its_own_files_and_stores_only(run: Run) -> None:
    async def check(repository: FileRepository) -> None:
        ann, bob, admin = (
            repository.seen_by(Principal(name, Role.WRITE, collections))
            for name, collections in (("ann", frozenset({"x"})), ("bob", frozenset({"x"})), ("admin", None))
        )
        assert (await ann.add_file(file("anns"), ROOM)).owner == "ann"
        assert (await ann.add_store(store("ann_store"), [FileToAttach(file_id="anns")])).owner == "ann"
        await admin.add_file(file("ours"), ROOM)
        for narrowed, files, stores in (
            (ann, ["anns"], ["ann_store"]),
            (bob, [], []),
            (admin, ["anns", "ours"], ["ann_store"]),
        ):
            assert [each.id for each in await narrowed.list_files()] == files
            assert [each.id for each in await narrowed.list_stores()] == stores
        for hidden in (bob.get_file("anns"), ann.get_file("ours"), bob.remove_file("anns")):
            with pytest.raises(StoredFileNotFound):
                await hidden
        with pytest.raises(StoredFileNotFound):
            await ann.attach("ann_store", [FileToAttach(file_id="ours")])
        for look in (bob.get_store, bob.remove_store):
            with pytest.raises(VectorStoreNotFound):
                await look("ann_store")

    run(check)


def test_the_file_is_readable_by_its_user_only(tmp_path: Path) -> None:
    with SqliteFileRepository(tmp_path):
        assert (tmp_path / LIBRARY_FILE).stat().st_mode & 0o777 == 0o600
