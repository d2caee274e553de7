"""Files that clients upload, and the vector stores they are searched in; watched folders are such stores, read-only.

The ledger is the truth, the disk follows it: what is not in it is cleared away at the start, what is missing of it is
made again. The indexer reads what is exposed to it and says in its database what became of it, so that nothing here
has to remember how far a file is. A search is limited, inside the index, to the files that are in the store now.
"""

import asyncio
import contextlib
import copy
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, NamedTuple, Self, TypeVar

import apsw
import msgspec
from msgspec import Meta

from index.errors import UnreadableDocument
from index.files import open_file
from index.listing import ListedDocument, find_document, list_documents, read_texts, tally
from index.types import Chosen, Collection, Passage
from index.uploads import UPLOADS, Chunking, UploadPath
from server.access.principal import ANYBODY, Principal
from server.library.contents import Contents, is_searchable, spoken_name
from server.library.errors import (
    DiskFull,
    EmptyFile,
    FileTooLarge,
    NoSuchBatch,
    NoSuchFile,
    NoSuchStore,
    NotInStore,
    ReadOnly,
    StoreExpired,
)
from server.library.filters import Filter, passes
from server.library.folders import (
    attributes_of,
    document_of,
    failure_of,
    file_id_of,
    folder_counts,
    folder_store_id,
    member_of,
    status_of,
)
from server.library.ledger import Entry, Ledger
from server.library.records import (
    Attributes,
    Batch,
    Counts,
    Failure,
    Kept,
    Member,
    Status,
    Store,
    Wanted,
    counted,
    new_id,
)

FILE = "library.sqlite3"
_PIECE = 1 << 20  # bytes written at once
_SWEEP_S = 1.0  # between two looks for what has expired
_MOST_SCOPES = 32

T = TypeVar("T")


class FilesParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients may upload."""

    max_bytes: Annotated[int, Meta(gt=0, description="size of the largest file that may be uploaded")] = 536_870_912
    total_bytes: Annotated[int, Meta(ge=0, description="bytes that all uploaded files together may take")] = (
        20_000_000_000
    )


class Scope(NamedTuple):
    """What a search in vector stores is limited to, as the index takes it. `collections` None: all."""

    collections: Sequence[str] | None
    chosen: Sequence[Chosen]


class Hit(NamedTuple):
    """A passage of a store's file."""

    file_id: str
    filename: str
    attributes: Attributes
    passage: Passage


