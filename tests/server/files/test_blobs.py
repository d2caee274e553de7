"""The contract of blobs."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from index.params import Chunking
from index.uploads import UploadPath
from server.errors import FileTooLarge, StoredFileNotFound
from server.files.blobs import Blobs
from server.files.local_blobs import LocalBlobs
from tests.server.files.memory_blobs import MemoryBlobs

ID, OTHER = "file-" + "a" * 24, "file-" + "b" * 24
AUTO, SMALL = UploadPath(None, ID, "a.md"), UploadPath(Chunking(100, 0), ID, "a.md")


class Backend(NamedTuple):
    """An implementation of blobs. `links` returns the content of every link that the indexer sees, by path."""

    blobs: Blobs
    links: Callable[[], Mapping[str, bytes]]


def local(folder: Path) -> Backend:
    root = folder / "uploads"

    def links() -> dict[str, bytes]:
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return Backend(LocalBlobs(folder), links)


def memory(_: Path) -> Backend:
    blobs = MemoryBlobs()
    return Backend(blobs, lambda: blobs.links)


@pytest.fixture(params=[local, memory])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    backend: Backend = request.param(tmp_path)
    return backend


async def store_blob(blobs: Blobs, id: str, *pieces: bytes, max_bytes: int = 10_000_000) -> None:
    async with blobs.receive(max_bytes) as incoming:
        for piece in pieces:
            await incoming.write(piece)
        assert incoming.size == sum(map(len, pieces))
        await blobs.put(incoming, id)


async def read(blobs: Blobs, id: str) -> bytes:
    with await blobs.open(id) as content:
        return content.read()


def test_a_stored_file_is_read_until_it_is_removed(backend: Backend) -> None:
    async def check() -> None:
        await store_blob(backend.blobs, ID, b"one", b"two" * 1_000_000)
        assert await read(backend.blobs, ID) == b"one" + b"two" * 1_000_000
        await backend.blobs.remove(ID)
        await backend.blobs.remove(ID)
        with pytest.raises(StoredFileNotFound):
            await backend.blobs.open(ID)

    asyncio.run(check())


def test_a_file_over_the_limit_is_refused(backend: Backend) -> None:
    async def check() -> None:
        async with backend.blobs.receive(10) as incoming:
            incoming.check_size(10)
            with pytest.raises(FileTooLarge):
                incoming.check_size(11)
            await incoming.write(b"x" * 10)
            with pytest.raises(FileTooLarge):
                await incoming.write(b"x")

    asyncio.run(check())


def test_a_file_is_linked_under_each_of_its_paths(backend: Backend) -> None:
    async def check() -> None:
        await store_blob(backend.blobs, ID, b"text")
        for path in (AUTO, AUTO, SMALL):
            await backend.blobs.link(ID, path)
        assert backend.links() == {str(AUTO): b"text", str(SMALL): b"text"}
        await backend.blobs.unlink(AUTO)
        await backend.blobs.unlink(AUTO)
        assert backend.links() == {str(SMALL): b"text"}

    asyncio.run(check())


def test_reconcile_leaves_the_named_files_and_links_only(backend: Backend) -> None:
    async def check() -> None:
        await store_blob(backend.blobs, ID, b"text")
        await store_blob(backend.blobs, OTHER, b"other")
        await backend.blobs.link(ID, SMALL)
        lost = UploadPath(None, "file-" + "c" * 24, "c.md")
        await backend.blobs.reconcile({ID}, [AUTO, lost])
        assert backend.links() == {str(AUTO): b"text"}
        assert await read(backend.blobs, ID) == b"text"
        with pytest.raises(StoredFileNotFound):
            await backend.blobs.open(OTHER)

    asyncio.run(check())


def test_an_incomplete_upload_is_deleted(tmp_path: Path) -> None:
    async def check() -> None:
        async with LocalBlobs(tmp_path).receive(100) as incoming:
            await incoming.write(b"half")
            assert any((tmp_path / "files" / ".incoming").iterdir())

    asyncio.run(check())
    assert not any((tmp_path / "files" / ".incoming").iterdir())
