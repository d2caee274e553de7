"""The services of files and vector stores, and their links for the indexer; no indexer runs."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from index.errors import DataFolderError
from index.params import Chunking
from index.storage.sqlite.catalog import SqliteCatalog
from index.types import Collection
from index.uploads import UPLOADS
from server.access.keys import Role
from server.access.principal import UNRESTRICTED, Principal
from server.errors import (
    EmptyFile,
    FileBatchNotFound,
    FileNotInVectorStore,
    FileQuotaExceeded,
    FilesError,
    FileTooLarge,
    ReadOnlyVectorStore,
    StoredFileNotFound,
    VectorStoreExpired,
    VectorStoreNotFound,
)
from server.files.filters import Compare, Comparison
from server.files.folders import document_id_of, folder_file_id, folder_store_id
from server.files.local_blobs import LocalBlobs
from server.files.names import is_searchable, safe_filename
from server.files.service import FileService
from server.files.vector_store_files import FileStatus, count_files
from server.files.vector_stores import VectorStoreService
from server.settings.params import FilesParams
from server.storage.file_records import FileToAttach, StoredFile, VectorStoreRecord, new_id
from server.storage.sqlite.files import SqliteFileRepository

SMALL_CHUNKS = Chunking(100, 0)
LONG_AGO = 1_000_000_000
T = TypeVar("T")
Body = Callable[[FileService, VectorStoreService], Coroutine[Any, Any, T]]


def run(folder: Path, body: Body[T], **limits: int) -> T:
    """Run the body with services that are opened for it and closed after it."""

    async def run_body() -> T:
        with SqliteFileRepository(folder) as repository:
            collections = [Collection("notes", folder / "notes")]
            files = FileService(
                repository, LocalBlobs(folder), SqliteCatalog(folder), collections, FilesParams(**limits)
            )
            await files.reconcile()
            return await body(files, VectorStoreService(files, Chunking(128, 0)))

    return asyncio.run(run_body())


async def add_file(
    files: FileService,
    name: str = "a.md",
    *pieces: bytes,
    purpose: str = "assistants",
    expires_at: int | None = None,
) -> StoredFile:
    async with files.receive() as incoming:
        for piece in pieces or (b"some text",):
            await incoming.write(piece)
        return await files.add_file(incoming, name, purpose, expires_at)


async def add_store(
    stores: VectorStoreService, *files: FileToAttach, used_at: int = 2_000_000_000, days: int | None = None
) -> str:
    store = VectorStoreRecord(
        id=new_id("vs", "_"), name="", created_at=used_at, last_active_at=used_at, expires_after_days=days
    )
    await stores.add_store(store, files)
    return store.id


def linked_paths(folder: Path) -> set[str]:
    root = folder / "uploads"
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def has_incoming(folder: Path) -> bool:
    return any((folder / "files" / ".incoming").iterdir())


@pytest.mark.parametrize(
    "filename, safe",
    [
        ("leave.md", "leave.md"),
        ("Größe (neu) 1+2.PDF", "Größe (neu) 1+2.pdf"),
        ("../../etc/passwd.txt", "_.._etc_passwd.txt"),
        ("..", "file"),
        (".md", "md"),
        ("a\x00b\n.md", "a_b_.md"),
        ("<b>&?*:|\\.md", "_b_.md"),
        ("x" * 300 + ".md", "x" * 120 + ".md"),
        ("ü" * 300 + ".md", "ü" * 60 + ".md"),
        ("🎉.md", "_.md"),
    ],
)
def test_a_filename_on_disk_has_letters_digits_and_a_few_signs(filename: str, safe: str) -> None:
    assert safe_filename(filename) == safe
    assert "/" not in safe and not safe.startswith(".")


def test_a_file_is_searchable_by_its_extension() -> None:
    assert all(map(is_searchable, ("a.md", "A.PDF", "x/y.html")))
    assert not any(map(is_searchable, ("a", "a.bin", ".md", "a.md~", "")))


def test_ids_of_watched_files_are_no_ids_of_uploads() -> None:
    assert document_id_of(folder_file_id(7)) == 7
    assert all(document_id_of(new_id("file")) is None for _ in range(100))
    assert [document_id_of(id) for id in ("file-" + "0" * 24, "file-" + "0" * 8 + "f" * 16, "file-7", "")] == [None] * 4
    assert folder_store_id("notes") == "vs_4ad2d9928a87d18583fe1b80"


def test_a_file_survives_a_restart(tmp_path: Path) -> None:
    stored = run(tmp_path, lambda files, _: add_file(files, "a.md", b"one", b"two" * 1_000_000, purpose="batch"))
    assert (stored.size, stored.filename, stored.purpose) == (3_000_003, "a.md", "batch")

    async def read(files: FileService, stores: VectorStoreService) -> bytes:
        assert await files.list_files() == [stored] == await files.list_files("batch")
        assert await files.list_files("other") == []
        with await files.open_file(stored.id) as content:
            return content.read()

    assert run(tmp_path, read) == b"one" + b"two" * 1_000_000
    assert (tmp_path / "files" / stored.id).stat().st_mode & 0o077 == 0
    assert (tmp_path / "library.sqlite3").stat().st_mode & 0o077 == 0


def test_files_over_a_limit_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        first = await add_file(files, "a.md", b"x" * 60)
        for content, error in ((b"x" * 101, FileTooLarge), (b"x" * 50, FileQuotaExceeded), (b"", EmptyFile)):
            with pytest.raises(error):
                await add_file(files, "a.md", content)
        with pytest.raises(RuntimeError, match="gone"):
            async with files.receive() as incoming:
                await incoming.write(b"half")
                raise RuntimeError("gone")
        assert await files.list_files() == [first]
        await files.remove_file(first.id)
        await add_file(files, "a.md", b"x" * 100)

    run(tmp_path, body, max_bytes=100, total_bytes=100)
    assert len(list((tmp_path / "files").iterdir())) == 2
    assert not has_incoming(tmp_path)


def test_attached_files_are_linked_once_for_each_chunking(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        file = await add_file(files)
        assert linked_paths(tmp_path) == set()
        one, two = (
            await add_store(stores, FileToAttach(file_id=file.id)),
            await add_store(stores, FileToAttach(file_id=file.id, chunking=SMALL_CHUNKS)),
        )
        auto, small = f"auto/{file.id}/a.md", f"100-0/{file.id}/a.md"
        assert linked_paths(tmp_path) == {auto, small}
        assert (tmp_path / "uploads" / auto).read_bytes() == b"some text"
        await stores.attach(two, [FileToAttach(file_id=file.id, attributes={"a": 1})])
        assert linked_paths(tmp_path) == {auto}, "no store has it cut small any more"
        await stores.detach(one, file.id)
        assert linked_paths(tmp_path) == {auto}, "the other store has it"
        await stores.remove_store(two)
        assert linked_paths(tmp_path) == set()
        with pytest.raises(FileNotInVectorStore):
            await stores.detach(one, file.id)
        await stores.attach(one, [FileToAttach(file_id=file.id)])
        await files.remove_file(file.id)
        assert linked_paths(tmp_path) == set()
        assert await stores.list_files(one) == []

    run(tmp_path, body)


def test_reconcile_makes_the_disk_agree_with_the_repository(tmp_path: Path) -> None:
    async def before(files: FileService, stores: VectorStoreService) -> tuple[StoredFile, StoredFile]:
        present, lost = await add_file(files), await add_file(files, "b.md")
        await add_store(stores, FileToAttach(file_id=present.id), FileToAttach(file_id=lost.id))
        return present, lost

    present, lost = run(tmp_path, before)
    links = tmp_path / "uploads" / "auto"
    (links / present.id / "a.md").unlink()
    (links / present.id).rmdir()
    (tmp_path / "files" / lost.id).unlink()
    for stray in (f"100-0/{present.id}/a.md", "auto/file-0/x.md", f"auto/{lost.id}/c.md"):
        (tmp_path / "uploads" / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "uploads" / stray).write_text("stray")
    (tmp_path / "files" / "file-unknown").write_text("not acknowledged")
    (tmp_path / "files" / ".incoming" / "torn").write_text("half")

    async def after(files: FileService, stores: VectorStoreService) -> None:
        assert (
            f"auto/{present.id}/a.md" in linked_paths(tmp_path) <= {f"auto/{present.id}/a.md", f"auto/{lost.id}/b.md"}
        )
        assert not has_incoming(tmp_path)
        with pytest.raises(StoredFileNotFound):
            await files.open_file(lost.id)

    run(tmp_path, after)
    assert not (tmp_path / "files" / "file-unknown").exists()


def test_a_search_scope_has_the_attached_files_that_pass_the_filter(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        new, old, odd = [await add_file(files, name) for name in ("new.md", "old.md", "odd.bin")]
        one = await add_store(
            stores,
            FileToAttach(file_id=new.id, attributes={"year": 2024}),
            FileToAttach(file_id=old.id, attributes={"year": 1999}),
            FileToAttach(file_id=odd.id),
        )
        two = await add_store(stores, FileToAttach(file_id=old.id, attributes={"year": 2024}, chunking=SMALL_CHUNKS))
        both = {f"auto/{new.id}/new.md", f"auto/{old.id}/old.md"}

        async def paths(*store_ids: str, year: int | None = None) -> set[str]:
            filter = None if year is None else Compare(Comparison.EQ, "year", (year,))
            scope = await stores.search_scope(store_ids, filter)
            (subset,) = scope.subsets
            assert scope.collections == [subset.collection] == [UPLOADS]
            return set(subset.paths)

        assert await paths(one) == await paths(one) == both
        assert await paths(one, year=1999) == {f"auto/{old.id}/old.md"}
        assert await paths(one, year=1) == set()
        assert await paths(one, two) == both | {f"100-0/{old.id}/old.md"}
        assert await paths(one, two, year=2024) == {f"auto/{new.id}/new.md", f"100-0/{old.id}/old.md"}
        await stores.set_attributes(one, new.id, {"year": 1})
        assert await paths(one, year=1) == {f"auto/{new.id}/new.md"}
        await stores.detach(one, new.id)
        assert await paths(one) == {f"auto/{old.id}/old.md"}
        notes = folder_store_id("notes")
        assert (await stores.search_scope([notes], None)).subsets == ()
        assert (await stores.search_scope([notes, two], None)).collections == [UPLOADS, "notes"]

    run(tmp_path, body)


def test_a_file_batch_can_be_cancelled(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        added = [await add_file(files, name) for name in ("a.md", "b.md", "c.bin")]
        store = await add_store(stores)
        batch = await stores.attach_batch(store, [FileToAttach(file_id=file.id) for file in added])
        _, attached = await stores.get_batch(store, batch.id)
        assert [file.status for file in attached] == [FileStatus.IN_PROGRESS, FileStatus.IN_PROGRESS, FileStatus.FAILED]
        await stores.cancel_batch(store, batch.id)
        cancelled, attached = await stores.get_batch(store, batch.id)
        assert cancelled.cancelled_at is not None
        assert count_files(attached)[:4] == (0, 0, 1, 2)
        assert linked_paths(tmp_path) == set()
        await stores.attach(store, [FileToAttach(file_id=added[0].id)])
        assert (await stores.get_file(store, added[0].id)).status == FileStatus.IN_PROGRESS
        other = await add_store(stores)
        for wrong in ((other, batch.id), (store, "vsfb_x"), (folder_store_id("notes"), batch.id)):
            with pytest.raises(FileBatchNotFound):
                await stores.get_batch(*wrong)

    run(tmp_path, body)


def test_expired_files_and_stores_are_removed(tmp_path: Path) -> None:
    async def before(files: FileService, stores: VectorStoreService) -> tuple[str, str, str]:
        file, permanent = (
            await add_file(files, "a.md", b"x", purpose="batch", expires_at=LONG_AGO),
            await add_file(files, "b.md"),
        )
        store = await add_store(stores, FileToAttach(file_id=permanent.id), used_at=LONG_AGO, days=1)
        return file.id, permanent.id, store

    expired, permanent, store = run(tmp_path, before)

    async def after(files: FileService, stores: VectorStoreService) -> None:
        assert [file.id for file in await files.list_files()] == [permanent]
        assert linked_paths(tmp_path) == set()
        assert await stores.list_files(store) == []
        for use in (stores.search_scope([store]), stores.attach(store, [FileToAttach(file_id=permanent)])):
            with pytest.raises(VectorStoreExpired):
                await use
        await stores.remove_store(store)

    run(tmp_path, after)
    assert not (tmp_path / "files" / expired).exists()


def test_a_search_is_a_use_of_a_store(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        store = await add_store(stores, used_at=LONG_AGO)
        await stores.search_scope([store])
        assert (await stores.get_store(store)).last_active_at > LONG_AGO

    run(tmp_path, body)


def test_a_watched_folder_refuses_changes(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        store, file = await stores.get_store(folder_store_id("notes")), await add_file(files)
        assert (store.name, store.collection) == ("notes", "notes")
        assert [each.id for each in await stores.list_stores()] == [store.id]
        for write in (
            stores.update_store(store),
            stores.remove_store(store.id),
            stores.attach(store.id, [FileToAttach(file_id=file.id)]),
            stores.attach_batch(store.id, [FileToAttach(file_id=file.id)]),
            stores.set_attributes(store.id, file.id, {}),
            stores.detach(store.id, file.id),
        ):
            with pytest.raises(ReadOnlyVectorStore):
                await write
        assert (await stores.get_store(store.id)).created_at == store.created_at

    run(tmp_path, body)


def test_unknown_ids_are_not_found(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        store, file = await add_store(stores), await add_file(files)
        unknown: list[tuple[Coroutine[Any, Any, object], type[FilesError]]] = [
            (files.get_file("file-x"), StoredFileNotFound),
            (files.open_file("file-x"), StoredFileNotFound),
            (files.remove_file("file-x"), StoredFileNotFound),
            (files.get_file(folder_file_id(9)), StoredFileNotFound),
            (stores.attach(store, [FileToAttach(file_id="file-x")]), StoredFileNotFound),
            (
                stores.add_store(
                    VectorStoreRecord(id="vs_y", name="", created_at=1, last_active_at=1),
                    [FileToAttach(file_id="file-x")],
                ),
                StoredFileNotFound,
            ),
            (stores.get_store("vs_y"), VectorStoreNotFound),
            (stores.list_files("vs_x"), VectorStoreNotFound),
            (stores.search_scope([store, "vs_x"]), VectorStoreNotFound),
            (stores.remove_store("vs_x"), VectorStoreNotFound),
            (stores.get_file(store, file.id), FileNotInVectorStore),
            (stores.read_texts(store, file.id), FileNotInVectorStore),
            (stores.set_attributes(store, file.id, {}), FileNotInVectorStore),
        ]
        for use, refusal in unknown:
            with pytest.raises(refusal):
                await use

    run(tmp_path, body)


def test_a_limited_key_sees_its_own_uploads_only(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        ours = await add_file(files, "ours.md")
        our_store = await add_store(stores, FileToAttach(file_id=ours.id))
        ann, bob, cut_off = (
            Principal(name, Role.WRITE, frozenset(collections))
            for name, collections in (("ann", ["notes"]), ("bob", ["notes"]), ("eve", []))
        )
        anns_files, anns_stores = files.seen_by(ann), stores.seen_by(ann)
        bobs_files, bobs_stores = files.seen_by(bob), stores.seen_by(bob)
        anns = await add_file(anns_files, "anns.md")
        ann_store = await add_store(anns_stores, FileToAttach(file_id=anns.id))
        notes = folder_store_id("notes")
        for principal, file_ids, store_ids in (
            (UNRESTRICTED, {ours.id, anns.id}, {our_store, ann_store, notes}),
            (ann, {anns.id}, {ann_store, notes}),
            (bob, set(), {notes}),
            (cut_off, set(), set()),
        ):
            assert {file.id for file in await files.seen_by(principal).list_files()} == file_ids
            assert {store.id for store in await stores.seen_by(principal).list_stores()} == store_ids
        for hidden in (bobs_files.get_file(anns.id), anns_files.open_file(ours.id), bobs_files.remove_file(anns.id)):
            with pytest.raises(StoredFileNotFound):
                await hidden
        with pytest.raises(StoredFileNotFound):
            await anns_stores.attach(ann_store, [FileToAttach(file_id=ours.id)])
        for look in (
            anns_stores.search_scope([our_store]),
            bobs_stores.list_files(ann_store),
            bobs_stores.attach(ann_store, []),
            stores.seen_by(cut_off).get_store(notes),
        ):
            with pytest.raises(VectorStoreNotFound):
                await look
        await stores.attach(our_store, [FileToAttach(file_id=anns.id)])
        await anns_files.remove_file(anns.id)
        assert [file.file_id for file in await stores.list_files(our_store)] == [ours.id]

    run(tmp_path, body)


def test_a_repository_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, lambda files, _: add_file(files))
    db = apsw.Connection(str(tmp_path / "library.sqlite3"))
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DataFolderError, match="newer"):
        run(tmp_path, lambda files, _: add_file(files))


def test_a_search_scope_follows_changes_made_while_it_is_cached(tmp_path: Path) -> None:
    async def body(files: FileService, stores: VectorStoreService) -> None:
        added = [await add_file(files, f"{number}.md") for number in range(10)]
        store = await add_store(stores)

        async def change(file: StoredFile) -> None:
            await stores.attach(store, [FileToAttach(file_id=file.id)])

        await asyncio.gather(*(step for file in added for step in (change(file), stores.search_scope([store]))))
        (subset,) = (await stores.search_scope([store])).subsets
        assert len(subset.paths) == 10
        await files.remove_file(added[0].id)
        (subset,) = (await stores.search_scope([store])).subsets
        assert len(subset.paths) == 9

    run(tmp_path, body)