class Incoming:
    """A file being received, under a name of the server's own until it is kept."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size = 0
        self._max_bytes = max_bytes
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._buffer = bytearray()

    def announce(self, size: int) -> None:
        """So many bytes are to come at least. Raises `FileTooLarge` before any of them is written."""
        if size > self._max_bytes:
            raise FileTooLarge(self._max_bytes)

    async def write(self, piece: bytes | bytearray) -> None:
        """Raises `FileTooLarge`, `DiskFull`."""
        self.announce(self.size + len(piece))
        self.size += len(piece)
        self._buffer += piece
        if len(self._buffer) >= _PIECE:
            await asyncio.to_thread(self._flush)

    def finish(self) -> None:
        """Everything is on the disk. Raises `DiskFull`."""
        self._flush()
        with _room_on_disk():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """What was not kept is gone."""
        with contextlib.suppress(OSError):  # a full disk, again
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        buffer, self._buffer = self._buffer, bytearray()
        with _room_on_disk():
            self._file.write(buffer)
            self._file.flush()


class Library:
    """Owns the ledger, the contents and the one thread that touches them. A context manager.

    `collections`: the watched folders, as they are now. `auto`: how files are cut whose clients leave it open. A
    principal who sees only some collections sees of files and stores those folders' and its own, and who sees all sees
    them too. Raises `DataFolderError` when it cannot be opened; everything else raises the `LibraryError` that fits.
    """

    _principal = ANYBODY

    def __init__(self, data: Path, params: FilesParams, collections: Sequence[Collection], auto: Chunking) -> None:
        self.auto = auto
        self._data = data
        self._params = params
        self._collections = collections
        self._contents = Contents(data)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="library")
        self._ledger = self._thread.submit(Ledger, data / FILE).result()
        self._scopes: dict[tuple[tuple[str, ...], Filter | None], Scope] = {}
        self._sweeps = _Interval(_SWEEP_S)

    def __enter__(self) -> Self:
        self._thread.submit(self._clear_up).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._ledger.close).result()
        self._thread.shutdown()

    def seen_by(self, principal: Principal) -> "Library":
        """The same, as far as it may see."""
        seen = copy.copy(self)
        seen._principal = principal
        return seen

    @property
    def _owner(self) -> str:
        return "" if self._principal.collections is None else self._principal.name

    def _is_seen(self, owner: str) -> bool:
        return self._principal.collections is None or owner == self._owner

    @property
    def uploads(self) -> Collection:
        """What the indexer is to follow beside the watched folders."""
        return Collection(UPLOADS, self._contents.uploads)

    # Files

    @contextlib.asynccontextmanager
    async def receiving(self) -> AsyncIterator[Incoming]:
        """Until it is left without having been kept."""
        incoming = Incoming(self._contents.new_incoming(), self._params.max_bytes)
        try:
            yield incoming
        finally:
            await asyncio.to_thread(incoming.close)

    async def keep(self, incoming: Incoming, filename: str, purpose: str, expires_at: int | None = None) -> Kept:
        """When this returns, the file is there after the power went. Raises `EmptyFile`, `NoRoom`, `DiskFull`."""
        if not incoming.size:
            raise EmptyFile
        await asyncio.to_thread(incoming.finish)
        return await self._run(self._keep, incoming, filename, purpose, expires_at)

    async def write(self, pieces: Iterable[bytes], filename: str, purpose: str, expires_at: int | None = None) -> Kept:
        """A file of the server's own making."""
        async with self.receiving() as incoming:
            for piece in pieces:
                await incoming.write(piece)
            return await self.keep(incoming, filename, purpose, expires_at)

    async def file(self, id: str) -> Kept:
        """Also a watched one."""
        return await self._run(self._file, id)

    async def files(self, purpose: str | None = None) -> list[Kept]:
        """Those that were uploaded, in the order they came in."""
        return [file for file in await self._run(self._ledger.files, purpose) if self._is_seen(file.owner)]

    async def open(self, id: str) -> BinaryIO:
        """The content, also of a watched file; the caller's to close."""
        return await self._run(self._open, id)

    async def remove_file(self, id: str) -> None:
        """From everywhere. Raises `ReadOnly` for a watched one."""
        await self._run(self._remove_file, id)

    # Vector stores

    async def stores(self) -> list[Store]:
        """In the order they were made, or first seen."""
        return await self._run(self._stores)

    async def store(self, id: str) -> Store:
        return await self._run(self._store, id)

    async def add_store(self, store: Store, wanted: Sequence[Wanted] = ()) -> Store:
        """With these files in it."""
        return await self._run(self._add_store, msgspec.structs.replace(store, owner=self._owner), wanted)

    async def change_store(self, store: Store) -> Store:
        return await self._run(self._change_store, store)

    async def remove_store(self, id: str) -> None:
        """Its files stay, but not in the index, unless another store has them."""
        await self._run(self._remove_store, id)

    async def counts(self, store: Store) -> Counts:
        return await self._run(self._counts, store)

    async def members(self, store_id: str) -> list[Member]:
        """In the order they were put in."""
        return await self._run(self._members, store_id)

    async def member(self, store_id: str, file_id: str) -> Member:
        return await self._run(self._member, store_id, file_id)

    async def put(self, store_id: str, wanted: Sequence[Wanted]) -> None:
        """Files into a store; of those that are in it, attributes and chunking are these from now on."""
        await self._run(self._put, store_id, wanted, None)

    async def put_batch(self, store_id: str, wanted: Sequence[Wanted]) -> Batch:
        batch = Batch(new_id("vsfb").replace("-", "_"), store_id, int(time.time()))
        await self._run(self._put, store_id, wanted, batch)
        return batch

    async def batch(self, store_id: str, id: str) -> tuple[Batch, list[Member]]:
        return await self._run(self._batch, store_id, id)

    async def cancel(self, store_id: str, batch_id: str) -> None:
        """Those of its files that are not done yet are left out."""
        await self._run(self._cancel, store_id, batch_id)

    async def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        await self._run(self._set_attributes, store_id, file_id, attributes)

    async def take_out(self, store_id: str, file_id: str) -> None:
        await self._run(self._take_out, store_id, file_id)

    async def texts(self, store_id: str, file_id: str) -> list[str]:
        """What is searched of a file, chunk by chunk."""
        member = await self.member(store_id, file_id)
        if member.document_id is None:
            return []
        return await self._run(read_texts, self._data, member.document_id)

    # Search

    async def scope(self, store_ids: Sequence[str], filter: Filter | None = None) -> Scope:
        """Where the index must search so that it finds what is in these stores and passes, and nothing else. Counts as
        a use of them."""
        return await self._run(self._scope, tuple(store_ids), filter)

    async def hits(self, store_ids: Sequence[str], passages: Sequence[Passage]) -> list[Hit]:
        """What a search in that scope has found, by file; without what has left the stores meanwhile."""
        return await self._run(self._hits, store_ids, passages)

    # On the thread

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._swept, work, arguments)

    def _swept(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """The work, after what has expired was removed."""
        try:
            if self._sweeps.is_due():
                for id in self._ledger.expired_files():
                    self._forget(id)
                self._hide_unused(self._ledger.empty_expired())
            return work(*arguments)
        except apsw.FullError as error:
            raise DiskFull from error

    def _clear_up(self) -> None:
        places = {_place(entry) for entry in self._ledger.all_entries() if _is_live(entry)}
        self._contents.clear_up({file.id for file in self._ledger.files()}, places)

    def _keep(self, incoming: Incoming, filename: str, purpose: str, expires_at: int | None) -> Kept:
        file = Kept(new_id("file"), incoming.size, int(time.time()), filename, purpose, expires_at, self._owner)
        with _room_on_disk():
            self._contents.keep(incoming.path, file.id)
        try:
            self._ledger.add_file(file, self._params.total_bytes)
        except BaseException:
            self._contents.remove(file.id)
            raise
        return file

    def _file(self, id: str) -> Kept:
        document = self._watched(id)
        if document is None:
            return self._uploaded(id)
        member = member_of("", document)
        return Kept(member.file_id, member.size, member.created_at, member.filename, "assistants")

    def _uploaded(self, id: str) -> Kept:
        file = self._ledger.file(id)
        if not self._is_seen(file.owner):
            raise NoSuchFile(id)
        return file

    def _watched(self, file_id: str) -> ListedDocument | None:
        number = document_of(file_id)
        document = None if number is None else find_document(self._data, number)
        seen = {collection.name for collection in self._visible()}
        return document if document is not None and document.collection in seen else None

    def _visible(self) -> list[Collection]:
        return [collection for collection in self._collections if self._principal.may_see(collection.name)]

    def _open(self, id: str) -> BinaryIO:
        document = self._watched(id)
        try:
            if document is None:
                return self._contents.path(self._uploaded(id).id).open("rb")
            return os.fdopen(open_file(Path(document.root), document.path), "rb")
        except (OSError, UnreadableDocument):
            raise NoSuchFile(id) from None

    def _remove_file(self, id: str) -> None:
        if (document := self._watched(id)) is not None:
            raise ReadOnly(document.collection)
        self._forget(self._uploaded(id).id)

    def _forget(self, id: str) -> None:
        left = self._ledger.remove_file(id)
        self._hide_unused(left)
        self._contents.remove(id)

    def _stores(self) -> list[Store]:
        folders = [self._folder(collection) for collection in self._visible()]
        made = [store for store in self._ledger.stores() if self._is_seen(store.owner)]
        return sorted([*folders, *made], key=lambda store: store.created_at)

    def _folder(self, collection: Collection) -> Store:
        seen = self._ledger.folder_seen_at(collection.name)
        return Store(
            id=folder_store_id(collection.name),
            name=collection.name,
            created_at=seen,
            last_active_at=seen,
            metadata={"path": str(collection.root)},
            collection=collection.name,
        )

    def _store(self, id: str) -> Store:
        for collection in self._visible():
            if folder_store_id(collection.name) == id:
                return self._folder(collection)
        store = self._ledger.store(id)
        if not self._is_seen(store.owner):
            raise NoSuchStore(id)
        return store

    def _writable(self, id: str, *, is_use: bool = True) -> Store:
        """Raises `ReadOnly`, and for what only a store that is in use can do, `StoreExpired`."""
        store = self._store(id)
        if store.collection is not None:
            raise ReadOnly(store.collection)
        if is_use:
            _check_expiry(store)
            self._ledger.note_use([id])
        return store

    def _add_store(self, store: Store, wanted: Sequence[Wanted]) -> Store:
        self._ledger.add_store(store, [(each, self._refusal(each)) for each in wanted])
        self._expose(store.id, wanted)
        return store

    def _change_store(self, store: Store) -> Store:
        self._writable(store.id)
        changed = msgspec.structs.replace(store, last_active_at=int(time.time()))
        self._ledger.change_store(changed)
        return changed

    def _remove_store(self, id: str) -> None:
        self._writable(id, is_use=False)
        self._hide_unused(self._ledger.remove_store(id))

    def _refusal(self, wanted: Wanted) -> Failure | None:
        """Why it is not even tried. Raises `NoSuchFile`, and `ReadOnly` for a watched one."""
        if (document := self._watched(wanted.file_id)) is not None:
            raise ReadOnly(document.collection)
        filename = self._uploaded(wanted.file_id).filename
        if is_searchable(filename):
            return None
        kind = PurePosixPath(filename).suffix
        message = f"Files ending in {kind!r} are not read." if kind else "A file without an ending is not read."
        return Failure("unsupported_file", message)

    def _put(self, store_id: str, wanted: Sequence[Wanted], batch: Batch | None) -> None:
        self._writable(store_id)
        refusals = [(each, self._refusal(each)) for each in wanted]
        before = [entry for each in wanted for entry in self._ledger.entries_of_file(each.file_id)]
        self._ledger.put(store_id, refusals, batch)
        self._expose(store_id, wanted)
        self._hide_unused(before)

    def _expose(self, store_id: str, wanted: Sequence[Wanted]) -> None:
        self._scopes.clear()
        for each in wanted:
            for entry in self._ledger.entries_of_file(each.file_id):
                if entry.store_id == store_id and _is_live(entry):
                    with _room_on_disk():
                        self._contents.expose(entry.file.id, _place(entry))

    def _hide_unused(self, left: Sequence[Entry]) -> None:
        """Takes out of the index what no store has any more."""
        self._scopes.clear()
        for id in {entry.file.id for entry in left}:
            used = {_place(entry) for entry in self._ledger.entries_of_file(id) if _is_live(entry)}
            for place in {_place(entry) for entry in left if entry.file.id == id} - used:
                self._contents.hide(place)

    def _members(self, store_id: str) -> list[Member]:
        store = self._store(store_id)
        if store.collection is not None:
            return [member_of(store_id, document) for document in list_documents(self._data, store.collection)]
        return self._told(self._ledger.entries(store_id))

    def _counts(self, store: Store) -> Counts:
        if store.collection is not None:
            return folder_counts(tally(self._data, store.collection))
        return counted(self._members(store.id))

    def _told(self, entries: Sequence[Entry]) -> list[Member]:
        """With what the index says of them."""
        paths = [str(_place(entry)) for entry in entries]
        documents = {document.path: document for document in list_documents(self._data, UPLOADS, paths)}
        return [_as_member(entry, documents) for entry in entries]

    def _member(self, store_id: str, file_id: str) -> Member:
        store = self._store(store_id)
        if store.collection is not None:
            document = self._watched(file_id)
            if document is not None and document.collection == store.collection:
                return member_of(store_id, document)
        for member in self._told([e for e in self._ledger.entries_of_file(file_id) if e.store_id == store_id]):
            return member
        raise NotInStore(file_id, store_id)

    def _batch(self, store_id: str, id: str) -> tuple[Batch, list[Member]]:
        if self._store(store_id).collection is not None:
            raise NoSuchBatch(id)
        batch = self._ledger.batch(store_id, id)
        return batch, self._told(self._ledger.entries_of_batch(batch))

    def _cancel(self, store_id: str, batch_id: str) -> None:
        self._writable(store_id)
        batch, members = self._batch(store_id, batch_id)
        undone = {member.file_id for member in members if member.status == Status.IN_PROGRESS}
        left = [entry for entry in self._ledger.entries_of_batch(batch) if entry.file.id in undone]
        self._ledger.cancel(batch, undone)
        self._hide_unused(left)

    def _set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        self._writable(store_id)
        self._member(store_id, file_id)
        self._ledger.set_attributes(store_id, file_id, attributes)
        self._scopes.clear()

    def _take_out(self, store_id: str, file_id: str) -> None:
        self._writable(store_id)
        left = self._ledger.take_out(store_id, file_id)
        if not left:
            raise NotInStore(file_id, store_id)
        self._hide_unused(left)

    def _scope(self, store_ids: tuple[str, ...], filter: Filter | None) -> Scope:
        stores = [self._store(id) for id in store_ids]
        for store in stores:
            _check_expiry(store)
        self._ledger.note_use(store.id for store in stores if store.collection is None)
        if any(store.collection for store in stores) and filter is not None:  # files come and go by themselves
            return self._scoped(stores, filter)
        key = store_ids, filter
        if key not in self._scopes:
            if len(self._scopes) >= _MOST_SCOPES:
                self._scopes.clear()
            self._scopes[key] = self._scoped(stores, filter)
        return self._scopes[key]

    def _scoped(self, stores: Sequence[Store], filter: Filter | None) -> Scope:
        collections, chosen = {store.collection for store in stores if store.collection is not None}, []
        for collection in sorted(collections) if filter is not None else ():
            documents = list_documents(self._data, collection)
            paths = frozenset(each.path for each in documents if _is_wanted(attributes_of(each), filter))
            chosen.append(Chosen(collection, paths))
        uploaded = [store for store in stores if store.collection is None]
        if uploaded:
            entries = [entry for store in uploaded for entry in self._ledger.entries(store.id) if _is_live(entry)]
            passing = (each for each in entries if _is_wanted(each.attributes, filter))
            chosen.append(Chosen(UPLOADS, frozenset(str(_place(each)) for each in passing)))
            collections.add(UPLOADS)
        return Scope(sorted(collections), tuple(chosen))

    def _hits(self, store_ids: Sequence[str], passages: Sequence[Passage]) -> list[Hit]:
        watched: dict[str, set[str]] = {}
        for passage in passages:
            if passage.collection != UPLOADS:
                watched.setdefault(passage.collection, set()).add(passage.path)
        documents = {
            document.id: document
            for collection, paths in watched.items()
            for document in list_documents(self._data, collection, paths)
        }
        hits = []
        for passage in passages:
            id = file_id_of(passage.collection, passage.path, passage.document_id)
            if (document := documents.get(passage.document_id)) is not None:
                hits.append(Hit(id, PurePosixPath(document.path).name, attributes_of(document), passage))
                continue
            entries = {entry.store_id: entry for entry in self._ledger.entries_of_file(id)}
            entry = next((entries[store_id] for store_id in store_ids if store_id in entries), None)
            if entry is not None:
                hits.append(Hit(id, entry.file.filename, entry.attributes, passage))
        return hits


def _is_wanted(attributes: Attributes, filter: Filter | None) -> bool:
    return filter is None or passes(attributes, filter)


def _is_live(entry: Entry) -> bool:
    """Whether the index is to have it."""
    return not entry.is_cancelled and entry.failure is None


def _place(entry: Entry) -> UploadPath:
    return UploadPath(entry.chunking, entry.file.id, spoken_name(entry.file.filename))


def _as_member(entry: Entry, documents: Mapping[str, ListedDocument]) -> Member:
    document = documents.get(str(_place(entry)))
    if entry.failure is not None:
        status, failure = Status.FAILED, entry.failure
    elif entry.is_cancelled:
        status, failure = Status.CANCELLED, None
    else:
        status, failure = status_of(document), failure_of(document)
    return Member(
        store_id=entry.store_id,
        file_id=entry.file.id,
        filename=entry.file.filename,
        size=entry.file.size,
        created_at=entry.created_at,
        status=status,
        attributes=entry.attributes,
        chunking=entry.chunking,
        failure=failure,
        document_id=None if document is None else document.id,
    )


def _check_expiry(store: Store) -> None:
    if store.expires_at is not None and store.expires_at <= time.time():
        raise StoreExpired(store.id)


class _Interval:
    """Something to be done at most once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


@contextlib.contextmanager
def _room_on_disk() -> Iterator[None]:
    """A full disk as `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull from error
