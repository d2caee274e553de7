"""What the library keeps, and what it shows to the indexer; without one running."""

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
from server.access.principal import Principal
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
from server.files.blobs import is_searchable, safe_filename
from server.files.filters import Compare, Comparison
from server.files.folders import document_of, folder_file_id, folder_store_id
from server.files.records import Kept, Status, Store, Wanted, counted, new_id
from server.files.service import Library
from server.settings.params import FilesParams

_AUTO, _SMALL = None, Chunking(100, 0)
_LONG_AGO = 1_000_000_000
T = TypeVar("T")


def _run(folder: Path, body: Callable[[Library], Coroutine[Any, Any, T]], **limits: int) -> T:
    """The body, with a library that is opened for it and closed after it."""

    async def run() -> T:
        with Library(
            folder,
            FilesParams(**limits),
            [Collection("notes", folder / "notes")],
            Chunking(128, 0),
            SqliteCatalog(folder),
        ) as library:
            return await body(library)

    return asyncio.run(run())


async def _file(library: Library, name: str = "a.md", content: bytes = b"some text") -> Kept:
    return await library.write([content], name, "assistants")


async def _store(library: Library, *wanted: Wanted, used_at: int = 2_000_000_000, days: int | None = None) -> str:
    store = Store(new_id("vs").replace("-", "_"), "", used_at, used_at, days=days)
    await library.add_store(store, wanted)
    return store.id


def _exposed(folder: Path) -> set[str]:
    root = folder / "uploads"
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def _is_receiving(folder: Path) -> bool:
    return any((folder / "files" / ".incoming").iterdir())


