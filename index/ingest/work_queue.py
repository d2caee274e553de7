"""The files that wait to be read, in order."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Set

from index.ingest.followed_collections import CollectionPath, FollowedCollection


class WorkQueue:
    """Files to read, each once, and the files that an event named since they were last read.

    Every file in here is pending in the database too, so that dropping the queue loses no work: a scan fills it again.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[CollectionPath, None] = OrderedDict()  # the front is next
        self._touched: defaultdict[FollowedCollection, set[str]] = defaultdict(set)  # paths

    def __len__(self) -> int:
        return len(self._files)

    def add(self, file: CollectionPath, *, front: bool = False) -> None:
        """Add a file at the end; with `front`, move it to the front."""
        self._files[file] = None
        if front:
            self._files.move_to_end(file, last=False)

    def mark_touched(self, file: CollectionPath) -> None:
        """Note that an event named the file: it must be read even if its size and times are the known ones."""
        self._touched[file.collection].add(file.path)

    def touched_paths(self, collection: FollowedCollection) -> Set[str]:
        """Return the paths of a collection that were touched since they were last taken."""
        return self._touched[collection]

    def take(self, count: int) -> list[CollectionPath]:
        """Remove and return the next files, at most `count`."""
        files = [self._files.popitem(last=False)[0] for _ in range(min(count, len(self._files)))]
        for file in files:
            self._touched[file.collection].discard(file.path)
        return files

    def clear(self) -> None:
        self._files.clear()

    def keep_only(self, collections: Iterable[FollowedCollection]) -> None:
        """Drop the files of all other collections."""
        kept_collections = set(collections)
        self._files = OrderedDict.fromkeys(file for file in self._files if file.collection in kept_collections)
