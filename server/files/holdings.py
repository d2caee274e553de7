"""What the library holds, as one principal sees it: uploaded files, vector stores, and watched folders as such stores.

The ledger is the truth, the disk follows it: what is not in it is cleared away at the start, what is missing of it is
made again. The indexer reads what is exposed to it and says in its database what became of it, so that nothing here
has to remember how far a file is. A search is limited, inside the index, to the files that are in the store now.
"""

import copy
import os
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import msgspec

from index.errors import UnreadableDocument
from index.ingest.files import open_file
from index.storage.base import Catalog
from index.storage.records import DocumentRecord
from index.types import Collection, FileSubset, Passage, SearchScope
from index.uploads import UPLOADS
from server.access.principal import UNRESTRICTED, Principal
from server.errors import (
    FileBatchNotFound,
    FileNotInVectorStore,
    ReadOnlyVectorStore,
    StoredFileNotFound,
    VectorStoreExpired,
    VectorStoreNotFound,
)
from server.files.blobs import Contents, is_searchable
from server.files.entries import Entry
from server.files.filters import Filter, passes
from server.files.folders import attributes_of, document_of, file_id_of, folder_counts, folder_store_id, member_of
from server.files.incoming import Incoming, room_on_disk
from server.files.records import (
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
from server.storage.sqlite.files import Ledger

FILE = "library.sqlite3"
_MOST_SCOPES = 32


class Hit(NamedTuple):
    """A passage of a store's file."""

    file_id: str
    filename: str
    attributes: Attributes
    passage: Passage


class Holdings:
    """Owns the ledger. Of one thread; not to be used from another, but for `seen_by`.

    A principal who sees only some collections sees of files and stores those folders' and its own, and who sees all
    sees them too. Raises `DataFolderError` when it cannot be opened; everything else raises the `FilesError` that
    fits.
    """

    _principal = UNRESTRICTED

    def __init__(self, data: Path, contents: Contents, collections: Sequence[Collection], catalog: Catalog) -> None:
        self._catalog = catalog  # of uploads too: whose a file is, the ledger says
        self._collections = collections
        self._contents = contents
        self._ledger = Ledger(data / FILE)
        self._scopes: dict[tuple[tuple[str, ...], Filter | None], SearchScope] = {}

    def close(self) -> None:
        self._ledger.close()

    def seen_by(self, principal: Principal) -> "Holdings":
        """The same, as far as it may see."""
        seen = copy.copy(self)
        seen._principal = principal
        return seen

    @property
    def _owner(self) -> str:
        return "" if self._principal.collections is None else self._principal.owner

    def _is_seen(self, owner: str) -> bool:
        return self._principal.collections is None or owner == self._owner

    # Files

    def clear_up(self) -> None:
        places = {entry.place for entry in self._ledger.all_entries() if entry.is_live}
        self._contents.clear_up({file.id for file in self._ledger.files()}, places)

    def sweep(self) -> None:
        """Removes what has expired, whoever's it is."""
        for id in self._ledger.expired_files():
            self._forget(id)
        self._hide_unused(self._ledger.empty_expired())

    def keep(self, incoming: Incoming, filename: str, purpose: str, expires_at: int | None, total_bytes: int) -> Kept:
        """`total_bytes`: what all files together may take. Raises `FileQuotaExceeded`, `DiskFull`."""
        file = Kept(new_id("file"), incoming.size, int(time.time()), filename, purpose, expires_at, self._owner)
        with room_on_disk():
            self._contents.keep(incoming.path, file.id)
        try:
            self._ledger.add_file(file, total_bytes)
        except BaseException:
            self._contents.remove(file.id)
            raise
        return file

    def file(self, id: str) -> Kept:
        document = self._watched(id)
        if document is None:
            return self._uploaded(id)
        member = member_of("", document)
        return Kept(member.file_id, member.size, member.created_at, member.filename, "assistants")

    def _uploaded(self, id: str) -> Kept:
        file = self._ledger.file(id)
        if not self._is_seen(file.owner):
            raise StoredFileNotFound(id)
        return file

    def _watched(self, file_id: str) -> DocumentRecord | None:
        number = document_of(file_id)
        document = None if number is None else self._catalog.find_document(number)
        seen = {collection.name for collection in self._visible()}
        return document if document is not None and document.collection in seen else None

    def _visible(self) -> list[Collection]:
        return [collection for collection in self._collections if self._principal.may_see(collection.name)]

    def files(self, purpose: str | None) -> list[Kept]:
        return [file for file in self._ledger.files(purpose) if self._is_seen(file.owner)]

    def open(self, id: str) -> BinaryIO:
        document = self._watched(id)
        try:
            if document is None:
                return self._contents.path(self._uploaded(id).id).open("rb")
            return os.fdopen(open_file(Path(document.root), document.path), "rb")
        except (OSError, UnreadableDocument):
            raise StoredFileNotFound(id) from None

    def remove_file(self, id: str) -> None:
        if (document := self._watched(id)) is not None:
            raise ReadOnlyVectorStore(document.collection)
        self._forget(self._uploaded(id).id)

    def _forget(self, id: str) -> None:
        left = self._ledger.remove_file(id)
        self._hide_unused(left)
        self._contents.remove(id)

    # Vector stores

    def stores(self) -> list[Store]:
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

    def store(self, id: str) -> Store:
        for collection in self._visible():
            if folder_store_id(collection.name) == id:
                return self._folder(collection)
        store = self._ledger.store(id)
        if not self._is_seen(store.owner):
            raise VectorStoreNotFound(id)
        return store

    def _writable(self, id: str, *, is_use: bool = True) -> Store:
        """Raises `ReadOnlyVectorStore`, and for what only a store that is in use can do, `VectorStoreExpired`."""
        store = self.store(id)
        if store.collection is not None:
            raise ReadOnlyVectorStore(store.collection)
        if is_use:
            _check_expiry(store)
            self._ledger.note_use([id])
        return store

    def add_store(self, store: Store, wanted: Sequence[Wanted]) -> Store:
        store = msgspec.structs.replace(store, owner=self._owner)
        self._ledger.add_store(store, [(each, self._refusal(each)) for each in wanted])
        self._expose(store.id, wanted)
        return store

    def change_store(self, store: Store) -> Store:
        self._writable(store.id)
        changed = msgspec.structs.replace(store, last_active_at=int(time.time()))
        self._ledger.change_store(changed)
        return changed

    def remove_store(self, id: str) -> None:
        self._writable(id, is_use=False)
        self._hide_unused(self._ledger.remove_store(id))

    def _refusal(self, wanted: Wanted) -> Failure | None:
        """Why it is not even tried. Raises `StoredFileNotFound`, and `ReadOnlyVectorStore` for a watched one."""
        if (document := self._watched(wanted.file_id)) is not None:
            raise ReadOnlyVectorStore(document.collection)
        filename = self._uploaded(wanted.file_id).filename
        if is_searchable(filename):
            return None
        kind = PurePosixPath(filename).suffix
        message = f"Files ending in {kind!r} are not read." if kind else "A file without an ending is not read."
        return Failure("unsupported_file", message)

    def put(self, store_id: str, wanted: Sequence[Wanted], batch: Batch | None) -> None:
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
                if entry.store_id == store_id and entry.is_live:
                    with room_on_disk():
                        self._contents.link(entry.file.id, entry.place)

    def _hide_unused(self, left: Sequence[Entry]) -> None:
        """Takes out of the index what no store has any more."""
        self._scopes.clear()
        for id in {entry.file.id for entry in left}:
            used = {entry.place for entry in self._ledger.entries_of_file(id) if entry.is_live}
            for place in {entry.place for entry in left if entry.file.id == id} - used:
                self._contents.unlink(place)

    def members(self, store_id: str) -> list[Member]:
        store = self.store(store_id)
        if store.collection is not None:
            return [member_of(store_id, document) for document in self._catalog.list_documents(store.collection)]
        return self._told(self._ledger.entries(store_id))

    def counts(self, store: Store) -> Counts:
        if store.collection is not None:
            return folder_counts(self._catalog.count_documents(store.collection))
        return counted(self.members(store.id))

    def _told(self, entries: Sequence[Entry]) -> list[Member]:
        """With what the index says of them."""
        paths = [str(entry.place) for entry in entries]
        documents = {document.path: document for document in self._catalog.list_documents(UPLOADS, paths)}
        return [entry.as_member(documents) for entry in entries]

    def member(self, store_id: str, file_id: str) -> Member:
        store = self.store(store_id)
        if store.collection is not None:
            document = self._watched(file_id)
            if document is not None and document.collection == store.collection:
                return member_of(store_id, document)
        for member in self._told([e for e in self._ledger.entries_of_file(file_id) if e.store_id == store_id]):
            return member
        raise FileNotInVectorStore(file_id, store_id)

    def batch(self, store_id: str, id: str) -> tuple[Batch, list[Member]]:
        if self.store(store_id).collection is not None:
            raise FileBatchNotFound(id)
        batch = self._ledger.batch(store_id, id)
        return batch, self._told(self._ledger.entries_of_batch(batch))

    def cancel(self, store_id: str, batch_id: str) -> None:
        self._writable(store_id)
        batch, members = self.batch(store_id, batch_id)
        undone = {member.file_id for member in members if member.status == Status.IN_PROGRESS}
        left = [entry for entry in self._ledger.entries_of_batch(batch) if entry.file.id in undone]
        self._ledger.cancel(batch, undone)
        self._hide_unused(left)

    def set_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        self._writable(store_id)
        self.member(store_id, file_id)
        self._ledger.set_attributes(store_id, file_id, attributes)
        self._scopes.clear()

    def take_out(self, store_id: str, file_id: str) -> None:
        self._writable(store_id)
        left = self._ledger.take_out(store_id, file_id)
        if not left:
            raise FileNotInVectorStore(file_id, store_id)
        self._hide_unused(left)

    # Search

    def scope(self, store_ids: tuple[str, ...], filter: Filter | None) -> SearchScope:
        stores = [self.store(id) for id in store_ids]
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

    def _scoped(self, stores: Sequence[Store], filter: Filter | None) -> SearchScope:
        collections, chosen = {store.collection for store in stores if store.collection is not None}, []
        for collection in sorted(collections) if filter is not None else ():
            documents = self._catalog.list_documents(collection)
            paths = frozenset(each.path for each in documents if _is_wanted(attributes_of(each), filter))
            chosen.append(FileSubset(collection, paths))
        uploaded = [store for store in stores if store.collection is None]
        if uploaded:
            entries = [entry for store in uploaded for entry in self._ledger.entries(store.id) if entry.is_live]
            passing = (each for each in entries if _is_wanted(each.attributes, filter))
            chosen.append(FileSubset(UPLOADS, frozenset(str(each.place) for each in passing)))
            collections.add(UPLOADS)
        return SearchScope(sorted(collections), tuple(chosen))

    def hits(self, store_ids: Sequence[str], passages: Sequence[Passage]) -> list[Hit]:
        watched: dict[str, set[str]] = {}
        for passage in passages:
            if passage.collection != UPLOADS:
                watched.setdefault(passage.collection, set()).add(passage.path)
        documents = {
            document.id: document
            for collection, paths in watched.items()
            for document in self._catalog.list_documents(collection, paths)
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


def _check_expiry(store: Store) -> None:
    if store.expires_at is not None and store.expires_at <= time.time():
        raise VectorStoreExpired(store.id)