@pytest.mark.parametrize(
    "told, spoken",
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
def test_a_name_on_disk_is_letters_and_few_signs(told: str, spoken: str) -> None:
    assert safe_filename(told) == spoken
    assert "/" not in spoken and not spoken.startswith(".")


def test_what_is_searchable_follows_from_the_ending() -> None:
    assert all(map(is_searchable, ("a.md", "A.PDF", "x/y.html")))
    assert not any(map(is_searchable, ("a", "a.bin", ".md", "a.md~", "")))


def test_ids_of_watched_files_are_no_ids_of_uploads() -> None:
    assert document_of(folder_file_id(7)) == 7
    assert all(document_of(new_id("file")) is None for _ in range(100))
    assert [document_of(id) for id in ("file-" + "0" * 24, "file-" + "0" * 8 + "f" * 16, "file-7", "")] == [None] * 4
    assert folder_store_id("notes") == "vs_4ad2d9928a87d18583fe1b80"


def test_a_file_is_kept_and_read_again_by_the_next(tmp_path: Path) -> None:
    kept = _run(tmp_path, lambda library: library.write([b"one", b"two" * 1_000_000], "a.md", "batch"))
    assert (kept.size, kept.filename, kept.purpose) == (3_000_003, "a.md", "batch")

    async def read(library: Library) -> bytes:
        assert await library.files() == [kept] == await library.files("batch")
        assert await library.files("other") == []
        with await library.open(kept.id) as content:
            return content.read()

    assert _run(tmp_path, read) == b"one" + b"two" * 1_000_000
    assert (tmp_path / "files" / kept.id).stat().st_mode & 0o077 == 0
    assert (tmp_path / "library.sqlite3").stat().st_mode & 0o077 == 0


def test_limits_are_kept_and_nothing_is_left_of_what_was_refused(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        first = await _file(library, content=b"x" * 60)
        for content, refusal in ((b"x" * 101, FileTooLarge), (b"x" * 50, FileQuotaExceeded), (b"", EmptyFile)):
            with pytest.raises(refusal):
                await _file(library, content=content)
        with pytest.raises(RuntimeError, match="gone"):
            async with library.receiving() as incoming:
                await incoming.write(b"half")
                raise RuntimeError("gone")
        assert await library.files() == [first]
        await library.remove_file(first.id)
        await _file(library, content=b"x" * 100)

    _run(tmp_path, body, max_bytes=100, total_bytes=100)
    assert len(list((tmp_path / "files").iterdir())) == 2
    assert not _is_receiving(tmp_path)


def test_the_indexer_sees_what_is_in_a_store_as_it_is_to_be_cut(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        file = await _file(library)
        assert _exposed(tmp_path) == set()
        one, two = await _store(library, Wanted(file.id, {})), await _store(library, Wanted(file.id, {}, _SMALL))
        auto, small = f"auto/{file.id}/a.md", f"100-0/{file.id}/a.md"
        assert _exposed(tmp_path) == {auto, small}
        assert (tmp_path / "uploads" / auto).read_bytes() == b"some text"
        await library.put(two, [Wanted(file.id, {"a": 1})])
        assert _exposed(tmp_path) == {auto}, "no store has it cut small any more"
        await library.take_out(one, file.id)
        assert _exposed(tmp_path) == {auto}, "the other store has it"
        await library.remove_store(two)
        assert _exposed(tmp_path) == set()
        with pytest.raises(FileNotInVectorStore):
            await library.take_out(one, file.id)
        await library.put(one, [Wanted(file.id, {})])
        await library.remove_file(file.id)
        assert _exposed(tmp_path) == set()
        assert await library.members(one) == []

    _run(tmp_path, body)


def test_the_disk_is_made_to_agree_at_the_start(tmp_path: Path) -> None:
    async def before(library: Library) -> tuple[Kept, Kept]:
        kept, lost = await _file(library), await _file(library, "b.md")
        await _store(library, Wanted(kept.id, {}), Wanted(lost.id, {}))
        return kept, lost

    kept, lost = _run(tmp_path, before)
    seen = tmp_path / "uploads" / "auto"
    (seen / kept.id / "a.md").unlink()
    (seen / kept.id).rmdir()
    (tmp_path / "files" / lost.id).unlink()
    for stray in (f"100-0/{kept.id}/a.md", "auto/file-0/x.md", f"auto/{lost.id}/c.md"):
        (tmp_path / "uploads" / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "uploads" / stray).write_text("stray")
    (tmp_path / "files" / "file-unknown").write_text("not acknowledged")
    (tmp_path / "files" / ".incoming" / "torn").write_text("half")

    async def after(library: Library) -> None:
        assert f"auto/{kept.id}/a.md" in _exposed(tmp_path) <= {f"auto/{kept.id}/a.md", f"auto/{lost.id}/b.md"}
        assert not _is_receiving(tmp_path)
        with pytest.raises(StoredFileNotFound):
            await library.open(lost.id)

    _run(tmp_path, after)
    assert not (tmp_path / "files" / "file-unknown").exists()


def test_a_search_is_limited_to_what_is_in_the_stores_and_passes(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        new, old, odd = [await _file(library, name) for name in ("new.md", "old.md", "odd.bin")]
        one = await _store(library, Wanted(new.id, {"year": 2024}), Wanted(old.id, {"year": 1999}), Wanted(odd.id, {}))
        two = await _store(library, Wanted(old.id, {"year": 2024}, _SMALL))
        both = {f"auto/{new.id}/new.md", f"auto/{old.id}/old.md"}

        async def paths(*stores: str, year: int | None = None) -> set[str]:
            asked = None if year is None else Compare(Comparison.EQ, "year", (year,))
            scope = await library.scope(stores, asked)
            (chosen,) = scope.chosen
            assert scope.collections == [chosen.collection] == [UPLOADS]
            return set(chosen.paths)

        assert await paths(one) == await paths(one) == both
        assert await paths(one, year=1999) == {f"auto/{old.id}/old.md"}
        assert await paths(one, year=1) == set()
        assert await paths(one, two) == both | {f"100-0/{old.id}/old.md"}
        assert await paths(one, two, year=2024) == {f"auto/{new.id}/new.md", f"100-0/{old.id}/old.md"}
        await library.set_attributes(one, new.id, {"year": 1})
        assert await paths(one, year=1) == {f"auto/{new.id}/new.md"}
        await library.take_out(one, new.id)
        assert await paths(one) == {f"auto/{old.id}/old.md"}
        notes = folder_store_id("notes")
        assert (await library.scope([notes], None)).chosen == ()
        assert (await library.scope([notes, two], None)).collections == [UPLOADS, "notes"]

    _run(tmp_path, body)


def test_a_batch_is_done_when_its_files_are_and_can_be_cancelled(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        files = [await _file(library, name) for name in ("a.md", "b.md", "c.bin")]
        store = await _store(library)
        batch = await library.put_batch(store, [Wanted(file.id, {}) for file in files])
        _, members = await library.batch(store, batch.id)
        assert [member.status for member in members] == [Status.IN_PROGRESS, Status.IN_PROGRESS, Status.FAILED]
        await library.cancel(store, batch.id)
        cancelled, members = await library.batch(store, batch.id)
        assert cancelled.cancelled_at is not None
        assert counted(members)[:4] == (0, 0, 1, 2)
        assert _exposed(tmp_path) == set()
        await library.put(store, [Wanted(files[0].id, {})])
        assert (await library.member(store, files[0].id)).status == Status.IN_PROGRESS
        other = await _store(library)
        for wrong in ((other, batch.id), (store, "vsfb_x"), (folder_store_id("notes"), batch.id)):
            with pytest.raises(FileBatchNotFound):
                await library.batch(*wrong)

    _run(tmp_path, body)


def test_what_has_expired_is_gone(tmp_path: Path) -> None:
    async def before(library: Library) -> tuple[str, str, str]:
        file, kept = await library.write([b"x"], "a.md", "batch", _LONG_AGO), await _file(library, "b.md")
        store = await _store(library, Wanted(kept.id, {}), used_at=_LONG_AGO, days=1)
        return file.id, kept.id, store

    expired, kept, store = _run(tmp_path, before)

    async def after(library: Library) -> None:
        assert [file.id for file in await library.files()] == [kept]
        assert _exposed(tmp_path) == set()
        assert await library.members(store) == []
        for use in (library.scope([store]), library.put(store, [Wanted(kept, {})])):
            with pytest.raises(VectorStoreExpired):
                await use
        await library.remove_store(store)

    _run(tmp_path, after)
    assert not (tmp_path / "files" / expired).exists()


def test_searching_a_store_and_changing_it_are_its_use(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        store = await _store(library, used_at=_LONG_AGO)
        await library.scope([store])
        assert (await library.store(store)).last_active_at > _LONG_AGO

    _run(tmp_path, body)


def test_a_watched_folder_is_never_written_to(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        store, file = await library.store(folder_store_id("notes")), await _file(library)
        assert (store.name, store.collection) == ("notes", "notes")
        assert [each.id for each in await library.stores()] == [store.id]
        for write in (
            library.change_store(store),
            library.remove_store(store.id),
            library.put(store.id, [Wanted(file.id, {})]),
            library.put_batch(store.id, [Wanted(file.id, {})]),
            library.set_attributes(store.id, file.id, {}),
            library.take_out(store.id, file.id),
        ):
            with pytest.raises(ReadOnlyVectorStore):
                await write
        seen = store.created_at
        assert (await library.store(store.id)).created_at == seen

    _run(tmp_path, body)


def test_what_is_unknown_is_said_to_be(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        store, file = await _store(library), await _file(library)
        unknown: list[tuple[Coroutine[Any, Any, object], type[FilesError]]] = [
            (library.file("file-x"), StoredFileNotFound),
            (library.open("file-x"), StoredFileNotFound),
            (library.remove_file("file-x"), StoredFileNotFound),
            (library.file(folder_file_id(9)), StoredFileNotFound),
            (library.put(store, [Wanted("file-x", {})]), StoredFileNotFound),
            (library.add_store(Store("vs_y", "", 1, 1), [Wanted("file-x", {})]), StoredFileNotFound),
            (library.store("vs_y"), VectorStoreNotFound),
            (library.members("vs_x"), VectorStoreNotFound),
            (library.scope([store, "vs_x"]), VectorStoreNotFound),
            (library.remove_store("vs_x"), VectorStoreNotFound),
            (library.member(store, file.id), FileNotInVectorStore),
            (library.texts(store, file.id), FileNotInVectorStore),
            (library.set_attributes(store, file.id, {}), FileNotInVectorStore),
        ]
        for use, refusal in unknown:
            with pytest.raises(refusal):
                await use

    _run(tmp_path, body)


def test_who_sees_only_some_collections_sees_only_its_own_uploads(tmp_path: Path) -> None:
    async def body(library: Library) -> None:
        ours = await _file(library, "ours.md")
        our_store = await _store(library, Wanted(ours.id, {}))
        ann, bob, cut_off = (
            library.seen_by(Principal(name, Role.WRITE, frozenset(collections)))
            for name, collections in (("ann", ["notes"]), ("bob", ["notes"]), ("eve", []))
        )
        anns = await _file(ann, "anns.md")
        ann_store = await _store(ann, Wanted(anns.id, {}))
        notes = folder_store_id("notes")
        for seen, files, stores in (
            (library, {ours.id, anns.id}, {our_store, ann_store, notes}),
            (ann, {anns.id}, {ann_store, notes}),
            (bob, set(), {notes}),
            (cut_off, set(), set()),
        ):
            assert {file.id for file in await seen.files()} == files
            assert {store.id for store in await seen.stores()} == stores
        for hidden in (bob.file(anns.id), ann.open(ours.id), bob.remove_file(anns.id)):
            with pytest.raises(StoredFileNotFound):
                await hidden
        with pytest.raises(StoredFileNotFound):
            await ann.put(ann_store, [Wanted(ours.id, {})])
        for hidden in (ann.scope([our_store]), bob.members(ann_store), bob.put(ann_store, []), cut_off.store(notes)):
            with pytest.raises(VectorStoreNotFound):
                await hidden
        await library.put(our_store, [Wanted(anns.id, {})])
        await ann.remove_file(anns.id)
        assert [member.file_id for member in await library.members(our_store)] == [ours.id]

    _run(tmp_path, body)


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    _run(tmp_path, _file)
    db = apsw.Connection(str(tmp_path / "library.sqlite3"))
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DataFolderError, match="newer"):
        _run(tmp_path, _file)
